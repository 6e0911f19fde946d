// Changing and reading what is known of users. Nothing is locked meanwhile: whoever has read what another has replaced
// since reads again.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/keyring.h"

namespace kveil::keys {
namespace {

constexpr int kMostAttempts = 5;
static_assert(kMostUserChanges <= Registry::kMostFactsOfAWrite);

using Outcome = ChangedUsers::Outcome;

// Nothing, when what is stored is damaged.
users::UserFacts Decoded(const std::string& stored, bool& isDamaged) {
  isDamaged = false;
  if (stored.empty()) return {};
  absl::StatusOr<users::UserFacts> facts = users::Decode(stored);
  isDamaged = !facts.ok();
  return facts.ok() ? *std::move(facts) : users::UserFacts();
}

bool IsAdded(const users::FactsChange& change) {
  return change.kind == users::FactsChange::Kind::kGrant || change.kind == users::FactsChange::Kind::kSet;
}

bool IsOfConsents(const users::FactsChange& change) {
  return change.kind == users::FactsChange::Kind::kGrant || change.kind == users::FactsChange::Kind::kWithdraw;
}

// Not while the topic is read for the first time, or anew.
bool IsStale(const Registry::Source& source) { return source.age.has_value() && *source.age >= source.staleAfter; }

}  // namespace

std::optional<Registry::NewFacts> Keyring::Apply(const SubjectChanges& asked, absl::Span<const UserChange> changes,
                                                 uint32_t uid, bool mayAdd, const SourcesByKeyspace& sources,
                                                 const Registry::KnownFacts& known, ChangedUsers& changed) {
  bool isDamaged = false;
  users::UserFacts facts = Decoded(known.facts, isDamaged);
  if (isDamaged && !known.erased.has_value()) {
    for (const size_t index : asked.changes) changed.outcomes[index] = Outcome::kDamaged;
    return std::nullopt;
  }
  const absl::Time now = options_.wallNow();
  // They have no use any more, and must not take the places of others.
  std::erase_if(facts.consents, [now](const users::Consent& consent) { return consent.until <= now; });
  const std::vector<users::Consent> before = facts.consents;
  bool isChanged = false;
  for (const size_t index : asked.changes) {
    if (known.erased.has_value()) {
      changed.outcomes[index] = Outcome::kErased;
      continue;
    }
    if (!mayAdd && IsAdded(changes[index].change)) continue;
    if (facts.source.has_value() && changes[index].change.kind == users::FactsChange::Kind::kGrant) {
      // Its next record would take it back. But where nobody follows the topic any more, its consents do not count.
      const auto source = sources.find(facts.source->keyspace);
      if (source != sources.end() && !IsStale(source->second)) {
        changed.outcomes[index] = Outcome::kFollowed;
        continue;
      }
      facts.consents.clear();
      facts.source.reset();  // `ahead` stays: the topic may be read again
    }
    const users::UserFacts former = facts;
    const users::FactsChange& change = changes[index].change;
    const absl::Status applied = users::Apply(change, facts);
    if (change.kind == users::FactsChange::Kind::kGrant && applied.ok()) users::ForgetWithdrawal(change.name, facts);
    // Also of what was not there: a record from before may be read yet.
    const bool isFollowed = facts.source.has_value() || sources.contains(std::string(asked.keyspace));
    if (change.kind == users::FactsChange::Kind::kWithdraw && isFollowed) {
      users::NoteWithdrawal(change.name, now, facts.ahead, facts);
    }
    changed.outcomes[index] = !applied.ok()     ? Outcome::kTooMany
                              : facts == former ? Outcome::kUnchanged
                                                : Outcome::kChanged;
    isChanged |= changed.outcomes[index] == Outcome::kChanged;
  }
  if (known.erased.has_value() || !isChanged) return std::nullopt;
  return Registry::NewFacts{asked.subject, asked.keyspace, facts.empty() ? "" : users::Encode(facts), known.number,
                            users::HistoryOf(users::Difference(before, facts.consents), uid, self_.name)};
}

absl::StatusOr<ChangedUsers> Keyring::ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  if (clocks_.isDue()) RefreshSources();
  SourcesByKeyspace sources;
  if (std::any_of(changes.begin(), changes.end(), [](const UserChange& one) { return IsOfConsents(one.change); })) {
    // As it is now: what this agent has heard may be old, and a topic that it does not know may be followed.
    ASSIGN_OR_RETURN(const std::vector<Registry::Source> read, ReadClocks());
    for (const Registry::Source& source : read) sources[source.keyspace] = source;
  }
  // What is new must not take the last of the room. What is withdrawn may, and does not wait for it.
  absl::Status refused;
  const bool adds =
      std::any_of(changes.begin(), changes.end(), [](const UserChange& one) { return IsAdded(one.change); });
  if (adds) refused = registry_->CheckRoom();
  const bool mayAdd = refused.ok();
  std::vector<SubjectChanges> asked;
  absl::flat_hash_map<Subject, size_t> places;
  for (size_t i = 0; i < changes.size(); ++i) {
    const Subject subject = keys_.SubjectOf({Scope::kUser, changes[i].keyspace, changes[i].user});
    const auto [place, isNew] = places.try_emplace(subject, asked.size());
    if (isNew) asked.push_back({subject, changes[i].keyspace, {}});
    asked[place->second].changes.push_back(i);
  }
  ChangedUsers changed;
  changed.outcomes.resize(changes.size());
  changed.opening = registry_->openings();
  const absl::Time now = absl::FromUnixMillis(absl::ToUnixMillis(options_.wallNow()));
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    std::vector<Subject> subjects;
    for (const SubjectChanges& one : asked) subjects.push_back(one.subject);
    ASSIGN_OR_RETURN(const std::vector<Registry::KnownFacts> known, registry_->ReadFacts(subjects));
    std::vector<Registry::NewFacts> facts;
    std::vector<SubjectChanges> written;
    for (size_t i = 0; i < asked.size(); ++i) {
      // What was so before may not have reached all agents yet.
      changed.number = std::max(changed.number, known[i].number);
      std::optional<Registry::NewFacts> one = Apply(asked[i], changes, uid, mayAdd, sources, known[i], changed);
      if (!one.has_value()) continue;
      facts.push_back(*std::move(one));
      written.push_back(std::move(asked[i]));
    }
    // Also when there is nothing to write: what was so before is durable, too, when this returns.
    ASSIGN_OR_RETURN(const std::vector<int64_t> numbers, registry_->WriteFacts(facts, now));
    asked.clear();
    for (size_t i = 0; i < written.size(); ++i) {
      changed.number = std::max(changed.number, numbers[i]);
      if (numbers[i] == 0) asked.push_back(std::move(written[i]));
    }
    // The others are made all the same.
    if (asked.empty() && !refused.ok()) return refused;
    if (asked.empty()) return changed;
  }
  return absl::UnavailableError(StrCat(registry_->name(), ": others change the same users all the time; try again"));
}

