// How batches are told apart and their headers read and written.
#include "kafka/record_batch.h"

#include "base/crc32c.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "kafka/big_endian.h"

namespace kveil::kafka {
namespace {

// The magic is at the same place in all formats (MessageSet entries: offset, size, crc, magic).
constexpr size_t kMagicOffset = 16;
// crc, magic, attributes, key length, value length: the smallest message of magic 0.
constexpr int32_t kMinLegacyLength = 4 + 1 + 1 + 4 + 4;

// Walks a fixed layout: each call reads or writes the next field.
class FieldCursor {
 public:
  explicit FieldCursor(const uint8_t* at) : at_(at) {}
  template <typename Integer>
  void operator()(Integer& value) {
    value = LoadBigEndian<Integer>(at_);
    at_ += sizeof(value);
  }

 private:
  const uint8_t* at_;
};

class FieldStore {
 public:
  explicit FieldStore(uint8_t* at) : at_(at) {}
  template <typename Integer>
  void operator()(Integer value) {
    StoreBigEndian(at_, value);
    at_ += sizeof(value);
  }

 private:
  uint8_t* at_;
};

// The order of the fields, for both.
template <class Field, class Header>
void DescribeHeader(Field field, Header& header) {
  field(header.baseOffset);
  field(header.length);
  field(header.partitionLeaderEpoch);
  field(header.magic);
  field(header.crc);
  field(header.attributes);
  field(header.lastOffsetDelta);
  field(header.baseTimestamp);
  field(header.maxTimestamp);
  field(header.producerId);
  field(header.producerEpoch);
  field(header.baseSequence);
  field(header.count);
}

}  // namespace

void StoreBatchHeader(const BatchHeader& header, uint8_t* to) { DescribeHeader(FieldStore(to), header); }

BatchReader::Result BatchReader::Malformed(const char* problem) {
  status_ = absl::InvalidArgumentError(StrCat("record batch: ", problem));
  return Result::kMalformed;
}

BatchReader::Result BatchReader::Next(BatchView& batch) {
  if (!status_.ok()) return Result::kMalformed;
  if (rest_.empty()) return Result::kEnd;
  if (rest_.size() <= kMagicOffset) return Result::kPartial;
  const auto length = LoadBigEndian<int32_t>(rest_.data() + sizeof(int64_t));
  const auto magic = LoadBigEndian<int8_t>(rest_.data() + kMagicOffset);
  if (magic < 0 || magic > 2) return Malformed("unknown magic");
  const auto minLength = magic == 2 ? static_cast<int32_t>(kBatchHeaderSize - kBatchPrefixSize) : kMinLegacyLength;
  if (length < minLength) return Malformed("the length is too short for a batch");
  const size_t size = kBatchPrefixSize + static_cast<size_t>(length);
  if (size > rest_.size()) return Result::kPartial;
  batch.whole = rest_.first(size);
  batch.header = BatchHeader();
  if (magic == 2) {
    DescribeHeader(FieldCursor(rest_.data()), batch.header);
    batch.payload = batch.whole.subspan(kBatchHeaderSize);
  } else {
    batch.header.baseOffset = LoadBigEndian<int64_t>(rest_.data());
    batch.header.length = length;
    batch.header.magic = magic;
    batch.payload = Bytes();
  }
  rest_.remove_prefix(size);
  return Result::kBatch;
}

absl::Status CheckCrc(const BatchView& batch) {
  if (Crc32c(batch.whole.subspan(kBatchCrcStart)) == batch.header.crc) return absl::OkStatus();
  return absl::DataLossError("record batch: the CRC is wrong");
}

absl::StatusOr<Bytes> UncompressedRecords(const BatchView& batch, size_t limit, ByteBuffer& scratch) {
  if (batch.header.codec() == Codec::kNone) return batch.payload;
  RETURN_IF_ERROR(Decompress(batch.header.codec(), batch.payload, limit, scratch));
  return Bytes(scratch);
}

}  // namespace kveil::kafka
