// Batches that are sealed and opened with keys of a real key service: what opens is what was sealed, a changed byte
// opens as nothing else, and no batch, sealed by us or by nobody, is too much for OpenBatch.
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "../unit/kafka/batch_builder.h"
#include "base/text.h"
#include "fuzz.h"
#include "guard/open/batch_opener.h"
#include "guard/seal/batch_sealer.h"
#include "kafka/big_endian.h"
#include "kafka/compression.h"
#include "kafka/record_batch.h"
#include "policy/policy.h"

namespace kveil::fuzz {
namespace {

using guard::OpenOutcome;
using guard::SealOutcome;
using kafka::BatchHeader;
using kafka::BatchView;
using kafka::Codec;
using kafka::testing::TestBatch;
using kafka::testing::TestRecord;

constexpr size_t kLimit = 1 << 20;
constexpr char kPolicy[] = R"({"topics": [
  {"name": "0", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]},
  {"name": "1", "seal": {"scope": "user", "user": {"key": true}}, "read": [{"any": true}]},
  {"name": "2", "seal": {"scope": "user", "user": {"header": "user"}}, "read": [{"any": true}]},
  {"name": "3", "seal": {"scope": "topic"}, "read": [{"any": true}], "plaintext": "drop"},
  {"name": "4", "seal": {"scope": "cluster", "compress": "never"}, "read": [{"any": true}]}
]})";
constexpr size_t kTopics = 5;

// The policy, the keys and a worker's scratch, for all inputs.
class World {
 public:
  World() {
    const char* temporary = std::getenv("TMPDIR");
    folder_ = std::string(temporary != nullptr ? temporary : "/tmp") + "/kveil-fuzz-XXXXXX";
    Check(mkdtemp(folder_.data()) != nullptr, "the machine has a folder for temporary files");
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    auto service = keys::KeyService::Open(std::move(options));
    Check(service.ok(), "the key service starts");
    service_ = *std::move(service);
    scratch_ = std::make_unique<guard::WorkerScratch>(*service_);
    const std::vector<std::pair<std::string, std::string>> files = {{"fuzz.json", kPolicy}};
    policy_ = *policy::Policy::Parse(files);
  }
  ~World() {
    scratch_.reset();
    service_.reset();
    std::filesystem::remove_all(folder_);
  }

  SealOutcome Seal(const std::string& topic, Bytes records, ByteBuffer& out) {
    guard::SealTask task;
    task.topic = policy_->Find(topic);
    task.topicName = topic;
    task.cluster = "main";
    task.records = records;
    task.batchLimit = kLimit;
    return Again<SealOutcome>([&] { return SealBatch(task, *scratch_, out); });
  }
  OpenOutcome Open(const std::string& topic, const BatchView& batch, int64_t fetchOffset, bool keepCodec,
                   ByteBuffer& out) {
    guard::OpenTask task;
    task.topic = policy_->Find(topic);
    task.topicName = topic;
    task.fetchOffset = fetchOffset;
    if (keepCodec) task.uncompressedRoom = 0;
    task.batchLimit = 4 * kLimit;
    return Again<OpenOutcome>([&] { return OpenBatch(task, batch, *scratch_, out); });
  }

 private:
  // With the keys that were missing the first time.
  template <class Outcome, class Work>
  Outcome Again(Work work) {
    Outcome outcome = work();
    if (outcome.kind != Outcome::Kind::kNeeds) return outcome;
    while (!outcome.needs.empty()) {
      std::promise<keys::FetchResult> promise;
      scratch_->keyCache.Fetch(outcome.needs.keys.Take(keys::kMostKeysOfAFetch), "fuzz",
                               [&promise](keys::FetchResult result) { promise.set_value(std::move(result)); });
      const absl::Status delivered = scratch_->keyCache.Deliver(promise.get_future().get());
      Check(delivered.ok(), "the keys are to be had");
    }
    outcome = work();
    Check(outcome.kind != Outcome::Kind::kNeeds, "no key is missing after it was fetched");
    return outcome;
  }

  std::string folder_;
  std::unique_ptr<keys::KeyService> service_;
  std::unique_ptr<guard::WorkerScratch> scratch_;
  std::shared_ptr<const policy::Policy> policy_;
};

World& TheWorld() {
  static World world;
  return world;
}

// The agent's buffers have readable bytes behind them, which the JSON parser needs.
ByteBuffer Padded(Bytes bytes) {
  ByteBuffer padded;
  padded.reserve(bytes.size() + kafka::kTailPadding);
  padded.assign(bytes.begin(), bytes.end());
  return padded;
}

