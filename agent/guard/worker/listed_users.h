// Which keys are those of the users that the rules of a topic name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "crypto/key_id.h"
#include "guard/worker/needs.h"
#include "keys/cache/key_cache.h"
#include "policy/policy.h"

namespace kveil::guard {

// Of one topic's rules. A record's envelope names a key, so whose record it is is known before anything is opened. A
// user has one key per keyspace for good, until erased. So what was found once holds.
//
// A user who has no key yet gets one. Otherwise the user's first record could come before anybody knows its key, would
// seem to be somebody else's, and be left out for good.
class ListedUsers {
 public:
  // All of the topic's. `before`: of the same topic, by a policy of before, or nullptr. What was found out of users
  // whom both name, in the same keyspace, is not looked for again: a reload would otherwise fetch the keys of very
  // many.
  ListedUsers(const policy::TopicPolicy& topic, const ListedUsers* before);

  // Whether the keys of all users are known that these entries name. Otherwise `needs` has some of those that are not,
  // or none: then the next call goes on. Users that only others' entries name are no reason to wait, nor get they a
  // key.
  bool AreKnown(const policy::EntrySet& readers, keys::KeyCache& cache, Needs& needs);
  // The number of the user in RecordRules::users whose key it is. nullopt: somebody else's, or that of a user whom
  // AreKnown was not asked for.
  std::optional<uint32_t> Find(const crypto::KeyId& id) const {
    const auto found = keys_->numbers.find(id);
    return found == keys_->numbers.end() ? std::nullopt : std::optional<uint32_t>(found->second);
  }

  // The policy that the rules are of is not in force any more, and no response is worked on by it.
  bool isUnused() const { return rules_.use_count() == 1; }
  // Whether these are the users of that topic, by whatever policy.
  bool AreOf(const policy::TopicPolicy& topic) const { return kind_ == topic.kind && selector_ == topic.selector; }

 private:
  // Of the users of a list, by number.
  struct Keys {
    uint64_t timesCleared = 0;
    absl::flat_hash_map<crypto::KeyId, uint32_t> numbers;
    std::vector<uint32_t> unknown;  // users whose keys were not looked at yet
  };
  void LookForAll();
  void TakeOver(const ListedUsers& before);

  const std::shared_ptr<const policy::RecordRules> rules_;
  const policy::SelectorKind kind_;
  const std::string selector_;
  const std::string keyspace_;
  std::shared_ptr<Keys> keys_;  // shared with those of the same users
  uint64_t knownSince_ = 0;     // keys_->timesCleared
  policy::EntrySet known_;      // entries of whose users none is unknown
};

// A worker's, of all topics.
class AllListedUsers {
 public:
  // Of a topic that has rules with users. Valid until the next call.
  ListedUsers& Of(const policy::TopicPolicy& topic) {
    const auto found = ofRules_.find(topic.rules.get());
    if (found != ofRules_.end()) return *found->second;
    const ListedUsers* before = nullptr;
    for (const auto& [rules, users] : ofRules_) {
      if (users->AreOf(topic)) before = users.get();
    }
    auto made = std::make_unique<ListedUsers>(topic, before);
    absl::erase_if(ofRules_, [](const auto& entry) { return entry.second->isUnused(); });
    return *ofRules_.emplace(topic.rules.get(), std::move(made)).first->second;
  }
  size_t size() const { return ofRules_.size(); }

 private:
  // Of the policies in force, and for a while of those before.
  absl::flat_hash_map<const policy::RecordRules*, std::unique_ptr<ListedUsers>> ofRules_;
};

}  // namespace kveil::guard
