// Words refusals, and bounds how often they are logged.
#include "intercept/namespaces/refusal_notes.h"

#include <string_view>

#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "intercept.h"

namespace kveil::intercept {
namespace {

using Reason = RefusedConnect::Reason;

std::string_view TextOf(Reason reason) {
  switch (reason) {
    case Reason::kExpired:
      return "a learned broker that was neither used nor named for long; it is reachable again when a response names "
             "it";
    case Reason::kTooMany:
      return "too many connects of this workload wait for their acceptance";
    case Reason::kNoMemory:
      return "the connection's destination could not be remembered";
    case Reason::kAgentsPort:
      return "it went straight to the agent's port, which is for redirected connects";
    case Reason::kDevice:
      return "the socket is bound to a device and could not be moved to lo";
    default:
      return "";  // said of the namespace
  }
}

absl::Status Crowded(const RefusedConnect& refused) {
  if (refused.reason == Reason::kNoMemory) {
    return absl::ResourceExhaustedError(
        StrCat("connects in network namespace ", refused.netnsCookie, " (cgroup ", refused.cgroupId, ", user ",
               refused.uid, ") were refused or reset: the kernel had no room for where they were going"));
  }
  return absl::ResourceExhaustedError(StrCat("a workload in network namespace ", refused.netnsCookie, " (cgroup ",
                                             refused.cgroupId, ", user ", refused.uid, ") has ", int{KVEIL_MAX_WAITING},
                                             " connects that it does not complete; more of its connects are refused"));
}

}  // namespace

void RefusalNotes::Note(const RefusedConnect& refused, Clock::time_point now) {
  const std::string_view text = TextOf(refused.reason);
  if (text.empty()) return;
  const MutexLock lock(mutex_);
  if (refused.reason == Reason::kTooMany || refused.reason == Reason::kNoMemory) {
    latest_ = Crowded(refused);
    latestAt_ = now;
  }
  const std::pair<uint64_t, int> key(refused.netnsCookie, static_cast<int>(refused.reason));
  if (logged_.Find(key, now) != nullptr) return;
  logged_.Put(key, true, now);
  log::Warning("connect.refused", {{"namespace", refused.netnsCookie},
                                   {"cgroup", refused.cgroupId},
                                   {"user", refused.uid},
                                   {"broker", refused.destination.Text()},
                                   {"reason", text},
                                   {"share", refused.shareCgroupId}});
}

absl::Status RefusalNotes::Health(Clock::time_point now) const {
  const MutexLock lock(mutex_);
  return now - latestAt_ < kRemembered ? latest_ : absl::OkStatus();
}

}  // namespace kveil::intercept
