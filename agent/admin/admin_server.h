// The admin socket: the transport over which `kveil status` and `kveil erase` reach the running agent. A unix stream
// socket; a request is one line of JSON {"command": NAME, ...}, its answer is one line of JSON. Root is answered, and
// two groups: one that may look, and one that may also erase.
//
//   absl::StatusOr<std::unique_ptr<AdminServer>> admin = AdminServer::Listen({.socketPath = path, .group = "kveil"});
//   (*admin)->Handle<StatusCommand>([&](const StatusCommand::Request&, const Caller&) { return Status(); });
//   (*admin)->Start();
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "admin/command.h"

namespace kveil::admin {

class AdminServer {
 public:
  struct Options {
    std::string socketPath;
    std::string group;                // the name of a group that may look; empty: root only
    std::string eraseGroup;           // of one that may also erase; empty: root only
    size_t requestLimit = 64 * 1024;  // bytes of one request
    size_t connectionLimit = 32;      // at once; one more takes the place of the oldest that has not asked yet
    size_t mostOfOneCommand = 8;      // that run at once; all kinds together are fewer than connectionLimit
    // For a request to arrive, and for an answer to leave. A command may take longer.
    std::chrono::milliseconds timeout = std::chrono::seconds(5);
  };

  // Makes the socket (mode 0660, or 0666 where there are two groups; whoever connects is asked for) and takes the place
  // of one that nobody listens at. Errors: kAlreadyExists (another agent is alive there), kNotFound (no such group),
  // kInvalidArgument (path too long, or something else lies there), kPermissionDenied and kUnavailable with errno's
  // text.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Listen(Options options);
  ~AdminServer();  // as Stop
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Before Start. The handler runs on a thread of its own. An error of it is answered as {"error": MESSAGE, "code":
  // NAME}, with the status code's name as in "NotFound".
  template <typename Command>
  void Handle(CommandHandler<Command> handler) {
    Add(std::string(Command::kName), WithoutTypes<Command>(std::move(handler)));
  }
  void Start();
  // Takes no more commands, tells those that run (Caller::isEnding) and waits for them, sends their answers, and
  // removes the socket.
  void Stop();

  // An error for a minute after a command was turned away because as many of the same kind were running. Any thread.
  absl::Status Health() const;

 private:
  struct State;
  explicit AdminServer(std::unique_ptr<State> state);
  void Add(std::string name, AnyCommand command);
  std::unique_ptr<State> state_;
};

}  // namespace kveil::admin
