// Record batches: what the `records` field of Produce and Fetch holds, one after the other.
//
//   BatchReader reader(records);
//   BatchView batch;
//   for (;;) {
//     switch (reader.Next(batch)) { case BatchReader::Result::kBatch: ...; case kEnd: ...; }
//   }
//
// Layout of magic 2: KIP-98, org.apache.kafka.common.record.DefaultRecordBatch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka/compression.h"
#include "kafka/record.h"

namespace kveil::kafka {

// baseOffset and length: what comes before the bytes that `length` counts.
inline constexpr size_t kBatchPrefixSize = 8 + 4;
// The prefix, then leader epoch, magic, crc, attributes, last offset delta, base and max timestamp, producer id and
// epoch, base sequence, count.
inline constexpr size_t kBatchHeaderSize = kBatchPrefixSize + 4 + 1 + 4 + 2 + 4 + 8 + 8 + 8 + 2 + 4 + 4;
// The checksum covers everything from the attributes on.
inline constexpr size_t kBatchCrcStart = kBatchPrefixSize + 4 + 1 + 4;

struct BatchHeader {
  static constexpr int16_t kCodecMask = 0x07;
  static constexpr int16_t kLogAppendTimeBit = 0x08;
  static constexpr int16_t kTransactionalBit = 0x10;
  static constexpr int16_t kControlBit = 0x20;
  static constexpr int16_t kDeleteHorizonBit = 0x40;

  int64_t baseOffset = 0;
  int32_t length = 0;  // bytes after this field
  int32_t partitionLeaderEpoch = -1;
  int8_t magic = 2;
  uint32_t crc = 0;
  int16_t attributes = 0;
  int32_t lastOffsetDelta = 0;
  int64_t baseTimestamp = 0;
  int64_t maxTimestamp = 0;
  int64_t producerId = -1;
  int16_t producerEpoch = -1;
  int32_t baseSequence = -1;
  int32_t count = 0;

  Codec codec() const { return static_cast<Codec>(attributes & kCodecMask); }
  bool isLogAppendTime() const { return (attributes & kLogAppendTimeBit) != 0; }
  bool isTransactional() const { return (attributes & kTransactionalBit) != 0; }
  bool isControl() const { return (attributes & kControlBit) != 0; }
  bool hasDeleteHorizon() const { return (attributes & kDeleteHorizonBit) != 0; }
  bool isIdempotent() const { return producerId >= 0; }
  int64_t lastOffset() const { return baseOffset + lastOffsetDelta; }
  size_t size() const { return kBatchPrefixSize + static_cast<size_t>(length); }

  friend bool operator==(const BatchHeader&, const BatchHeader&) = default;
};

// One batch in place. Magic 0 and 1 (messages from before Kafka 0.11) have only baseOffset, length and magic in the
// header and no payload: such a message cannot carry an envelope.
struct BatchView {
  BatchHeader header;
  Bytes whole;
  Bytes payload;  // the records, compressed as header.codec() says

  bool isLegacy() const { return header.magic < 2; }
};

class BatchReader {
 public:
  enum class Result {
    kBatch,      // one was read
    kEnd,        // nothing is left
    kPartial,    // the bytes end inside a batch, as brokers may cut a fetch: rest() holds what there is
    kMalformed,  // status() says why; nothing after this point can be told apart
  };

  explicit BatchReader(Bytes records) : rest_(records) {}

  Result Next(BatchView& batch);
  // What was not read yet.
  Bytes rest() const { return rest_; }
  absl::Status status() const { return status_; }

 private:
  Result Malformed(const char* problem);

  Bytes rest_;
  absl::Status status_;
};

// Returns kDataLoss if the checksum is wrong. Only for batches of magic 2: callers check that first.
absl::Status CheckCrc(const BatchView& batch);

// Returns the records of the batch: its payload itself if it is not compressed, or else the payload decompressed into
// `scratch`, whose content it replaces. Errors are those of Decompress.
absl::StatusOr<Bytes> UncompressedRecords(const BatchView& batch, size_t limit, ByteBuffer& scratch);

// Writes the kBatchHeaderSize bytes of a header of magic 2, just as its fields are.
void StoreBatchHeader(const BatchHeader& header, uint8_t* to);

}  // namespace kveil::kafka
