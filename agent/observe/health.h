// What is wrong now, by name, for `kveil status` and the log.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "base/mutex.h"

namespace kveil::observe {

// Any thread. A condition is logged when it changes, not each time it is set.
class Health {
 public:
  // Sets the condition `name` ("registry", "policy"); an OK status clears it.
  void Set(const std::string& name, const absl::Status& status);

  struct Problem {
    std::string name;
    std::string message;
  };
  std::vector<Problem> problems() const;  // in order of their names

  // Sets a note: something that users should know although nothing is wrong with the node, such as a workload that has
  // reached a limit. An empty text clears it. Not logged.
  void Note(const std::string& name, const std::string& text);
  std::vector<Problem> notes() const;  // in order of their names
  bool ok() const;

 private:
  mutable Mutex mutex_;
  std::map<std::string, absl::Status> conditions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> notes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::observe
