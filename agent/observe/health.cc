// Named conditions of the agent, logged when they change.
#include "observe/health.h"

#include "base/log.h"

namespace kveil::observe {

void Health::Set(const std::string& name, const absl::Status& status) {
  const MutexLock lock(mutex_);
  const auto found = conditions_.find(name);
  if (status.ok()) {
    if (found == conditions_.end()) return;
    conditions_.erase(found);
    log::Info("health.resolved", {{"condition", name}});
    return;
  }
  if (found != conditions_.end() && found->second == status) return;
  conditions_[name] = status;
  log::Error("health.problem", {{"condition", name}, {"message", status}});
}

std::vector<Health::Problem> Health::problems() const {
  const MutexLock lock(mutex_);
  std::vector<Problem> problems;
  for (const auto& [name, status] : conditions_) problems.push_back({name, std::string(status.message())});
  return problems;
}

void Health::Note(const std::string& name, const std::string& text) {
  const MutexLock lock(mutex_);
  if (text.empty()) {
    notes_.erase(name);
  } else {
    notes_[name] = text;
  }
}

std::vector<Health::Problem> Health::notes() const {
  const MutexLock lock(mutex_);
  std::vector<Problem> notes;
  for (const auto& [name, text] : notes_) notes.push_back({name, text});
  return notes;
}

bool Health::ok() const {
  const MutexLock lock(mutex_);
  return conditions_.empty();
}

}  // namespace kveil::observe