absl::StatusOr<std::vector<std::string>> Keyring::KeyspacesOf(std::optional<std::string_view> keyspace) {
  if (keyspace.has_value()) return std::vector<std::string>{std::string(*keyspace)};
  return registry_->ReadKeyspaces();
}

absl::StatusOr<std::vector<KnownUser>> Keyring::ReadUser(std::optional<std::string_view> keyspace,
                                                         std::string_view user) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ASSIGN_OR_RETURN(std::vector<std::string> keyspaces, KeyspacesOf(keyspace));
  std::vector<Subject> subjects;
  for (const std::string& name : keyspaces) subjects.push_back(keys_.SubjectOf({Scope::kUser, name, user}));
  ASSIGN_OR_RETURN(const std::vector<Registry::KnownFacts> known, registry_->ReadFacts(subjects));
  std::vector<KnownUser> users;
  for (size_t i = 0; i < known.size(); ++i) {
    if (known[i].number == 0 && !known[i].erased.has_value()) continue;
    KnownUser& one = users.emplace_back();
    one.keyspace = std::move(keyspaces[i]);
    one.facts = Decoded(known[i].facts, one.isDamaged);
    if (one.facts.source.has_value()) one.facts.clock = clocks_.Of(one.facts.source->keyspace);
    one.erased = known[i].erased;
    ASSIGN_OR_RETURN(std::vector<Registry::PastChange> history, registry_->ReadHistory(subjects[i]));
    for (Registry::PastChange& change : history) one.history.push_back({change.time, std::move(change.history)});
  }
  if (clocks_.isDue()) RefreshSources();
  return users;
}

absl::StatusOr<std::vector<std::optional<Subject>>> Keyring::ReadSubjects(absl::Span<const crypto::KeyId> keys) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ASSIGN_OR_RETURN(const std::vector<Registry::Found> found, registry_->FindManyById(keys));
  std::vector<std::optional<Subject>> subjects;
  for (const Registry::Found& row : found) {
    const bool isUser = row.ok() && row->has_value() && (*row)->scope == Scope::kUser;
    subjects.push_back(isUser ? std::optional((*row)->name.subject) : std::nullopt);
  }
  return subjects;
}

absl::StatusOr<std::vector<NamedSubject>> Keyring::ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                                  std::string_view user) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  ASSIGN_OR_RETURN(std::vector<std::string> keyspaces, KeyspacesOf(keyspace));
  std::vector<NamedSubject> subjects;
  for (std::string& name : keyspaces) {
    const Subject subject = keys_.SubjectOf({Scope::kUser, name, user});
    subjects.push_back({std::move(name), subject});
  }
  return subjects;
}

absl::StatusOr<Registry::KeyList> Keyring::ListKeys(std::string_view from, size_t most) {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ListKeys(from, most);
}

absl::StatusOr<std::vector<std::string>> Keyring::ReadKeyspaces() {
  RETURN_IF_ERROR(registry_->EnsureOpen());
  return registry_->ReadKeyspaces();
}

}  // namespace kveil::keys
