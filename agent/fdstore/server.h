// Keeps the listening sockets of an agent while that agent ends and the next one starts. What connects meanwhile waits
// in the sockets' queues.
//
//   auto server = fdstore::Server::Listen({.path = "/run/kveil/fdstore/socket"});
//   (*server)->Run(signals);
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "fdstore/message.h"

namespace kveil::fdstore {

class Server {
 public:
  struct Options {
    std::string path;  // of the socket, which only the user of this process may use
    // How long what is kept stays without an agent. Then it is closed: what waits is reset, and further connects are
    // refused, which clients understand sooner than silence.
    std::chrono::milliseconds keepFor = std::chrono::minutes(2);
    // How long a process may take to say hello, and how long an agent may be silent while another one waits.
    std::chrono::milliseconds patience = std::chrono::seconds(3);
    size_t most = kMostKept;  // descriptors; fewer if this process may not have that many. Agents are told.
  };
  // Takes the place of whoever had the socket before, and makes its folder.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(Options options);

  // Serves one agent at a time; the next one waits until the last one has gone. Returns when `end` can be read.
  void Run(int end);

 private:
  Server(Options options, UniqueFd listener);
  // An error: it is no agent, or of another version.
  absl::Status Meet(int agent, int end) const;
  // False: it is to end.
  bool Serve(int agent, int end);
  bool AnotherWaits() const;
  bool Greet(int agent) const;
  void Do(Message message);
  void Drop();

  const Options options_;
  const UniqueFd listener_;
  std::map<std::string, UniqueFd> kept_;
  bool isFullTold_ = false;
};

}  // namespace kveil::fdstore
