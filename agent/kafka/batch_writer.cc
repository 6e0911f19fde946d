// How batches are rebuilt.
#include "kafka/batch_writer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/crc32c.h"
#include "base/short_runs.h"
#include "base/status_macros.h"
#include "kafka/big_endian.h"
#include "kafka/varint.h"

namespace kveil::kafka {
namespace {

constexpr size_t kMaxBatchSize = std::numeric_limits<int32_t>::max();
// `out` grows by this at least, so that a record rarely has to look further than its size.
constexpr size_t kMinGrowth = 16 * 1024;

// Resizes; of the content only the first `used` bytes must survive. (A vector of this allocator moves its bytes one by
// one.)
void Grow(ByteBuffer& buffer, size_t used, size_t size) {
  if (size <= buffer.capacity()) {
    buffer.resize(size);
    return;
  }
  ByteBuffer larger;
  larger.reserve(std::max(size, 2 * buffer.capacity()));
  larger.resize(size);
  if (used != 0) std::memcpy(larger.data(), buffer.data(), used);
  buffer.swap(larger);
}

size_t SizeWithLength(size_t size) { return VarintSize(static_cast<int32_t>(size)) + size; }

uint8_t* WriteWithLength(uint8_t* to, Bytes bytes) {
  return CopyRun(WriteVarint(to, static_cast<int32_t>(bytes.size())), bytes);
}

// What a record's headers become: how many, and in how many bytes.
struct HeaderSize {
  int32_t count;
  size_t bytes;
};

// Writes the header of a batch whose records are in place, and the CRC over both.
void CompleteBatch(BatchHeader header, MutableBytes batch) {
  header.length = static_cast<int32_t>(batch.size() - kBatchPrefixSize);
  header.crc = 0;
  StoreBatchHeader(header, batch.data());
  const uint32_t crc = Crc32c(batch.subspan(kBatchCrcStart));
  StoreBigEndian(batch.data() + kBatchCrcStart - sizeof(crc), crc);
}

uint8_t* WriteWithoutRange(uint8_t* to, Bytes headers, Bytes range) {
  const auto before = static_cast<size_t>(range.data() - headers.data());
  to = CopyRun(to, headers.first(before));
  return CopyRun(to, headers.subspan(before + range.size()));
}

}  // namespace

HeaderEdit HeaderEdit::Append(std::string_view key, Bytes value) {
  HeaderEdit edit(Kind::kAppend);
  edit.key_ = key;
  edit.value_ = value;
  return edit;
}

HeaderEdit HeaderEdit::Remove(Bytes whole) {
  HeaderEdit edit(Kind::kRemove);
  edit.removed_ = whole;
  return edit;
}

HeaderEdit HeaderEdit::Exchange(Bytes whole, std::string_view key, Bytes value) {
  HeaderEdit edit(Kind::kExchange);
  edit.removed_ = whole;
  edit.key_ = key;
  edit.value_ = value;
  return edit;
}

void BatchWriter::Begin(const BatchHeader& original, ByteBuffer& out) {
  header_ = original;
  out_ = &out;
  batch_ = original.codec() == Codec::kNone ? &out : &own_;
  start_ = batch_ == &out ? out.size() : 0;
  used_ = start_;
  count_ = 0;
  Reserve(kBatchHeaderSize);
}

// Room for that many bytes, with the tail padding behind it.
uint8_t* BatchWriter::Reserve(size_t size) {
  const size_t needed = used_ + size + kTailPadding;
  if (needed > batch_->size()) Grow(*batch_, used_, needed + std::max(kMinGrowth, (needed - start_) / 2));
  uint8_t* room = batch_->data() + used_;
  used_ += size;
  return room;
}

uint8_t* BatchWriter::AddRecord(const RecordView& original, size_t valueSize, const HeaderEdit& edit) {
  using Kind = HeaderEdit::Kind;
  HeaderSize headers = {original.headerCount, original.headers.size()};
  switch (edit.kind_) {
    case Kind::kKeep:
      break;
    case Kind::kAppend:
      headers = {headers.count + 1,
                 headers.bytes + SizeWithLength(edit.key_.size()) + SizeWithLength(edit.value_.size())};
      break;
    case Kind::kAppendWhole:
      headers = {headers.count + 1, headers.bytes + edit.value_.size()};
      break;
    case Kind::kRemove:
      headers = {headers.count - 1, headers.bytes - edit.removed_.size()};
      break;
    case Kind::kExchange:
      headers.bytes += SizeWithLength(edit.key_.size()) + SizeWithLength(edit.value_.size()) - edit.removed_.size();
      break;
  }
  const auto valueLength = static_cast<int32_t>(valueSize);  // -1 of a null value
  if (valueSize == kNullValue) valueSize = 0;
  const size_t length =
      original.beforeValue.size() + VarintSize(valueLength) + valueSize + VarintSize(headers.count) + headers.bytes;
  ++count_;
  uint8_t* to = Reserve(VarintSize(static_cast<int32_t>(length)) + length);
  to = WriteVarint(to, static_cast<int32_t>(length));
  to = CopyRun(to, original.beforeValue);
  to = WriteVarint(to, valueLength);
  uint8_t* const value = to;
  to = WriteVarint(to + valueSize, headers.count);
  switch (edit.kind_) {
    case Kind::kKeep:
      CopyRun(to, original.headers);
      break;
    case Kind::kAppend:
      to = WriteWithLength(CopyRun(to, original.headers), AsBytes(edit.key_));
      WriteWithLength(to, edit.value_);
      break;
    case Kind::kAppendWhole:
      CopyRun(CopyRun(to, original.headers), edit.value_);
      break;
    case Kind::kRemove:
      WriteWithoutRange(to, original.headers, edit.removed_);
      break;
    case Kind::kExchange:
      to = WriteWithLength(WriteWithoutRange(to, original.headers, edit.removed_), AsBytes(edit.key_));
      WriteWithLength(to, edit.value_);
      break;
  }
  return value;
}

void BatchWriter::CopyRecord(const RecordView& original) {
  ++count_;
  CopyRun(Reserve(original.whole.size()), original.whole);
}

void BatchWriter::Abandon() {
  if (batch_ == out_) out_->resize(start_);
  used_ = start_;
  count_ = 0;
  out_ = nullptr;
}

void BatchWriter::ShrinkTo(size_t capacity) {
  if (own_.capacity() > capacity) own_ = ByteBuffer();
  if (compressed_.capacity() > capacity) compressed_ = ByteBuffer();
}

// Replaces the records by their compressed form.
absl::Status BatchWriter::CompressRecords(Codec codec) {
  const size_t records = start_ + kBatchHeaderSize;
  RETURN_IF_ERROR(Compress(codec, Bytes(batch_->data() + records, used_ - records), compressed_));
  used_ = records;
  std::memcpy(Reserve(compressed_.size()), compressed_.data(), compressed_.size());
  return absl::OkStatus();
}

absl::Status BatchWriter::Finish(Codec codec) {
  absl::Status status;
  if (count_ == 0) {
    status = absl::FailedPreconditionError("record batch: no record is left to write");
  } else if (size() > kMaxBatchSize) {
    status = absl::ResourceExhaustedError("record batch: longer than 2 GiB");
  } else if (codec != Codec::kNone) {
    status = CompressRecords(codec);
  }
  if (!status.ok()) {
    Abandon();
    return status;
  }
  header_.attributes =
      static_cast<int16_t>((header_.attributes & ~BatchHeader::kCodecMask) | static_cast<int16_t>(codec));
  header_.count = count_;
  batch_->resize(used_);
  CompleteBatch(header_, MutableBytes(batch_->data() + start_, size()));
  if (batch_ != out_) {
    const size_t before = out_->size();
    Grow(*out_, before, before + own_.size() + kTailPadding);
    std::memcpy(out_->data() + before, own_.data(), own_.size());
    out_->resize(before + own_.size());
  }
  out_ = nullptr;
  return absl::OkStatus();
}

void AppendControlFiller(const BatchHeader& hidden, ByteBuffer& out) {
  // The key of a control record: version 0, type 1 (COMMIT). The value: version 0, coordinator epoch 0.
  constexpr std::array<uint8_t, 4> kCommitKey = {0, 0, 0, 1};
  constexpr std::array<uint8_t, 6> kCommitValue = {};
  BatchHeader header;
  header.baseOffset = hidden.baseOffset;
  header.partitionLeaderEpoch = hidden.partitionLeaderEpoch;
  header.attributes = BatchHeader::kControlBit | (hidden.attributes & BatchHeader::kLogAppendTimeBit);
  header.lastOffsetDelta = hidden.lastOffsetDelta;
  // With a delete horizon the base timestamp is that horizon and no record's time.
  header.baseTimestamp = hidden.hasDeleteHorizon() ? hidden.maxTimestamp : hidden.baseTimestamp;
  header.maxTimestamp = hidden.maxTimestamp;
  header.count = 1;

  // Attributes, timestamp delta, offset delta, key, value, header count; all lengths are below 64, one byte each.
  const size_t length =
      1 + 1 + VarintSize(hidden.lastOffsetDelta) + 1 + kCommitKey.size() + 1 + kCommitValue.size() + 1;
  const size_t start = out.size();
  const size_t size = kBatchHeaderSize + 1 + length;
  Grow(out, start, start + size + kTailPadding);
  uint8_t* to = WriteVarint(out.data() + start + kBatchHeaderSize, static_cast<int32_t>(length));
  *to++ = 0;
  *to++ = 0;
  to = WriteVarint(to, hidden.lastOffsetDelta);
  to = WriteWithLength(to, kCommitKey);
  to = WriteWithLength(to, kCommitValue);
  *to = 0;
  out.resize(start + size);
  CompleteBatch(header, MutableBytes(out.data() + start, size));
}

ByteBuffer MakeControlFiller(const BatchHeader& hidden) {
  ByteBuffer filler;
  AppendControlFiller(hidden, filler);
  return filler;
}

}  // namespace kveil::kafka
