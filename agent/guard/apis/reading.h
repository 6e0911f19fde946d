// What Fetch and ShareFetch have in common.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "guard/stages/audit.h"
#include "guard/state/shared_state.h"
#include "identity/claims.h"
#include "identity/workload.h"
#include "io/task.h"
#include "kafka/error_code.h"
#include "policy/policy.h"
#include "proxy/arena.h"
#include "proxy/connection_info.h"

namespace kveil::guard {

// What a workload may read of a topic.
struct ReadAccess {
  std::optional<std::string> name;              // nullopt: a topic id that no broker has named yet
  const policy::TopicPolicy* policy = nullptr;  // nullptr: the topic is not protected, or not known
  std::chrono::nanoseconds searched{};          // what the search for the policy took, as of Policy::Find
  // What the client hears in place of records. kNone: it may read them.
  kafka::ErrorCode error = kafka::ErrorCode::kNone;

  // Set where the workload may read some records of the topic only: the entries of policy->read that fit it.
  std::optional<policy::EntrySet> readers;
  // Set where it may read every record: the first entry of policy->read that lets it.
  std::optional<size_t> entry;

  bool isDenied() const { return error == kafka::ErrorCode::kTopicAuthorizationFailed; }
};

// The access of a workload to a topic, by a request with these claims. `policies` must outlive what is returned.
inline ReadAccess ReadAccessTo(std::optional<std::string> topic, const policy::Policy& policies,
                               const identity::Workload& workload, const identity::Claims& claims) {
  ReadAccess access;
  access.name = std::move(topic);
  if (!access.name.has_value()) {
    access.error = kafka::ErrorCode::kUnknownTopicId;
    return access;
  }
  access.policy = policies.Find(*access.name, &access.searched);
  if (access.policy == nullptr) return access;
  policy::EntrySet readers;
  switch (policy::ReadableBy(*access.policy, workload, readers, claims)) {
    case policy::Readable::kNothing:
      access.error = kafka::ErrorCode::kTopicAuthorizationFailed;
      break;
    case policy::Readable::kSome:
      access.readers = readers;
      break;
    case policy::Readable::kEverything:
      access.entry = policy::EntryForAll(access.policy->read, workload, claims);
      break;
  }
  return access;
}

// The same of a member of a share group.
inline ReadAccess ShareAccessTo(std::optional<std::string> topic, const policy::Policy& policies,
                                const identity::Workload& workload, const identity::Claims& claims) {
  ReadAccess access = ReadAccessTo(std::move(topic), policies, workload, claims);
  // A record that is left out would count as consumed by the whole group, and be lost to members that may read it.
  if (access.readers.has_value() && !policy::IsKept(access.policy->onDenied)) {
    access.error = kafka::ErrorCode::kTopicAuthorizationFailed;
  }
  return access;
}

// For the audit trail. `access` has a name.
inline Audited AuditedOf(const ReadAccess& access, const proxy::ConnectionInfo& connection) {
  return {.workload = connection.workload,
          .cluster = connection.cluster,
          .topic = *access.name,
          .policy = access.policy,
          .access = audit::Access::kRead,
          .entry = access.entry};
}

template <class Partition>
bool HasRecords(const Partition& partition) {
  return partition.records.has_value() && !partition.records->empty();
}

// Lowers what a request asks for, in bytes, to what the agent may hold: a longer response would end the connection,
// again and again. Returns whether it was more.
inline bool LowerBound(int32_t& bytes, const GuardLimits& limits) {
  const auto most = static_cast<int32_t>(std::min<size_t>(limits.fetchBytes, std::numeric_limits<int32_t>::max()));
  if (bytes <= most) return false;
  bytes = most;
  return true;
}

// Reserves memory for what becomes of `sealed` bytes when they are opened, for a reader that asked for `asked` bytes.
// Decompressed batches are usually larger, but there is no use for more than was asked for or sent. When that much is
// not there, opening makes do with less.
inline io::Task<bool> ReserveForOpening(proxy::Arena& arena, size_t sealed, int64_t asked) {
  constexpr size_t kUsualRatio = 4;  // of a batch without its codec to the same with it
  const auto most = static_cast<size_t>(std::max<int64_t>(asked, 0));
  return arena.Reserve(std::min(kUsualRatio * sealed, std::max(most, sealed)));
}

}  // namespace kveil::guard
