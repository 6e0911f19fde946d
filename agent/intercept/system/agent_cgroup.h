// The agent's small cgroup below the configured one: its listeners and its probe are made by processes in it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class AgentCgroup {
 public:
  static constexpr char kName[] = "kveil-agent";

  // Makes the directory, or takes over the one of an earlier agent. Another name is for a trial.
  static absl::StatusOr<AgentCgroup> Make(const std::string& parent, const std::string& name = kName);
  AgentCgroup(AgentCgroup&&) = default;
  ~AgentCgroup();  // removes it; sockets made in it keep what they need of it

  int fd() const { return fd_.get(); }
  uint64_t id() const;  // as the kernel half gives it

  // Makes the directory anew when somebody has removed it; fd() stays the same number. Safe from any thread.
  absl::Status Repair();

 private:
  AgentCgroup(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

}  // namespace kveil::intercept
