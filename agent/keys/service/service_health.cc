// Keeps a status for each part, and logs when it changes.
#include "keys/service/service_health.h"

#include <string>

#include "base/log.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

constexpr std::array<const char*, ServiceHealth::kParts> kEvents = {
    "keys.rootKey", "keys.registry",        "keys.registry.log", "keys.registry.room", "keys.newUsers",
    "keys.damaged", "keys.registry.agents", "keys.consents",     "keys.epochs",        "keys.keks"};

}  // namespace

void ServiceHealth::SetUntil(Part part, const absl::Status& status, Time until) {
  bool changed;
  {
    const MutexLock lock(mutex_);
    Entry& entry = entries_[static_cast<size_t>(part)];
    // An amount in the message may change with every look, which is not worth a line each time.
    changed = entry.status.code() != status.code() ||
              (until == Time::max() && part != Part::kRoom && entry.status.message() != status.message());
    entry = {status, until};
  }
  if (!changed) return;
  const char* const event = kEvents[static_cast<size_t>(part)];
  if (status.ok()) {
    log::Info(event, {{"state", "well again"}});
  } else {
    log::Error(event, {{"error", status}});
  }
}

void ServiceHealth::Expire(Time now) {
  for (size_t part = 0; part < kParts; ++part) {
    bool over;
    {
      const MutexLock lock(mutex_);
      over = entries_[part].until <= now;
    }
    if (over) Set(static_cast<Part>(part), absl::OkStatus());
  }
}

absl::Status ServiceHealth::Of(Part part) const {
  const MutexLock lock(mutex_);
  return entries_[static_cast<size_t>(part)].status;
}

absl::Status ServiceHealth::Sum() const {
  const MutexLock lock(mutex_);
  std::string message;
  for (const Entry& entry : entries_) {
    if (!entry.status.ok()) StrAppend(&message, message.empty() ? "" : "; ", entry.status.message());
  }
  return message.empty() ? absl::OkStatus() : absl::UnavailableError(message);
}

}  // namespace kveil::keys
