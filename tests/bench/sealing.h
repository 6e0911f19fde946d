// What the programs of this folder seal and open: batches of JSON records, and a node with the keys for them.
#pragma once

#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "batches.h"
#include "guard/open/batch_opener.h"
#include "guard/seal/batch_sealer.h"
#include "keys/root/open_root_key.h"
#include "users/user_facts.h"

namespace kveil::guard {

inline constexpr int32_t kRecords = 1300;  // of a batch

// The users of a batch: each record is of any of them.
struct Users {
  uint32_t first = 0;
  uint32_t count = 1;
};

// `random`: the state of a generator.
inline ByteBuffer ProducedBatch(Users users, size_t valueSize, uint32_t& random, int32_t records = kRecords) {
  return kafka::MakeBatch(records, [&](int32_t) {
    random = random * 1664525 + 1013904223;
    const uint32_t user = users.first + (random >> 8) % users.count;
    std::string value = R"({"userid": "user-)" + std::to_string(user) + R"(", "request": ")";
    value.resize(valueSize - 2, 'r');
    return value + "\"}";
  });
}

// A worker with the keys of one node, and the topic "t" whose records are sealed per user or under one key.
class Node {
 public:
  // `read`: the readers, as in a policy.
  // `factsOf`: what is known of the user of the key that is fetched as the n-th.
  using FactsOf = std::function<users::SharedFacts(size_t)>;
  // `more`: members of the policy's "seal", each behind a comma.
  explicit Node(
      bool perUser, const std::string& read = R"([{"any": true}])", FactsOf factsOf = [](size_t) { return nullptr; },
      const std::string& more = "")
      : factsOf_(std::move(factsOf)) {
    char path[] = "/tmp/kveil-bench-XXXXXX";
    folder_ = mkdtemp(path);
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.cacheTtl = std::chrono::hours(1);
    options.newUsersPerSecond = 1'000'000'000;
    // Whatever KEK of the provider "p" is in `more`.
    options.kekProviders["p"].openKek = [this](std::string_view) {
      return *keys::OpenRootKey({.file = folder_ + "/kek"}, true, std::chrono::steady_clock::now() + kPatience);
    };
    service_ = *keys::KeyService::Open(options);
    scratch = std::make_unique<WorkerScratch>(*service_);
    const std::string scope = perUser ? R"("scope": "user", "user": {"value": "/userid"})" : R"("scope": "topic")";
    const std::vector<std::pair<std::string, std::string>> files = {
        {"p.json", R"({"purposes": ["marketing", "research"], "topics": [{"name": "t", "seal": {)" + scope + more +
                       R"(}, "read": )" + read + "}]}"}};
    policy_ = *policy::Policy::Parse(files);
    topic = policy_->Find("t");
    hasRules_ = policy::ReadableBy(*topic, {}, readers_) == policy::Readable::kSome;
  }
  ~Node() {
    scratch.reset();
    service_.reset();
    std::filesystem::remove_all(folder_);
  }

  void Fetch(Needs needs) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!needs.empty()) {
      const keys::Misses piece = needs.keys.Take(keys::kMostKeysOfAFetch);
      // The provider of a KEK takes a moment.
      while (!FetchPiece(piece)) {
        if (std::chrono::steady_clock::now() > deadline) abort();
      }
    }
  }

  identity::Workload reader;
  // The entries that fit a reader, where these let it read some records only.
  const policy::EntrySet* readers() const { return hasRules_ ? &readers_ : nullptr; }

  std::unique_ptr<WorkerScratch> scratch;
  const policy::TopicPolicy* topic = nullptr;

 private:
  static constexpr std::chrono::seconds kPatience{20};

  bool FetchPiece(keys::Misses piece) {
    std::promise<keys::FetchResult> promise;
    service_->Fetch(std::move(piece), "bench", [&](keys::FetchResult result) { promise.set_value(std::move(result)); });
    keys::FetchResult result = promise.get_future().get();
    for (keys::FetchResult::ByScope& found : result.scopes) found.key.facts = factsOf_(fetched_++);
    return scratch->keyCache.Deliver(std::move(result)).ok();
  }

  const FactsOf factsOf_;
  size_t fetched_ = 0;
  std::string folder_;
  std::unique_ptr<keys::KeyService> service_;
  std::shared_ptr<const policy::Policy> policy_;
  policy::EntrySet readers_;
  bool hasRules_ = false;
};

inline SealOutcome Seal(Node& node, const ByteBuffer& produced, ByteBuffer& out) {
  SealTask task;
  task.topic = node.topic;
  task.topicName = "t";
  task.cluster = "main";
  task.records = produced;
  out.clear();
  return SealBatch(task, *node.scratch, out);
}

inline OpenOutcome Open(Node& node, const ByteBuffer& sealed, ByteBuffer& out) {
  kafka::BatchView batch;
  if (kafka::BatchReader(sealed).Next(batch) != kafka::BatchReader::Result::kBatch) abort();
  OpenTask task;
  task.topic = node.topic;
  task.topicName = "t";
  task.readers = node.readers();
  task.reader = &node.reader;
  if (task.readers != nullptr) task.now = std::chrono::system_clock::now();
  out.clear();
  return OpenBatch(task, batch, *node.scratch, out);
}

// With the keys fetched that are missing.
inline void SealFetching(Node& node, const ByteBuffer& produced, ByteBuffer& out) {
  SealOutcome outcome = Seal(node, produced, out);
  if (outcome.kind == SealOutcome::Kind::kNeeds) {
    node.Fetch(std::move(outcome.needs));
    outcome = Seal(node, produced, out);
  }
  if (outcome.kind != SealOutcome::Kind::kSealed) abort();
}

}  // namespace kveil::guard
