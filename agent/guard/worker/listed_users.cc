#include "guard/worker/listed_users.h"

#include <numeric>
#include <utility>

namespace kveil::guard {

ListedUsers::ListedUsers(std::shared_ptr<const policy::RecordRules> rules, std::string keyspace)
    : rules_(std::move(rules)), keyspace_(std::move(keyspace)), timesCleared_(0) {
  LookForAll();
}

void ListedUsers::LookForAll() {
  numbers_.clear();
  unknown_.resize(rules_->users().size());
  std::iota(unknown_.begin(), unknown_.end(), uint32_t{0});
}

bool ListedUsers::AreKnown(keys::KeyCache& cache, Needs& needs) {
  // Of a registry that was restored, a user may have another key.
  if (std::exchange(timesCleared_, cache.timesCleared()) != cache.timesCleared()) LookForAll();
  std::erase_if(unknown_, [&](uint32_t number) {
    const keys::ScopeName name{keys::Scope::kUser, keyspace_, rules_->users()[number]};
    const keys::CachedKey* const key = cache.FindForSealing(name);
    if (key == nullptr) {
      needs.keys.scopes.emplace_back(name);
      return false;
    }
    numbers_[key->id] = number;
    return true;
  });
  return unknown_.empty();
}

}  // namespace kveil::guard
