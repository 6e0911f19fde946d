// An agent that answers whatever a test wants, for the commands that ask one.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "admin/admin_message.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"
#include "command_fixture.h"
#include "nlohmann/json.hpp"
#include "observe/request_server.h"

namespace kveil::cli {

using Json = nlohmann::json;

class AdminCommandTest : public CommandTest {
 protected:
  AdminCommandTest() {
    const std::string socket = folder_ + "/admin.sock";
    config_ = Write("agent.json",
                    StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},
                               "admin": {"socket": ")",
                           socket, R"("}})"));
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un address = *UnixAddress(socket);
    EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener.get(), 16), 0);
    agent_ = *observe::RequestServer::Make(std::move(listener), {});
    agent_->Start({.endOf = [](std::string_view received) { return received.find('\n'); },
                   .answer =
                       [this](std::string_view request, int, const observe::RequestServer::Reply& reply) {
                         const MutexLock lock(mutex_);
                         request_ = std::string(request);
                         if (handler_) return reply(handler_(Json::parse(request)) + "\n");
                         reply((answer_.ok() ? answer_->dump() : admin::ErrorAnswer(answer_.status())) + "\n");
                       }});
  }

  CommandResult RunWith(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--config", config_});
    return Run(std::move(arguments));
  }
  // Answers each request by itself.
  void Handle(std::function<std::string(const Json&)> handler) {
    const MutexLock lock(mutex_);
    handler_ = std::move(handler);
  }
  void AnswerWith(const std::string& json) { SetAnswer(Json::parse(json)); }
  void SetAnswer(absl::StatusOr<Json> answer) {
    const MutexLock lock(mutex_);
    answer_ = std::move(answer);
  }
  Json Asked() {
    const MutexLock lock(mutex_);
    return Json::parse(request_);
  }

  std::string config_;
  Mutex mutex_;
  std::string request_ ABSL_GUARDED_BY(mutex_);
  absl::StatusOr<Json> answer_ ABSL_GUARDED_BY(mutex_) = Json::object();
  std::function<std::string(const Json&)> handler_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<observe::RequestServer> agent_;  // answers whatever a test wants
};

}  // namespace kveil::cli
