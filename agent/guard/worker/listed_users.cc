#include "guard/worker/listed_users.h"

#include <numeric>
#include <utility>

namespace kveil::guard {
namespace {

// Users whose keys are looked for in one call, which no other connection of the worker may wait for: at a microsecond
// each, half a turn.
constexpr size_t kMostLookedFor = 1000;

}  // namespace

ListedUsers::ListedUsers(const policy::TopicPolicy& topic, const ListedUsers* before)
    : rules_(topic.rules),
      kind_(topic.kind),
      selector_(topic.selector),
      keyspace_(topic.seal->keyspace),
      keys_(std::make_shared<Keys>()) {
  const bool isSameKeyspace = before != nullptr && before->keyspace_ == keyspace_;
  if (isSameKeyspace && before->rules_->users() == rules_->users()) {
    keys_ = before->keys_;
    knownSince_ = keys_->timesCleared;
    return;
  }
  LookForAll();
  if (isSameKeyspace) TakeOver(*before);
}

void ListedUsers::LookForAll() {
  keys_->numbers.clear();
  keys_->unknown.resize(rules_->users().size());
  std::iota(keys_->unknown.begin(), keys_->unknown.end(), uint32_t{0});
}

// Lists are in order, so two that differ in a few users are compared side by side.
void ListedUsers::TakeOver(const ListedUsers& before) {
  const std::vector<std::string>& theirs = before.rules_->users();
  const std::vector<std::string>& ours = rules_->users();
  std::vector<std::optional<uint32_t>> numberOf(theirs.size());
  uint32_t next = 0;
  size_t lookedFor = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    if (next < ours.size() && ours[next] == theirs[i]) {
      numberOf[i] = next++;
      continue;
    }
    if (++lookedFor > kMostLookedFor) break;
    numberOf[i] = rules_->NumberOf(theirs[i]);
    if (numberOf[i].has_value()) next = *numberOf[i] + 1;
  }
  keys_->timesCleared = knownSince_ = before.keys_->timesCleared;
  keys_->numbers.reserve(ours.size());
  std::vector<bool> isKnown(ours.size());
  for (const auto& [id, number] : before.keys_->numbers) {
    if (!numberOf[number].has_value()) continue;
    keys_->numbers.emplace(id, *numberOf[number]);
    isKnown[*numberOf[number]] = true;
  }
  std::erase_if(keys_->unknown, [&](uint32_t number) { return isKnown[number]; });
}

bool ListedUsers::AreKnown(const policy::EntrySet& readers, keys::KeyCache& cache, Needs& needs) {
  // Of a registry that was restored, a user may have another key.
  if (std::exchange(keys_->timesCleared, cache.timesCleared()) != cache.timesCleared()) LookForAll();
  if (std::exchange(knownSince_, keys_->timesCleared) != keys_->timesCleared) known_ = policy::EntrySet();
  if (known_.HasAll(readers)) return true;
  bool areKnown = true;
  size_t lookedFor = 0;
  std::erase_if(keys_->unknown, [&](uint32_t number) {
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
    keys_->numbers[key->id] = number;
    return true;
  });
  if (areKnown) known_.AddAll(readers);
  return areKnown;
}

}  // namespace kveil::guard
