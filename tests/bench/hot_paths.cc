// What every record passes on its way, for scripts/instructions to count: runs each path some times between two marks
// of callgrind, which dumps the instructions in between under the path's name. Without valgrind it does the same and
// tells nobody.
#include <valgrind/callgrind.h>

#include <cstdio>
#include <string>

#include "kafka/frame.h"
#include "kafka/messages/produce.h"
#include "sealing.h"

namespace kveil::guard {
namespace {

constexpr int kRuns = 4;
constexpr size_t kValueSize = 100;
constexpr uint32_t kUsers = 1000;
constexpr int kPartitions = 100;
constexpr int16_t kProduceVersion = 9;

// Counts what `path` does, and prints its name and how often it did that for one: a record, or a partition.
template <typename Path>
void Count(const char* name, int64_t each, const Path& path) {
  path();  // what is done once is done
  CALLGRIND_START_INSTRUMENTATION;
  CALLGRIND_ZERO_STATS;
  for (int run = 0; run < kRuns; ++run) path();
  CALLGRIND_DUMP_STATS_AT(name);
  CALLGRIND_STOP_INSTRUMENTATION;
  std::printf("%s\t%lld\n", name, static_cast<long long>(each * kRuns));
}

void CountSealingAndOpening(const char* seal, const char* open, bool perUser) {
  Node node(perUser);
  uint32_t random = 1;
  const ByteBuffer produced = ProducedBatch({.count = kUsers}, kValueSize, random);
  ByteBuffer out;
  SealFetching(node, produced, out);
  Count(seal, kRecords, [&] {
    if (Seal(node, produced, out).kind != SealOutcome::Kind::kSealed) abort();
  });
  ByteBuffer sealed = out;
  sealed.reserve(sealed.size() + kafka::kTailPadding);
  Count(open, kRecords, [&] {
    if (Open(node, sealed, out).kind != OpenOutcome::Kind::kRewritten) abort();
  });
}

// What is read of a request whose topics have no policy, and of the batches in it.
void CountParsing() {
  uint32_t random = 1;
  const ByteBuffer batch = ProducedBatch({.count = kUsers}, kValueSize, random);
  kafka::ProduceRequest request;
  request.topicData.resize(1);
  request.topicData[0].name = "t";
  for (int i = 0; i < kPartitions; ++i) {
    request.topicData[0].partitionData.push_back({.index = i, .records = Bytes(batch)});
  }
  kafka::FrameWriter writer;
  kafka::WriteRequestHeader(kafka::ApiKey::kProduce, kProduceVersion, 1, "client", writer);
  kafka::Encode(request, kProduceVersion, writer);
  const ByteBuffer frame = writer.ToBuffer();
  Count("relay: parse a produce request, per partition", kPartitions, [&] {
    const auto header = kafka::ReadRequestHeader(frame);
    if (!header.ok()) abort();
    const auto parsed = kafka::Decode<kafka::ProduceRequest>(Bytes(frame).subspan(header->size), header->version);
    if (!parsed.ok()) abort();
  });
  Count("relay: walk a batch, per record", kRecords, [&] {
    kafka::BatchView view;
    if (kafka::BatchReader(batch).Next(view) != kafka::BatchReader::Result::kBatch) abort();
    if (!kafka::CheckCrc(view).ok()) abort();
    kafka::RecordReader reader(view.payload, view.header.count);
    for (kafka::RecordView record; reader.Next(record);) continue;
    if (!reader.status().ok()) abort();
  });
}

}  // namespace
}  // namespace kveil::guard

int main() {
  kveil::guard::CountSealingAndOpening("topic scope: seal, per record", "topic scope: open, per record", false);
  kveil::guard::CountSealingAndOpening("user scope: seal, per record", "user scope: open, per record", true);
  kveil::guard::CountParsing();
}
