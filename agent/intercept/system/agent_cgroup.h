// The agent's own cgroup below the configured one. Processes in it make its listeners and its probe.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class AgentCgroup {
 public:
  static constexpr char kName[] = "kveil-agent";

  // Makes the directory, or takes over that of an earlier agent. A trial uses another name. kFailedPrecondition.
  static absl::StatusOr<AgentCgroup> Make(const std::string& parent, const std::string& name = kName);
  AgentCgroup(AgentCgroup&&) = default;
  ~AgentCgroup();  // removes it; sockets made in it keep what they need of it

  int fd() const { return fd_.get(); }
  uint64_t id() const;  // as the kernel half reports it

  // Makes the directory again if somebody has removed it; fd() keeps its number. Any thread.
  absl::Status Repair();

 private:
  AgentCgroup(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

}  // namespace kveil::intercept
