// A worker's scratch over a real key service, policies from text, and batches that are sealed and opened as a
// connection would do it: with the missing keys fetched in between.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../kafka/batch_builder.h"
#include "../keys/key_fixture.h"
#include "base/text.h"
#include "crypto/envelope.h"
#include "guard/open/batch_opener.h"
#include "guard/seal/batch_sealer.h"
#include "kafka/compression.h"
#include "kafka/record_batch.h"
#include "policy/policy.h"
#include "users/user_facts.h"

namespace kveil::guard {

using kafka::testing::BatchBytes;
using kafka::testing::RecordsBytes;
using kafka::testing::TestBatch;
using kafka::testing::TestRecord;
using kafka::testing::Text;

inline std::string FileOf(const std::string& topics) { return "{\"topics\": [" + topics + "]}"; }

inline std::shared_ptr<const policy::Policy> PolicyOfFile(const std::string& text) {
  const std::vector<std::pair<std::string, std::string>> files = {{"test.json", text}};
  auto parsed = policy::Policy::Parse(files);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *std::move(parsed) : nullptr;
}

inline std::shared_ptr<const policy::Policy> PolicyOf(const std::string& topics) {
  return PolicyOfFile(FileOf(topics));
}

// The agent's buffers have readable bytes behind them, which the JSON parser needs.
inline ByteBuffer Padded(ByteBuffer bytes) {
  bytes.reserve(bytes.size() + kafka::kTailPadding);
  return bytes;
}

inline TestRecord Record(Text key, Text value) {
  TestRecord record;
  record.key = std::move(key);
  record.value = std::move(value);
  return record;
}

// What a producer's record batch looks like: first offset 0, the deltas counted up.
inline ByteBuffer ProducedBatch(std::vector<TestRecord> records, kafka::Codec codec = kafka::Codec::kNone,
                                TestBatch batch = {}) {
  for (size_t i = 0; i < records.size(); ++i) records[i].offsetDelta = static_cast<int32_t>(i);
  batch.count = static_cast<int32_t>(records.size());
  batch.lastOffsetDelta = batch.count - 1;
  batch.attributes = static_cast<int16_t>(batch.attributes | static_cast<int16_t>(codec));
  ByteBuffer payload;
  EXPECT_TRUE(kafka::Compress(codec, RecordsBytes(records), payload).ok());
  return Padded(BatchBytes(batch, payload));
}

// A batch of magic 2 that was taken apart again.
struct ReadBatch {
  kafka::BatchHeader header;
  std::vector<TestRecord> records;
  std::vector<std::string> timestampDeltas;  // raw, as all deltas must stay byte for byte
};

inline kafka::BatchView ViewOf(Bytes bytes) {
  kafka::BatchReader reader(bytes);
  kafka::BatchView view;
  EXPECT_EQ(reader.Next(view), kafka::BatchReader::Result::kBatch) << reader.status();
  return view;
}

inline std::string Owned(Bytes bytes) { return std::string(AsText(bytes)); }
inline Text OwnedText(const std::optional<Bytes>& bytes) {
  return bytes.has_value() ? Text(Owned(*bytes)) : std::nullopt;
}

inline ReadBatch Read(Bytes bytes) {
  ReadBatch batch;
  const kafka::BatchView view = ViewOf(bytes);
  EXPECT_EQ(view.whole.size(), bytes.size()) << "something follows the batch";
  EXPECT_TRUE(kafka::CheckCrc(view).ok());
  batch.header = view.header;
  ByteBuffer scratch;
  const absl::StatusOr<Bytes> records = kafka::UncompressedRecords(view, 1 << 30, scratch);
  EXPECT_TRUE(records.ok()) << records.status();
  if (!records.ok()) return batch;
  kafka::RecordReader reader(*records, view.header.count);
  kafka::RecordView record;
  while (reader.Next(record)) {
    TestRecord& read = batch.records.emplace_back();
    read.key = OwnedText(record.key);
    read.value = OwnedText(record.value);
    read.offsetDelta = record.offsetDelta;
    batch.timestampDeltas.push_back(Owned(record.timestampDelta));
    kafka::HeaderReader headers(record);
    kafka::HeaderView header;
    while (headers.Next(header)) read.headers.emplace_back(std::string(header.key), OwnedText(header.value));
    EXPECT_TRUE(headers.status().ok());
  }
  EXPECT_TRUE(reader.status().ok()) << reader.status();
  return batch;
}

inline bool SameContent(const TestRecord& a, const TestRecord& b) {
  return a.key == b.key && a.value == b.value && a.headers == b.headers && a.offsetDelta == b.offsetDelta;
}

// Everything of a batch header that neither sealing nor opening may change.
inline void ExpectSameButForCodecAndSize(kafka::BatchHeader a, kafka::BatchHeader b) {
  for (kafka::BatchHeader* header : {&a, &b}) {
    header->length = 0;
    header->crc = 0;
    header->count = 0;
    header->attributes = static_cast<int16_t>(header->attributes & ~kafka::BatchHeader::kCodecMask);
  }
  EXPECT_TRUE(a == b);
}

class BatchTest : public keys::KeyTest {
 protected:
  BatchTest() : service_(Open()), scratch_(std::make_unique<WorkerScratch>(*service_)) {}

