// Keeps the listening sockets of an agent while that agent ends and the next one starts. What connects meanwhile waits
// in the sockets' queues.
//
//   auto server = fdstore::Server::Listen({.path = "/run/kveil/fdstore/socket"});
//   (*server)->Run(signals);
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
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
    // How long a process may take to say hello.
    std::chrono::milliseconds patience = std::chrono::seconds(3);
    // How long an agent may be silent while another one waits. It speaks each second, unless its registry holds it up
    // for some seconds. Shorter than the next one waits for what is kept (Client).
    std::chrono::milliseconds silence = std::chrono::seconds(8);
    size_t most = kMostKept;  // descriptors; fewer if this process may not have that many. Agents are told.
  };
  // Takes the place of whoever had the socket before, and makes its folder.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(Options options);

  // Serves one agent at a time; the next one waits until the last one has gone. Where there is none, one of another
  // version has what is kept closed: it has listeners of its own. Returns when `end` can be read.
  void Run(int end);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  // One that has connected, and is not served yet.
  struct Newcomer {
    UniqueFd socket;
    TimePoint until;  // when it has to have said hello
    bool isMet = false;
  };

  Server(Options options, UniqueFd listener);
  void Accept();
  // An error: it has gone, says nothing, is no agent, or of another version.
  absl::Status Meet(Newcomer& newcomer);
  void Deny(int newcomer, const absl::Status& why);
  void ServeNext();
  bool IsSilent() const;
  // When there is something to do though nobody says anything.
  TimePoint NextDeadline() const;
  bool Greet() const;
  // False: it has gone.
  bool HearAgent();
  void LoseAgent();
  void Do(Message message);
  void Drop(std::string_view why);

  const Options options_;
  const UniqueFd listener_;
  std::list<Newcomer> newcomers_;  // the oldest first
  UniqueFd agent_;                 // that is served
  TimePoint heardAt_;              // from the agent
  TimePoint dropAt_ = TimePoint::max();
  absl::Status denied_;  // why the last newcomer was
  std::map<std::string, UniqueFd> kept_;
  bool isFullTold_ = false;
};

}  // namespace kveil::fdstore
