// What the audit trail is told of a batch, once what became of it is certain; and of answers without records.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "audit/tally.h"
#include "guard/stages/counts.h"
#include "guard/worker/worker_scratch.h"
#include "identity/workload.h"
#include "policy/policy.h"

namespace kveil::guard {

// What a batch is of, and who reads or writes it.
struct Audited {
  const identity::Workload& workload;
  std::string_view cluster, topic;
  const policy::TopicPolicy* policy = nullptr;  // nullptr: there is none for the topic
  audit::Access access = audit::Access::kRead;
  // Which entry lets the workload have every record, as an index; nullopt: none, or it depends on the record.
  std::optional<size_t> entry;
};

// What is counted of an entry, by its index.
inline audit::Tally::What WhatOf(const Audited& audited, std::optional<size_t> entry) {
  audit::Tally::What what{.cluster = audited.cluster, .topic = audited.topic, .access = audited.access};
  if (audited.policy == nullptr) return what;
  what.file = audited.policy->file;
  what.isByUser = audited.policy->auditsUsers;
  const bool isRead = audited.access == audit::Access::kRead;
  if (entry.has_value() && (isRead || audited.policy->write.has_value())) {
    const std::vector<policy::ReadRule>& rules = isRead ? audited.policy->read : *audited.policy->write;
    what.entry = static_cast<uint32_t>(rules[*entry].position + 1);
  }
  return what;
}

// `counts` has all records; where `batch` has some by entry, these are counted for their entries.
inline void TellAudit(WorkerScratch& scratch, const Audited& audited, audit::Counts counts, AuditCounts& batch) {
  if (scratch.audit == nullptr) return;
  auto& users = batch.users;
  if (batch.entries > 0) {
    std::stable_sort(users.begin(), users.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  }
  std::vector<crypto::KeyId> keys;
  keys.reserve(users.size());
  for (const auto& [entry, key] : users) keys.push_back(key);
  // Those of each entry lie together.
  const auto keysOf = [&](uint32_t entry) {
    const auto [begin, end] = std::equal_range(users.begin(), users.end(), std::pair(entry, crypto::KeyId()),
                                               [](const auto& a, const auto& b) { return a.first < b.first; });
    return absl::MakeConstSpan(keys).subspan(static_cast<size_t>(begin - users.begin()),
                                             static_cast<size_t>(end - begin));
  };
  for (size_t i = 0; i < batch.entries; ++i) {
    const auto [entry, count] = batch.byEntry[i];
    counts.records -= count;
    scratch.audit->Add(audited.workload, WhatOf(audited, entry), {.records = count}, keysOf(entry));
  }
  if (counts.empty()) return;
  scratch.audit->Add(audited.workload, WhatOf(audited, audited.entry), counts, keysOf(AuditCounts::kNoEntry));
}

// An answer that the workload may not read, or write, the topic.
inline void TellAuditOfDenial(WorkerScratch& scratch, const Audited& audited, uint64_t refusedRecords = 0) {
  if (scratch.audit == nullptr) return;
  scratch.audit->Add(audited.workload, WhatOf(audited, std::nullopt), {.refused = refusedRecords, .denials = 1});
}

}  // namespace kveil::guard
