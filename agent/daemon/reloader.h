// Reads the configuration file again while the agent runs.
#pragma once

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "config/config.h"
#include "nlohmann/json.hpp"

namespace kveil::daemon {

class Reloader {
 public:
  // `inForce` is what the agent runs with, as the file at `path` had it.
  Reloader(std::string path, const config::AgentConfig& inForce);

  // JSON pointers of fields whose values in the file differ from those in force. Lists of things are one field.
  struct Outcome {
    std::vector<std::string> applied;
    std::vector<std::string> needRestart;
  };
  // Any thread. Puts log.level into force, and logs what the rest needs. Policies and TLS files are not part of it:
  // they are followed all the time. Errors are those of LoadConfig; nothing has changed then.
  absl::StatusOr<Outcome> Reload();

 private:
  const std::string path_;
  Mutex mutex_;
  nlohmann::json inForce_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::daemon
