// `kveil top`: the connections with the most traffic now, each second anew.
#include <algorithm>
#include <iostream>
#include <thread>

#include "admin/admin_client.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/asking_connections.h"
#include "cli/common.h"
#include "cli/connection_table.h"
#include "cli/plain.h"
#include "cli/screen.h"

namespace kveil::cli {
namespace {

constexpr std::string_view kCommand = "top";
constexpr std::chrono::seconds kInterval{1};
constexpr size_t kUsuallyShown = 20;  // without a terminal
// The agent itself waits two seconds for its workers.
constexpr std::chrono::seconds kAnswerTime{4};
// Lines above the connections: what is said of all, and the names of the columns.
constexpr size_t kHead = 3;
// Connections that are asked for at least, so that those that become busy have been seen before.
constexpr size_t kLeastAsked = 200;

// Asks the agent again and again.
class Top {
 public:
  Top(std::string socket, const ConnectionsOptions& options) : socket_(std::move(socket)), options_(options) {}

  // Asks, and makes a page of at most so many connections. When the agent does not answer, those are on it that it
  // named last.
  absl::Status Look(size_t most) {
    ConnectionsOptions asked = options_;
    asked.most = std::max(most, kLeastAsked);
    const auto answer =
        admin::Ask<admin::ConnectionsCommand>(socket_, RequestOf(asked, /*recently=*/true), kAnswerTime);
    page_.resize(std::max<size_t>(page_.size(), 2));
    page_[0] =
        StrCat("kveil top: ", answer.ok() ? SummaryOf(answer->response) : Plain(ToStd(answer.status().message())));
    if (!answer.ok()) return answer.status();
    const std::vector<admin::ConnectionsCommand::Connection>& connections = answer->response.connections;
    const std::vector<std::string> table =
        RateTable(connections, meter_.Of(connections, std::chrono::steady_clock::now()));
    page_.resize(2);
    page_.insert(page_.end(), table.begin(), table.begin() + std::min(most + 1, table.size()));
    return absl::OkStatus();
  }
  const std::vector<std::string>& page() const { return page_; }

 private:
  const std::string socket_;
  const ConnectionsOptions options_;
  RateMeter meter_;
  std::vector<std::string> page_;
};

// Two looks, a second apart: there are no rates before the second.
absl::Status ShowOnce(Top& top, size_t most) {
  RETURN_IF_ERROR(top.Look(most));
  std::this_thread::sleep_for(kInterval);
  RETURN_IF_ERROR(top.Look(most));
  for (const std::string& line : top.page()) std::cout << line << "\n";
  return absl::OkStatus();
}

}  // namespace

int RunTop(const CommonOptions& common, const ConnectionsOptions& options, bool isOnce) {
  const absl::StatusOr<std::string> socket = AdminSocket(common);
  if (!socket.ok()) return Fail(kCommand, socket.status());
  Top top(*socket, options);
  if (isOnce || !Screen::IsThere()) {
    const absl::Status shown = ShowOnce(top, options.most.value_or(kUsuallyShown));
    return shown.ok() ? 0 : Fail(kCommand, shown);
  }
  // Before the terminal is taken.
  if (const absl::Status first = top.Look(1); !first.ok()) return Fail(kCommand, first);
  const Screen screen;
  do {
    const size_t room = std::max(screen.height(), kHead + 1) - kHead;
    top.Look(std::min<size_t>(room, options.most.value_or(room))).IgnoreError();  // the page says it
    screen.Show(top.page());
  } while (!screen.AwaitEnd(kInterval));
  return 0;
}

}  // namespace kveil::cli
