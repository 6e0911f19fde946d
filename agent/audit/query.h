// Asks a trail who read or wrote what.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "audit/trail_reader.h"
#include "audit/use.h"
#include "evidence/signing_key.h"

namespace kveil::audit {

struct Query {
  std::optional<std::vector<std::string>> pseudonyms;  // of one user, in each keyspace
  std::optional<std::string> registry;                 // whose pseudonyms they are
  std::optional<std::string> topic;
  std::optional<std::string> workload;  // a part of its name, its share or its service account
  absl::Time since = absl::InfinitePast();
  absl::Time until = absl::InfiniteFuture();
};

struct Answer {
  // What one workload did with one topic by one entry.
  struct Done {
    std::string workload, serviceAccount, share;
    std::string cluster, topic, file;  // no topic: of several topics that were not told apart
    std::string access;                // "read", "write"
    uint64_t uid = 0;
    uint64_t entry = 0;  // 0: none
    Counts counts;       // of the user's records alone, when a user is asked for
    absl::Time first, last;
  };
  std::vector<Done> done;         // in the order in which it began
  std::vector<std::string> gaps;  // sentences: what the trail does not know of the time that is asked for
  absl::Time knownFrom;           // when the first line that is kept was written
  absl::Time knownUntil;          // until when it was signed
  Verification verification;
};

// Any trail, also one that was copied here. Errors: those of ReadTrail.
absl::StatusOr<Answer> Ask(const std::string& folder, const evidence::SigningKey& key, const Query& query);

}  // namespace kveil::audit
