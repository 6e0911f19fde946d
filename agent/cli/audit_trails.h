// What the commands share that ask audit trails.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "audit/query.h"
#include "cli/commands.h"
#include "evidence/signing_key.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {

// The user's pseudonyms, and the folders of the trails to ask.
struct AuditScope {
  std::vector<std::string> folders;  // none: the agent keeps no trail
  struct Pseudonym {
    std::string keyspace, pseudonym;
  };
  std::vector<Pseudonym> pseudonyms;
  std::optional<std::string> registry;  // whose they are
};

// Has the running agent write what it has counted, and asks it for the user's pseudonyms. Without a user it need not
// run: a warning says what is missing.
absl::StatusOr<AuditScope> FindAudit(std::string_view command, const CommonOptions& common,
                                     const AuditOptions& options);

// What verifies the lines of the folder with this index: the key that was given for it, or its own.
absl::StatusOr<evidence::SigningKey> KeyOf(const AuditOptions& options, const std::vector<std::string>& folders,
                                           size_t index);

// What one trail answers, for people: what was done, and what is not known. Returns whether it is as it was written.
bool PrintAnswer(const std::string& folder, const audit::Answer& answer, bool isOfUser);
nlohmann::ordered_json JsonOf(const std::string& folder, const audit::Answer& answer);

// Of an option: "2026-11-29", "2026-11-29T10:00:00Z", or "2h" for two hours ago.
absl::StatusOr<absl::Time> ParseWhen(const std::string& text, absl::Time now);

}  // namespace kveil::cli
