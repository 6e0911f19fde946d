#include "guard/stages/identify.h"

#include "absl/hash/hash.h"
#include "base/short_runs.h"
#include "base/text.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

// Empty: the policy names no KEK.
std::string KeyspaceUnderKek(const policy::SealRule& rule, std::string_view cluster, std::string_view topicName) {
  if (!rule.kek.has_value()) return "";
  const keys::KekName kek{rule.kek->provider, policy::KekKeyOf(*rule.kek, cluster, topicName)};
  switch (rule.scope) {
    case policy::SealScope::kUser:
      return keys::KeyspaceUnder(rule.keyspace, kek);
    case policy::SealScope::kTopic:
      return keys::KeyspaceUnder(cluster, kek);
    case policy::SealScope::kCluster:
      break;
  }
  return keys::KeyspaceUnder("", kek);
}

keys::ScopeName SharedName(policy::SealScope scope, std::string_view underKek, std::string_view cluster,
                           std::string_view topicName) {
  if (scope == policy::SealScope::kTopic) {
    return {keys::Scope::kTopic, underKek.empty() ? cluster : underKek, topicName};
  }
  return {keys::Scope::kCluster, underKek, cluster};
}

// Records of one owner often follow each other.
bool HaveOneKey(const FetchedRecord* last, const FetchedRecord& record) {
  if (last == nullptr || !(last->envelope.fields.keyId == record.envelope.fields.keyId)) return false;
  if (last->envelope.isUnderKek() != record.envelope.isUnderKek()) return false;
  return !record.envelope.isUnderKek() || last->envelope.fields.kekKeyId == record.envelope.fields.kekKeyId;
}
keys::KeyRef RefOf(const Envelope& envelope) {
  if (!envelope.isUnderKek()) return envelope.fields.keyId;
  return {envelope.fields.keyId, envelope.fields.kekKeyId};
}
bool HaveOneUser(const ProducedRecord* last, const ProducedRecord& record) {
  return last != nullptr && last->tag == record.tag && last->user.size() == record.user.size() &&
         AreSameRuns(last->user.data(), record.user.data(), record.user.size());
}

}  // namespace

IdentifyProduced::IdentifyProduced(const policy::SealRule& rule, std::string_view cluster, std::string_view topicName,
                                   const BatchMarks& marks, WorkerScratch& scratch, Needs& needs)
    : rule_(rule),
      underKek_(KeyspaceUnderKek(rule, cluster, topicName)),
      userKeyspace_(underKek_.empty() ? std::string_view(rule.keyspace) : underKek_),
      shared_(SharedName(rule.scope, underKek_, cluster, topicName)),
      seed_(keys::KeyCache::SeedOf(keys::Scope::kUser, userKeyspace_)),
      marks_(marks),
      scratch_(scratch),
      needs_(needs) {}

void IdentifyProduced::Of(absl::Span<ProducedRecord> records) {
  if (rule_.scope == policy::SealScope::kUser) {
    FindUsers(records);
    FindKeys(records);
    return;
  }
  for (ProducedRecord& record : records) {
    if (record.problem.has_value() || !record.view.value.has_value()) {
      record.owner.Reset();
      continue;
    }
    if (!sharedOwner_.has_value()) {
      FindOwner(shared_, keys::KeyCache::TagOf(shared_), keys::kNowhere, sharedOwner_.emplace());
      if (sharedOwner_->key != nullptr) sharedOwner_->idInHeader = sharedOwner_->key->id;
    }
    record.owner = *sharedOwner_;
  }
}

// A record of nobody gets no user. What the finder spelled anew is kept for the other records' sake.
void IdentifyProduced::FindUsers(absl::Span<ProducedRecord> records) {
  scratch_.users.clear();
  scratch_.users.reserve(kMostIdentifiedAtOnce * formats::kLongestUserId);
  for (ProducedRecord& record : records) {
    record.owner.Reset();
    record.user = {};
    if (record.problem.has_value() || !record.view.value.has_value()) continue;
    const std::optional<Problem> problem = scratch_.userFinder.Find(rule_.user, record.view, record.user);
    if (problem.has_value()) {
      record.problem = problem;
    } else if (record.user.empty()) {
      // Below, a record with a value and without a user would be nobody's, and not sealed.
      record.problem = Problem{RefuseReason::kNoUser, "the record's user has an empty id"};
    }
    if (record.problem.has_value()) {
      record.user = {};
      continue;
    }
    record.tag = keys::KeyCache::TagOf(seed_, record.user);
    scratch_.keyCache.PrefetchTable(record.tag);
    const Bytes whole = record.view.whole;
    const Bytes user = AsBytes(record.user);
    if (user.data() >= whole.data() && user.data() < whole.data() + whole.size()) continue;
    const size_t start = scratch_.users.size();
    scratch_.users.append(record.user);
    record.user = std::string_view(scratch_.users).substr(start);
  }
}