  void UsePolicy(const std::string& topics) { policy_ = PolicyOf(topics); }
  const policy::TopicPolicy* Topic(std::string_view name = "clicks") const {
    const policy::TopicPolicy* topic = policy_->Find(name);
    EXPECT_NE(topic, nullptr) << name;
    return topic;
  }
  // The topic "clicks" whose records are each sealed with their user's key; the user is at /user of the value.
  void UseUserKeys(const std::string& more = "") {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}])" +
              more + "}");
  }
  void UseTopicKey(const std::string& more = "") {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "topic"}, "read": [{"any": true}])" + more + "}");
  }

  void FetchMissing(Needs needs) {
    keys::FetchResult result = Ask(*service_, std::move(needs.keys));
    for (keys::FetchResult::ByScope& found : result.scopes) {
      userOf_[found.key.id] = found.name.subject;
      found.key.facts = facts_[found.name.subject];
    }
    for (keys::FetchResult::ById& found : result.ids) found.key.facts = facts_[userOf_[found.id]];
    const absl::Status delivered = scratch_->keyCache.Deliver(std::move(result));
    EXPECT_TRUE(delivered.ok()) << delivered;
  }
  // What is known of the user, of keys that are fetched from now on.
  void Know(const std::string& user, users::UserFacts facts) {
    EXPECT_TRUE(users::Check(facts).ok());
    facts_[user] = std::make_shared<const users::UserFacts>(std::move(facts));
  }

  SealTask TaskToSeal(Bytes records, std::string_view topic = "clicks") const {
    SealTask task;
    task.topic = Topic(topic);
    task.topicName = topic;
    task.cluster = "main";
    task.records = records;
    return task;
  }
  OpenTask TaskToOpen(std::string_view topic = "clicks") const {
    OpenTask task;
    task.topic = Topic(topic);
    task.topicName = topic;
    return task;
  }

  SealOutcome Seal(const SealTask& task, ByteBuffer& out) {
    SealOutcome outcome = SealBatch(task, *scratch_, out);
    if (outcome.kind == SealOutcome::Kind::kNeeds) {
      FetchMissing(std::move(outcome.needs));
      outcome = SealBatch(task, *scratch_, out);
    }
    return outcome;
  }
  SealOutcome Seal(Bytes records) {
    ByteBuffer out;
    return Seal(TaskToSeal(records), out);
  }
  ByteBuffer Sealed(const SealTask& task) {
    ByteBuffer out;
    const SealOutcome outcome = Seal(task, out);
    EXPECT_EQ(outcome.kind, SealOutcome::Kind::kSealed) << outcome.refusal.message;
    return out;
  }
  ByteBuffer Sealed(Bytes records) { return Sealed(TaskToSeal(records)); }
  ByteBuffer Sealed(std::vector<TestRecord> records, TestBatch batch = {}) {
    return Sealed(ProducedBatch(std::move(records), kafka::Codec::kNone, batch));
  }

  OpenOutcome OpenTo(const OpenTask& task, Bytes bytes, ByteBuffer& out) {
    OpenOutcome outcome = OpenBatch(task, ViewOf(bytes), *scratch_, out);
    // The users that rules name come first, then the records' keys.
    for (int fetches = 0; outcome.kind == OpenOutcome::Kind::kNeeds && fetches < 2; ++fetches) {
      FetchMissing(std::move(outcome.needs));
      outcome = OpenBatch(task, ViewOf(bytes), *scratch_, out);
    }
    return outcome;
  }
  OpenOutcome OpenAgain(Bytes bytes) {
    ByteBuffer out;
    OpenOutcome outcome = OpenTo(TaskToOpen(), bytes, out);
    EXPECT_EQ(out.empty(), outcome.kind != OpenOutcome::Kind::kRewritten);
    return outcome;
  }
  ReadBatch Opened(const OpenTask& task, Bytes bytes) {
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(task, bytes, out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
    return outcome.kind == OpenOutcome::Kind::kRewritten ? Read(out) : ReadBatch();
  }
  ReadBatch Opened(Bytes bytes) { return Opened(TaskToOpen(), bytes); }

  void Erase(const std::string& user) {
    const auto erased = service_->Erase(std::nullopt, user);
    EXPECT_TRUE(erased.ok()) << erased.status();
  }

  static std::string Click(const std::string& user) { return R"({"user": ")" + user + R"(", "page": "/home"})"; }
  static TestRecord ClickOf(const std::string& user) { return Record("key-" + user, Click(user)); }

  std::shared_ptr<const policy::Policy> policy_;
  std::unique_ptr<keys::KeyService> service_;
  std::unique_ptr<WorkerScratch> scratch_;
  std::map<std::string, users::SharedFacts> facts_;  // by user
  absl::flat_hash_map<crypto::KeyId, std::string> userOf_;
};

}  // namespace kveil::guard
