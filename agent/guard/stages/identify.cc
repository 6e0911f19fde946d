#include "guard/stages/identify.h"

#include "absl/hash/hash.h"
#include "base/text.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;

keys::ScopeName SharedName(policy::SealScope scope, std::string_view cluster, std::string_view topicName) {
  if (scope == policy::SealScope::kTopic) return {keys::Scope::kTopic, cluster, topicName};
  return {keys::Scope::kCluster, "", cluster};
}

}  // namespace

IdentifyProduced::IdentifyProduced(const policy::SealRule& rule, std::string_view cluster, std::string_view topicName,
                                   const crypto::Salt& salt, WorkerScratch& scratch, Needs& needs)
    : rule_(rule),
      shared_(SharedName(rule.scope, cluster, topicName)),
      salt_(salt),
      scratch_(scratch),
      needs_(needs),
      owners_(scratch.ciphers) {}

std::optional<Problem> IdentifyProduced::Of(const kafka::RecordView& record, const Owner*& owner) {
  if (!record.value.has_value()) {
    owner = &kNoOwner;
    return std::nullopt;
  }
  if (rule_.scope != policy::SealScope::kUser) {
    owner = owners_.last() != nullptr ? owners_.last() : OwnerNamed(shared_);
    return std::nullopt;
  }
  std::string_view user;
  if (const std::optional<Problem> problem = scratch_.userFinder.Find(rule_.user, record, user); problem.has_value()) {
    return problem;
  }
  owner = OwnerNamed({keys::Scope::kUser, rule_.keyspace, user});
  return std::nullopt;
}

const Owner* IdentifyProduced::OwnerNamed(const keys::ScopeName& name) {
  const keys::ScopeKey* const key = scratch_.keyCache.FindForSealing(name);
  if (key == nullptr) {
    if (noted_.emplace(name.subject).second) needs_.keys.scopes.emplace_back(name);
    return &kPendingOwner;
  }
  if (const Owner* const found = owners_.Find(key); found != nullptr) return found;
  Owner owner;
  owner.isErasedSubject = key->erasedSubject;
  owner.idInHeader = name.scope == keys::Scope::kUser ? scratch_.keyCache.mask().Mask(key->id, salt_) : key->id;
  return &owners_.Add(key, owner, *key, crypto::Suite::kAes256Gcm, salt_);
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

IdentifyFetched::IdentifyFetched(size_t keysLimit, WorkerScratch& scratch, Needs& needs)
    : keysLimit_(keysLimit), scratch_(scratch), needs_(needs), owners_(scratch.ciphers) {}

std::optional<Problem> IdentifyFetched::FindKey(const KeyName& name, crypto::Suite suite, const Owner*& owner) {
  const crypto::KeyId id = name.isMasked ? scratch_.keyCache.mask().Unmask(name.id, name.salt) : name.id;
  const keys::KeyCache::Found found = scratch_.keyCache.FindById(id);
  switch (found.state) {
    case keys::KeyCache::State::kReady:
      owner = &owners_.Add(name, Owner(), *found.key, suite, name.salt);
      return std::nullopt;
    case keys::KeyCache::State::kErased:
      owner = &owners_.Add(name, {.state = Owner::State::kErased});
      return std::nullopt;
    case keys::KeyCache::State::kNotCached:
      if (noted_.size() == keysLimit_ && !noted_.contains(id)) {
        return Problem{RefuseReason::kTooLarge, "the batch needs more keys than a worker can have at once"};
      }
      if (noted_.insert(id).second) needs_.keys.ids.push_back(id);
      owner = &owners_.Add(name, kPendingOwner);
      return std::nullopt;
    case keys::KeyCache::State::kDamaged:
      return Problem{RefuseReason::kKeysUnavailable, "the registry's row of a record's key is damaged"};
    case keys::KeyCache::State::kUnknown:
      break;
  }
  return Problem{RefuseReason::kUnknownKey, "a record is sealed under a key that the registry does not know"};
}

}  // namespace kveil::guard
