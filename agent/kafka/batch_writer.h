// Builds record batches of magic 2 from the records of another: sealed, opened, or with records left out.
//
//   writer.Begin(batch.header, out);                                     // appends to `out`
//   uint8_t* value = writer.AddRecord(record, sealedSize, HeaderEdit::Append("kveil", envelope));
//   Seal(..., value);                                                    // before the next call
//   absl::Status status = writer.Finish(batch.header.codec());
//
// Whatever a reader or the broker relies on is copied from the original: offsets and deltas, timestamps, producer
// fields, sequence, lastOffsetDelta, all attributes except the codec. Count, length and CRC are computed. Nothing is
// allocated per record: buffers grow as a whole and are reused. A batch whose original is compressed is built in the
// writer's own memory, so `out` takes no more than the finished batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "kafka/compression.h"
#include "kafka/record.h"
#include "kafka/record_batch.h"

namespace kveil::kafka {

// What happens to a record's headers. It refers to its arguments until AddRecord copies them.
class HeaderEdit {
 public:
  static HeaderEdit Keep() { return HeaderEdit(Kind::kKeep); }
  // One more header, the last.
  static HeaderEdit Append(std::string_view key, Bytes value);
  // The same for one that is ready, with its lengths: what many records have in common is then written once.
  static HeaderEdit AppendWhole(Bytes header) {
    HeaderEdit edit(Kind::kAppendWhole);
    edit.value_ = header;
    return edit;
  }
  // Without this one header: HeaderView::whole of the same record.
  static HeaderEdit Remove(Bytes whole);
  // Without this one, and with one more, the last.
  static HeaderEdit Exchange(Bytes whole, std::string_view key, Bytes value);

 private:
  friend class BatchWriter;
  enum class Kind : uint8_t { kKeep, kAppend, kAppendWhole, kRemove, kExchange };
  explicit HeaderEdit(Kind kind) : kind_(kind) {}

  Kind kind_;
  std::string_view key_;  // kAppend, kExchange
  Bytes value_;           // kAppend, kExchange; kAppendWhole: raw
  Bytes removed_;         // kRemove, kExchange: raw
};

class BatchWriter {
 public:
  // Starts a batch for the end of `out`, which must stay where it is and not be touched until Finish or Abandon.
  void Begin(const BatchHeader& original, ByteBuffer& out);

  // Adds a record with the original's attributes, deltas and key and a value of that many bytes, or a null one
  // (kNullValue). Returns the address to write the value to, which is valid until the next call.
  static constexpr size_t kNullValue = static_cast<size_t>(-1);
  uint8_t* AddRecord(const RecordView& original, size_t valueSize, const HeaderEdit& edit);
  // The record byte for byte.
  void CopyRecord(const RecordView& original);

  // Takes back what was added since the mark. Not across Begin.
  struct Mark {
    size_t used = 0;
    int32_t count = 0;
  };
  Mark mark() const { return {used_, count_}; }
  void Rewind(const Mark& mark) {
    used_ = mark.used;
    count_ = mark.count;
  }

  // The batch ends here instead, before the original does: with this offset, counted from the first.
  void EndAt(int32_t lastOffsetDelta) { header_.lastOffsetDelta = lastOffsetDelta; }

  int32_t count() const { return count_; }
  // Bytes of the batch so far, header included, not compressed.
  size_t size() const { return used_ - start_; }

  // Completes the batch: compresses the records when a codec is given, sets codec bits, count, length and CRC. `out`
  // then ends with the batch, with kTailPadding readable bytes behind it. A batch without records is refused
  // (kFailedPrecondition: use AppendControlFiller), as is one longer than 2 GiB (kResourceExhausted); `out` is then as
  // it was before Begin.
  absl::Status Finish(Codec codec);
  // Takes the batch back: `out` is as it was before Begin.
  void Abandon();

  // Frees buffers of more than `capacity` bytes. Not between Begin and Finish.
  void ShrinkTo(size_t capacity);
  // Bytes of memory that the writer keeps.
  size_t capacity() const { return own_.capacity() + compressed_.capacity(); }

 private:
  uint8_t* Reserve(size_t size);
  absl::Status CompressRecords(Codec codec);

  BatchHeader header_;
  ByteBuffer* out_ = nullptr;
  ByteBuffer* batch_ = nullptr;  // where it is built: out_, or own_
  size_t start_ = 0;             // of the batch in batch_
  size_t used_ = 0;              // batch_ may be longer while records are added
  int32_t count_ = 0;
  ByteBuffer own_;
  ByteBuffer compressed_;
};

// Appends a stand-in for a batch that is hidden as a whole: a control batch at the same offsets with one COMMIT marker
// of no producer. Every client that was measured steps over it. An empty or a missing batch makes some of them loop or
// fail.
void AppendControlFiller(const BatchHeader& hidden, ByteBuffer& out);
// The same alone in a buffer.
ByteBuffer MakeControlFiller(const BatchHeader& hidden);

}  // namespace kveil::kafka
