// The end of erasures: for who asks for it, and where a policy does.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "base/status_macros.h"
#include "keys/service/keyring.h"

namespace kveil::keys {

absl::StatusOr<std::vector<Registry::Readmission>> Keyring::ReadmitSubjects(absl::Span<const Subject> subjects) {
  std::vector<Registry::Readmission> readmissions;
  while (!subjects.empty()) {
    const absl::Span<const Subject> piece = subjects.subspan(0, Registry::kMostReadmitted);
    ASSIGN_OR_RETURN(const std::vector<Registry::Readmission> some, registry_->Readmit(piece, options_.wallNow()));
    readmissions.insert(readmissions.end(), some.begin(), some.end());
    subjects.remove_prefix(piece.size());
  }
  return readmissions;
}

absl::StatusOr<ReadmittedUser> Keyring::Readmit(std::optional<std::string_view> keyspace, std::string_view user) {
  ASSIGN_OR_RETURN(std::vector<NamedSubject> named, ReadSubjectsOf(keyspace, user));
  std::vector<Subject> subjects;
  for (const NamedSubject& one : named) subjects.push_back(one.subject);
  ASSIGN_OR_RETURN(const std::vector<Registry::Readmission> readmissions, ReadmitSubjects(subjects));
  ReadmittedUser readmitted;
  readmitted.time = options_.wallNow();
  for (size_t i = 0; i < named.size(); ++i) {
    switch (readmissions[i].state) {
      case Registry::Readmission::State::kReadmitted:
        readmitted.keyspaces.push_back({std::move(named[i]), readmissions[i].erased});
        break;
      case Registry::Readmission::State::kUnderWay:
        readmitted.underWay.push_back(std::move(named[i].name));
        break;
      case Registry::Readmission::State::kNotErased:
        break;
    }
  }
  return readmitted;
}

// While the erasure has yet to reach an agent, the user's records are late ones.
absl::StatusOr<absl::flat_hash_set<Subject>> Keyring::ReadmitErased(const std::vector<Asked>& missing,
                                                                    const std::vector<size_t>& rowOf,
                                                                    const std::vector<Registry::Inserted>& inserted) {
  absl::flat_hash_set<Subject> asked, readmitted;
  for (size_t i = 0; i < missing.size(); ++i) {
    const bool readmits = missing[i].lookup->misses.scopes[missing[i].scope].readmits;
    if (readmits && inserted[rowOf[i]].state == Registry::Inserted::State::kErased) {
      asked.insert(missing[i].name.subject);
    }
  }
  const std::vector<Subject> subjects(asked.begin(), asked.end());
  ASSIGN_OR_RETURN(const std::vector<Registry::Readmission> readmissions, ReadmitSubjects(subjects));
  for (size_t i = 0; i < subjects.size(); ++i) {
    if (readmissions[i].state == Registry::Readmission::State::kReadmitted) readmitted.insert(subjects[i]);
  }
  return readmitted;
}

}  // namespace kveil::keys