kafka::testing::Text TakeText(Input& input, size_t most) {
  const size_t size = input.Byte() % (most + 2);
  if (size == most + 1) return std::nullopt;
  return std::string(AsText(input.Take(size)));
}

// One record of every shape; few users, as each new one is a transaction of the registry.
TestRecord TakeRecord(Input& input) {
  TestRecord record;
  const uint8_t shape = input.Byte();
  const std::string user = std::to_string(shape % 4);
  record.key = (shape & 4) != 0 ? kafka::testing::Text(user) : TakeText(input, 3);
  record.value = TakeText(input, 60);
  if ((shape & 8) != 0 && record.value.has_value()) {
    record.value = R"({"user": )" + user + R"(, "x": ")" + *record.value + "\"}";
  }
  if ((shape & 16) != 0) record.headers.emplace_back("user", user);
  if ((shape & 32) != 0) record.headers.emplace_back(TakeText(input, 6).value_or("kveil"), TakeText(input, 40));
  if ((shape & 64) != 0 && record.value.has_value()) record.value->append(size_t{64} * input.Byte(), 'x');
  record.timestampDelta = input.Byte();
  return record;
}

ByteBuffer TakeBatch(Input& input) {
  TestBatch batch;
  const uint8_t codec = input.Byte();
  batch.attributes = static_cast<int16_t>((codec & ~BatchHeader::kCodecMask & 0x58) | codec % 5);
  std::vector<TestRecord> records;
  const size_t count = 1 + input.Byte() % 8;
  for (size_t i = 0; i < count; ++i) {
    records.push_back(TakeRecord(input));
    records.back().offsetDelta = static_cast<int32_t>(i);
  }
  batch.count = static_cast<int32_t>(count);
  batch.lastOffsetDelta = batch.count - 1;
  ByteBuffer payload;
  Check(kafka::Compress(static_cast<Codec>(codec % 5), kafka::testing::RecordsBytes(records), payload).ok(),
        "anything can be compressed");
  return Padded(kafka::testing::BatchBytes(batch, payload));
}

struct Content {
  std::vector<std::string> records;      // attributes, deltas, key, value and headers of each
  std::multiset<std::string> keyValues;  // key and value of each, which is what the seal is about
};

std::string TextOf(const std::optional<Bytes>& bytes) {
  return bytes.has_value() ? StrCat(bytes->size(), "=", AsText(*bytes)) : "null";
}

Content ContentOf(const BatchView& batch) {
  Content content;
  ByteBuffer scratch;
  const auto records = kafka::UncompressedRecords(batch, 16 * kLimit, scratch);
  Check(records.ok(), "what was written can be decompressed");
  kafka::RecordReader reader(*records, batch.header.count);
  for (kafka::RecordView record; reader.Next(record);) {
    const std::string keyValue = TextOf(record.key) + " " + TextOf(record.value);
    content.keyValues.insert(keyValue);
    content.records.push_back(StrCat(AsText(record.beforeValue), "|", keyValue, "|", AsText(record.headers)));
  }
  Check(reader.status().ok(), "what was written can be read");
  return content;
}

BatchView ViewOf(Bytes bytes) {
  kafka::BatchReader reader(bytes);
  BatchView view;
  Check(reader.Next(view) == kafka::BatchReader::Result::kBatch && reader.rest().empty(), "what is written is a batch");
  return view;
}

// What was opened although some bytes were changed is still nothing but what was sealed.
void OpenChanged(const std::string& topic, const BatchView& sealed, const Content& original, Input input) {
  ByteBuffer scratch;
  const auto records = kafka::UncompressedRecords(sealed, 16 * kLimit, scratch);
  ByteBuffer changed = Padded(*records);
  for (int i = 0; i < 4 && !input.empty() && !changed.empty(); ++i) {
    uint8_t& place = changed[input.Below(changed.size())];
    place = static_cast<uint8_t>(place ^ input.Byte());
  }
  BatchView batch = sealed;
  batch.header.attributes = static_cast<int16_t>(batch.header.attributes & ~BatchHeader::kCodecMask);
  batch.payload = changed;
  ByteBuffer out;
  const OpenOutcome outcome = TheWorld().Open(topic, batch, 0, false, out);
  if (outcome.kind != OpenOutcome::Kind::kRewritten) {
    Check(out.empty(), "a batch that is not opened leaves nothing behind");
    return;
  }
  const BatchView opened = ViewOf(out);
  if (opened.header.isControl()) return;
  uint64_t same = 0;
  for (const std::string& keyValue : ContentOf(opened).keyValues) same += original.keyValues.count(keyValue) != 0;
  Check(outcome.opened <= same, "a changed record does not open");
}