void IdentifyProduced::FindKeys(absl::Span<ProducedRecord> records) {
  keys::KeyCache& cache = scratch_.keyCache;
  const ProducedRecord* last = nullptr;
  for (ProducedRecord& record : records) {
    if (record.user.empty()) continue;
    record.isLastUsers = HaveOneUser(last, record);
    if (!record.isLastUsers) record.guess = cache.PrefetchKey(record.tag);
    last = &record;
  }
  crypto::KeyId ids[kMostIdentifiedAtOnce];
  size_t count = 0;
  last = nullptr;
  for (ProducedRecord& record : records) {
    if (record.user.empty()) continue;
    if (record.isLastUsers) {
      record.owner.key = last->owner.key;
      record.owner.state = last->owner.state;
      record.owner.isErasedSubject = last->owner.isErasedSubject;
    } else {
      FindOwner({keys::Scope::kUser, userKeyspace_, record.user}, record.tag, record.guess, record.owner);
    }
    last = &record;
    if (record.owner.key == nullptr) continue;
    record.owner.suite = cache.TakeSuite(*record.owner.key);
    if (!record.isLastUsers) cache.PrefetchPlace(*record.owner.key);
    ids[count++] = record.owner.key->id;
  }
  cache.mask().Mask(absl::MakeSpan(ids, count), marks_.salt);
  count = 0;
  for (ProducedRecord& record : records) {
    if (record.owner.key != nullptr) record.owner.idInHeader = ids[count++];
  }
}

void IdentifyProduced::FindOwner(const keys::ScopeName& name, uint32_t tag, uint32_t guess, Owner& owner) {
  owner.key = scratch_.keyCache.FindForSealing(name, tag, guess);
  if (owner.key == nullptr) {
    if (noted_.emplace(name.subject).second) needs_.keys.scopes.emplace_back(name).readmits = rule_.readmits;
    owner.state = Owner::State::kPending;
    return;
  }
  owner.state = Owner::State::kPresent;
  owner.isErasedSubject = owner.key->erasedSubject;
}

bool HasMoreUsersThan(size_t limit, const policy::SealRule& rule, Bytes records, int32_t count, UserFinder& finder) {
  if (rule.scope != policy::SealScope::kUser || static_cast<size_t>(count) <= limit) return false;
  absl::flat_hash_set<size_t> users;
  kafka::RecordReader reader(records, count);
  std::string_view user;
  for (kafka::RecordView record; reader.Next(record);) {
    if (!record.value.has_value() || finder.Find(rule.user, record, user).has_value()) continue;
    users.insert(absl::HashOf(ToAbsl(user)));
    if (users.size() > limit) return true;
  }
  return false;
}

void IdentifyFetched::FindKeys(absl::Span<FetchedRecord> records) {
  keys::KeyCache& cache = scratch_.keyCache;
  // The first of each run of records with one key.
  FetchedRecord* firsts[kMostIdentifiedAtOnce];
  uint32_t guesses[kMostIdentifiedAtOnce];
  size_t runs = 0;
  for (FetchedRecord& record : records) {
    if (!record.envelope.isThere || HaveOneKey(runs == 0 ? nullptr : firsts[runs - 1], record)) continue;
    cache.PrefetchTable(RefOf(record.envelope));
    firsts[runs++] = &record;
  }
  for (size_t i = 0; i < runs; ++i) guesses[i] = cache.PrefetchKey(RefOf(firsts[i]->envelope));
  const uint32_t* guess = guesses;
  const FetchedRecord* last = nullptr;
  for (FetchedRecord& record : records) {
    if (!record.envelope.isThere) {
      record.owner.Reset();
    } else if (HaveOneKey(last, record)) {
      record.owner = last->owner;
      if (last->problem.has_value()) record.problem = last->problem;
    } else {
      record.owner.Reset();
      const std::optional<Problem> problem = FindKey(RefOf(record.envelope), *guess++, record.owner);
      if (problem.has_value()) record.problem = problem;
      if (record.owner.key != nullptr) cache.PrefetchPlace(*record.owner.key);
      last = &record;
    }
  }
}

void IdentifyFetched::UnmaskKeyIds(absl::Span<FetchedRecord> records) {
  crypto::KeyId ids[kMostIdentifiedAtOnce];
  crypto::Salt salts[kMostIdentifiedAtOnce];
  size_t count = 0;
  for (const FetchedRecord& record : records) {
    if (!record.envelope.isThere || !record.envelope.isMasked()) continue;
    ids[count] = record.envelope.fields.keyId;
    salts[count++] = record.envelope.fields.salt;
  }
  if (count == 0) return;
  scratch_.keyCache.mask().Unmask(absl::MakeSpan(ids, count), absl::MakeConstSpan(salts, count));
  count = 0;
  for (FetchedRecord& record : records) {
    if (record.envelope.isThere && record.envelope.isMasked()) record.envelope.fields.keyId = ids[count++];
  }
}

std::optional<Problem> IdentifyFetched::FindKey(const keys::KeyRef& ref, uint32_t guess, Owner& owner) {
  const keys::KeyCache::Found found = scratch_.keyCache.FindById(ref, guess);
  switch (found.state) {
    case keys::KeyCache::State::kReady:
      owner.state = Owner::State::kPresent;
      owner.key = found.key;
      return std::nullopt;
    case keys::KeyCache::State::kErased:
      owner.state = Owner::State::kErased;
      return std::nullopt;
    case keys::KeyCache::State::kNotCached:
      if (noted_.size() == keysLimit_ && !noted_.contains(ref)) {
        return Problem{RefuseReason::kTooLarge, "the batch needs more keys than a worker can have at once"};
      }
      if (noted_.insert(ref).second) needs_.keys.ids.push_back(ref);
      owner.state = Owner::State::kPending;
      return std::nullopt;
    case keys::KeyCache::State::kDamaged:
      return Problem{RefuseReason::kKeysUnavailable, "the registry's row of a record's key is damaged"};
    case keys::KeyCache::State::kUnknown:
      break;
  }
  if (ref.kek.has_value()) {
    return Problem{RefuseReason::kUnknownKey, "the registry does not know a record's key or the KEK key it is under"};
  }
  return Problem{RefuseReason::kUnknownKey, "a record is sealed under a key that the registry does not know"};
}

}  // namespace kveil::guard
