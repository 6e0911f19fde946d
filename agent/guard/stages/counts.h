// What `observe` counts of a batch.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "crypto/key_id.h"

namespace kveil::guard {

// What the audit trail wants to know of a batch, where it is kept.
struct AuditCounts {
  // Records by the entry of `read` or `write` that lets them through, as its index, where different ones do. Very few
  // do of a batch; beyond kMostEntries it is not said which.
  static constexpr size_t kMostEntries = 16;
  static constexpr uint32_t kNoEntry = ~uint32_t{0};
  std::array<std::pair<uint32_t, uint32_t>, kMostEntries> byEntry{};
  size_t entries = 0;
  // The user's key of each record, and the entry, where the policy asks for users.
  std::vector<std::pair<uint32_t, crypto::KeyId>> users;

  // Returns the entry that the record counts for.
  uint32_t Add(uint32_t entry, uint32_t count = 1) {
    for (size_t i = 0; i < entries; ++i) {
      if (byEntry[i].first != entry) continue;
      byEntry[i].second += count;
      return entry;
    }
    if (entries == kMostEntries) return kNoEntry;
    byEntry[entries++] = {entry, count};
    return entry;
  }
  bool Has(uint32_t entry) const {
    return std::any_of(byEntry.begin(), byEntry.begin() + entries, [&](const auto& one) { return one.first == entry; });
  }
  void Add(const AuditCounts& more) {
    for (size_t i = 0; i < more.entries; ++i) Add(more.byEntry[i].first, more.byEntry[i].second);
    // Those of an entry for which there was no room go where its records go.
    for (const auto& [entry, key] : more.users) users.emplace_back(Has(entry) ? entry : kNoEntry, key);
  }
};

struct ProducedCounts {
  AuditCounts audit;
  uint64_t sealed = 0;        // records
  uint64_t afterErasure = 0;  // of them under a key that nobody keeps
};

struct FetchedCounts {
  AuditCounts audit;
  uint64_t opened = 0;            // records
  uint64_t erased = 0;            // left out or masked: the user was erased
  uint64_t denied = 0;            // left out or masked: no entry of `read` lets the reader have them
  bool deniedDropped = false;     // left out although the reader gets denied records masked
  uint64_t plaintext = 0;         // without an envelope
  bool plaintextDropped = false;  // left out or masked
};

}  // namespace kveil::guard
