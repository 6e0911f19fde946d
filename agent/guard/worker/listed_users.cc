#include "guard/worker/listed_users.h"

#include <numeric>
#include <utility>

namespace kveil::guard {
namespace {

// Users whose keys are looked for in one call, which no other connection of the worker may wait for: at a microsecond
// each, half a turn.
constexpr size_t kMostLookedFor = 1000;

}  // namespace

ListedUsers::ListedUsers(std::shared_ptr<const policy::RecordRules> rules, std::string keyspace)
    : rules_(std::move(rules)), keyspace_(std::move(keyspace)), timesCleared_(0) {
  LookForAll();
}

void ListedUsers::LookForAll() {
  numbers_.clear();
  known_ = policy::EntrySet();
  unknown_.resize(rules_->users().size());
  std::iota(unknown_.begin(), unknown_.end(), uint32_t{0});
}

bool ListedUsers::AreKnown(const policy::EntrySet& readers, keys::KeyCache& cache, Needs& needs) {
  // Of a registry that was restored, a user may have another key.
  if (std::exchange(timesCleared_, cache.timesCleared()) != cache.timesCleared()) LookForAll();
  if (known_.HasAll(readers)) return true;
  bool areKnown = true;
  size_t lookedFor = 0;
  std::erase_if(unknown_, [&](uint32_t number) {
    if (!rules_->NameUser(readers, number)) return false;
    if (++lookedFor > kMostLookedFor) {
      areKnown = false;
      return false;
    }
    const keys::ScopeName name{keys::Scope::kUser, keyspace_, rules_->users()[number]};
    const keys::CachedKey* const key = cache.FindForSealing(name);
    if (key == nullptr) {
      needs.keys.scopes.emplace_back(name);
      areKnown = false;
      return false;
    }
    numbers_[key->id] = number;
    return true;
  });
  if (areKnown) known_.AddAll(readers);
  return areKnown;
}

}  // namespace kveil::guard