void SealAndOpen(const std::string& topic, Bytes produced, Input input) {
  ByteBuffer sealed;
  const SealOutcome outcome = TheWorld().Seal(topic, produced, sealed);
  if (outcome.kind == SealOutcome::Kind::kRefused) {
    Check(sealed.empty(), "a batch that is refused leaves nothing behind");
    Check(!outcome.refusal.message.empty(), "a refusal has words");
    return;
  }
  const Content before = ContentOf(ViewOf(produced));
  const BatchView view = ViewOf(sealed);
  Check(kafka::CheckCrc(view).ok(), "a sealed batch has the right checksum");
  ByteBuffer out;
  const bool keepCodec = input.Bit();
  const OpenOutcome opened = TheWorld().Open(topic, view, view.header.baseOffset, keepCodec, out);
  if (outcome.sealed == 0) {
    Check(opened.kind == OpenOutcome::Kind::kUnchanged, "a batch of tombstones passes as it is");
    return;
  }
  Check(opened.kind == OpenOutcome::Kind::kRewritten, "what was sealed opens");
  Check(opened.opened == outcome.sealed && opened.erased == 0, "every record that was sealed opens");
  const BatchView after = ViewOf(out);
  Check(ContentOf(after).records == before.records, "what opens is what was sealed");
  Check(kafka::CheckCrc(after).ok(), "an opened batch has the right checksum");
  Check(!keepCodec || after.header.codec() == view.header.codec(), "an opened batch keeps its codec where asked to");
  OpenChanged(topic, view, before, input);
}

// Sets length, magic and checksum right, so that what lies behind them is reached.
ByteBuffer Repaired(Bytes bytes) {
  ByteBuffer batch = Padded(bytes);
  if (batch.size() < kafka::kBatchHeaderSize) batch.resize(kafka::kBatchHeaderSize, 0);
  kafka::StoreBigEndian(batch.data() + 8, static_cast<int32_t>(batch.size() - kafka::kBatchPrefixSize));
  batch[16] = 2;
  kafka::StoreBigEndian(batch.data() + 17, kafka::testing::SlowCrc32c(Bytes(batch).subspan(kafka::kBatchCrcStart)));
  return Padded(batch);
}

void OpenForeign(const std::string& topic, Bytes bytes, int64_t fetchOffset, bool keepCodec) {
  kafka::BatchReader reader(bytes);
  BatchView batch;
  if (reader.Next(batch) != kafka::BatchReader::Result::kBatch) return;
  ByteBuffer out = {'b', 'e', 'f', 'o', 'r', 'e'};
  const OpenOutcome outcome = TheWorld().Open(topic, batch, fetchOffset, keepCodec, out);
  if (outcome.kind != OpenOutcome::Kind::kRewritten) {
    Check(out.size() == 6, "a batch that is not rewritten leaves nothing behind");
    Check(outcome.kind != OpenOutcome::Kind::kStop || !outcome.problem.empty(), "a stop has words");
    return;
  }
  const BatchView rewritten = ViewOf(Bytes(out).subspan(6));
  Check(rewritten.header.baseOffset == batch.header.baseOffset, "a rewritten batch keeps its offset");
  Check(kafka::CheckCrc(rewritten).ok(), "a rewritten batch has the right checksum");
}

}  // namespace

// The first byte picks the topic and whether the input is a batch as it is, or says how to make one.
void Run(Bytes bytes) {
  Input input(bytes);
  const uint8_t first = input.Byte();
  const std::string topic = std::to_string(first % kTopics);
  switch (first / kTopics % 3) {
    case 0: {
      const ByteBuffer produced = TakeBatch(input);
      return SealAndOpen(topic, produced, input);
    }
    case 1: {
      const ByteBuffer produced = Repaired(input.rest());
      return SealAndOpen(topic, produced, Input(input.rest()));
    }
    default: {
      const bool keepCodec = input.Bit();
      const auto fetchOffset = static_cast<int64_t>(input.Byte()) - 1;
      return OpenForeign(topic, Repaired(input.rest()), fetchOffset, keepCodec);
    }
  }
}

}  // namespace kveil::fuzz
