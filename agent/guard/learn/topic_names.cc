#include "guard/learn/topic_names.h"

#include "base/log.h"
#include "base/text.h"

namespace kveil::guard {
namespace {

constexpr std::chrono::minutes kIsNews{1};

}  // namespace

void TopicNames::Learn(const kafka::TopicId& id, std::string_view name, const proxy::ConnectionInfo& connection,
                       Clock::time_point now) {
  if (id.IsZero() || name.empty() || name.size() > kafka::kLongestTopicName) return;
  const Key key = KeyOf(id, connection);
  std::string before;
  {
    const MutexLock lock(mutex_);
    if (Named* const known = names_.FindAndRenew(key, now); known != nullptr) {
      if (known->name.empty() || known->name == name) return;
      before = std::exchange(known->name, {});
    } else {
      proxy::WorkloadShares::Share share = shares_.TakeOf(names_.capacity() - names_.size(), connection.workload.share);
      if (share == nullptr) {
        fullAt_ = now;
        full_ = StrCat(connection.workload.share, " has had cluster ", connection.cluster, " name");
        return;
      }
      names_.Put(key, Named{std::string(name), std::move(share)}, now);
      return;
    }
  }
  log::Error("topicId.twoNames", {{"id", id.Text()},
                                  {"cluster", connection.cluster},
                                  {"share", connection.workload.share},
                                  {"first", before},
                                  {"second", name}});
}

std::optional<std::string> TopicNames::Find(const kafka::TopicId& id, const proxy::ConnectionInfo& connection,
                                            Clock::time_point now) const {
  const Key key = KeyOf(id, connection);
  const MutexLock lock(mutex_);
  const Named* const found = names_.FindAndRenew(key, now);
  if (found == nullptr || found->name.empty()) return std::nullopt;
  return found->name;
}

absl::Status TopicNames::Health(Clock::time_point now) const {
  const MutexLock lock(mutex_);
  if (!fullAt_.has_value() || now - *fullAt_ >= kIsNews) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      StrCat("workload ", full_,
             " more topics by id than its share of what is remembered; further ones are refused when used by id"));
}

}  // namespace kveil::guard
