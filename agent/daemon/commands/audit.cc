#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {

std::string PseudonymOf(const keys::Subject& subject) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(subject.data()), subject.size()});
}

absl::StatusOr<keys::Subject> SubjectOf(const std::string& pseudonym) {
  const std::optional<std::string> bytes = BytesOfHex(pseudonym);
  keys::Subject subject{};
  if (!bytes.has_value() || bytes->size() != subject.size()) {
    return absl::InvalidArgumentError("a pseudonym has 64 hexadecimal digits");
  }
  std::copy(bytes->begin(), bytes->end(), subject.begin());
  return subject;
}

std::optional<std::string> BytesOfHex(const std::string& digits) {
  if (digits.size() % 2 != 0 || !std::all_of(digits.begin(), digits.end(), absl::ascii_isxdigit)) return std::nullopt;
  return absl::HexStringToBytes(digits);
}

audit::Recorder::PseudonymsOf PseudonymsFrom(keys::KeyService& keys) {
  return [&keys](absl::Span<const crypto::KeyId> ids) -> absl::StatusOr<std::vector<std::optional<std::string>>> {
    ASSIGN_OR_RETURN(const std::vector<std::optional<keys::Subject>> subjects, keys.ReadSubjects(ids));
    std::vector<std::optional<std::string>> pseudonyms;
    pseudonyms.reserve(subjects.size());
    for (const std::optional<keys::Subject>& subject : subjects) {
      pseudonyms.push_back(subject.has_value() ? std::optional(PseudonymOf(*subject)) : std::nullopt);
    }
    return pseudonyms;
  };
}

// What it calls nobody in the keyspace without a name, which is no policy's.
absl::StatusOr<std::string> RegistryMark(keys::KeyService& keys) {
  ASSIGN_OR_RETURN(const std::vector<keys::NamedSubject> subjects, keys.ReadSubjectsOf("", ""));
  return PseudonymOf(subjects.at(0).subject).substr(0, 16);
}

absl::StatusOr<admin::AuditCommand::Response> Audit(audit::Recorder* recorder, keys::KeyService& keys,
                                                    const admin::AuditCommand::Request& request) {
  admin::AuditCommand::Response response;
  if (recorder != nullptr) {
    response.folder = recorder->folder();
    if (const absl::Status written = recorder->Record(); !written.ok()) response.error = ToStd(written.message());
  }
  if (!request.user.has_value()) return response;
  if (request.keyspace.has_value()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> keyspaces, keys.ReadKeyspaces());
    if (std::find(keyspaces.begin(), keyspaces.end(), *request.keyspace) == keyspaces.end()) {
      return absl::InvalidArgumentError(StrCat("the registry has no keyspace \"", *request.keyspace, "\""));
    }
  }
  ASSIGN_OR_RETURN(const std::vector<keys::NamedSubject> subjects,
                   keys.ReadSubjectsOf(request.keyspace, *request.user));
  for (const keys::NamedSubject& one : subjects) {
    response.pseudonyms.push_back({one.name, PseudonymOf(one.subject)});
  }
  ASSIGN_OR_RETURN(response.registry, RegistryMark(keys));
  return response;
}

}  // namespace kveil::daemon
