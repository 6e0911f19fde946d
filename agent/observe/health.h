// What is wrong now, by name, for `kveil status` and the log.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

namespace kveil::observe {

// Safe from any thread. A change of a condition is logged once, not every report of it.
class Health {
 public:
  // Sets the condition `name` ("registry", "policy"); an OK status clears it.
  void Set(const std::string& name, const absl::Status& status);

  struct Problem {
    std::string name;
    std::string message;
  };
  std::vector<Problem> problems() const;  // in order of their names

  // Sets or clears something that users should know and that is not wrong with the node: a workload that has reached a
  // limit, say. `text` empty: there is nothing (any more). Not logged.
  void Note(const std::string& name, const std::string& text);
  std::vector<Problem> notes() const;  // in order of their names
  bool ok() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, absl::Status> conditions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> notes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::observe
