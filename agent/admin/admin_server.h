// The admin socket: how `kveil status` and `kveil erase` talk to the running agent. A unix stream socket; a request is
// one line of JSON {"command": NAME, ...}, its answer is one line of JSON. Root is answered, and two groups: one that
// may look, and one that may also erase.
//
//   absl::StatusOr<std::unique_ptr<AdminServer>> admin = AdminServer::Listen({.socketPath = path, .group = "kveil"});
//   (*admin)->Handle("status", [&](std::string_view request) { return StatusJson(); });
//   (*admin)->Start();
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kveil::admin {

// Takes the request's line, returns the answer's JSON (one line). An error is answered as {"error": message, "code":
// name} with the status code's name as in "NotFound". Runs on the server's thread, one at a time.
using AdminHandler = std::function<absl::StatusOr<std::string>(std::string_view requestJson)>;

// What a command needs.
enum class AdminAccess { kLook, kErase };

class AdminServer {
 public:
  struct Options {
    std::string socketPath;
    std::string group;                                            // a group's name, may look; empty: root only
    std::string eraseGroup;                                       // another one's, may also erase; empty: root only
    size_t requestLimit = 64 * 1024;                              // bytes of one request
    size_t connectionLimit = 32;                                  // at once; one more takes the place of the oldest
    std::chrono::milliseconds timeout = std::chrono::seconds(5);  // for a request to arrive and for an answer to leave
  };

  // Makes the socket (mode 0660, or 0666 where there are two groups; whoever connects is asked for) and takes the place
  // of one that nobody listens at. Errors: kAlreadyExists (another agent is alive there), kNotFound (no such group),
  // kInvalidArgument (path too long, or something else lies there), kPermissionDenied and kUnavailable with errno's
  // text.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Listen(Options options);
  ~AdminServer();  // stops the thread and removes the socket
  AdminServer(const AdminServer&) = delete;
  AdminServer& operator=(const AdminServer&) = delete;

  // Before Start.
  void Handle(std::string command, AdminHandler handler, AdminAccess access = AdminAccess::kLook);
  void Start();

 private:
  struct State;
  explicit AdminServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The client's side: sends one request, returns the answer's JSON. An answer {"error", "code"} comes back as that
// status. Errors of its own: kUnavailable when no agent listens there, kPermissionDenied, kDeadlineExceeded.
absl::StatusOr<std::string> AdminCall(const std::string& socketPath, std::string_view requestJson,
                                      std::chrono::milliseconds timeout = std::chrono::seconds(30));

}  // namespace kveil::admin
