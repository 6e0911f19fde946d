// Record batches as a broker or a client may send them: walked, decompressed, and rebuilt by BatchWriter.
// The first byte picks the edits, the rest are the batches.
#include <algorithm>
#include <optional>
#include <string_view>

#include "fuzz.h"
#include "kafka/batch_split.h"
#include "kafka/batch_writer.h"
#include "kafka/record.h"
#include "kafka/record_batch.h"

namespace kveil::fuzz {
namespace {

using kafka::BatchReader;
using kafka::BatchView;
using kafka::BatchWriter;
using kafka::Codec;
using kafka::HeaderEdit;
using kafka::RecordReader;
using kafka::RecordView;

constexpr size_t kLimit = 1 << 20;
constexpr Codec kCodecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};
constexpr std::string_view kAddedHeader = "added";
constexpr uint8_t kAddedValue[] = {1, 2, 3};

bool Lies(Bytes inner, Bytes outer) {
  return inner.empty() || (inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size());
}

// The number of well-formed headers; std::nullopt when they are not.
std::optional<int32_t> CountHeaders(const RecordView& record) {
  kafka::HeaderReader reader(record);
  int32_t count = 0;
  for (kafka::HeaderView header; reader.Next(header); ++count) {
    Check(Lies(header.whole, record.headers), "a header lies within its record");
  }
  if (!reader.status().ok()) return std::nullopt;
  Check(count == record.headerCount, "there are as many headers as the record says");
  return count;
}

// Whether the records are well-formed, their headers too.
bool WalkRecords(Bytes records, int32_t count) {
  RecordReader reader(records, count);
  int32_t found = 0;
  bool headersGood = true;
  for (RecordView record; reader.Next(record); ++found) {
    Check(Lies(record.whole, records), "a record lies within its batch");
    if (record.key.has_value()) Check(Lies(*record.key, record.whole), "a key lies within its record");
    if (record.value.has_value()) Check(Lies(*record.value, record.whole), "a value lies within its record");
    headersGood = CountHeaders(record).has_value() && headersGood;
  }
  if (!reader.status().ok()) return false;
  Check(found == count, "there are as many records as the batch says");
  return headersGood;
}

void AddSameValue(const RecordView& record, BatchWriter& writer, const HeaderEdit& edit) {
  if (!record.value.has_value()) return writer.CopyRecord(record);
  uint8_t* const value = writer.AddRecord(record, record.value->size(), edit);
  std::copy(record.value->begin(), record.value->end(), value);
}

HeaderEdit WithoutFirstHeader(const RecordView& record) {
  kafka::HeaderReader headers(record);
  kafka::HeaderView first;
  return headers.Next(first) ? HeaderEdit::Remove(first.whole) : HeaderEdit::Keep();
}

void AddEdited(const RecordView& record, BatchWriter& writer, uint8_t edit) {
  switch (edit % 4) {
    case 0:
      writer.CopyRecord(record);
      return;
    case 1:
      AddSameValue(record, writer, HeaderEdit::Append(kAddedHeader, kAddedValue));
      return;
    case 2:
      AddSameValue(record, writer, WithoutFirstHeader(record));
      return;
    default:
      AddSameValue(record, writer, HeaderEdit::Keep());
  }
}

// By how many headers AddEdited makes a record longer.
int32_t MoreHeaders(const RecordView& record, uint8_t edit) {
  if (!record.value.has_value()) return 0;
  if (edit % 4 == 1) return 1;
  return edit % 4 == 2 && record.headerCount > 0 ? -1 : 0;
}

// What must be as it was, record by record.
void CompareRecords(Bytes before, Bytes after, int32_t count, uint8_t edit) {
  RecordReader old(before, count);
  RecordReader rebuilt(after, count);
  RecordView a;
  RecordView b;
  while (old.Next(a)) {
    Check(rebuilt.Next(b), "a rebuilt batch has all its records");
    Check(a.beforeValue == b.beforeValue, "attributes, deltas and key of a rebuilt record are the same bytes");
    Check(a.value == b.value, "the value of a rebuilt record is the same");
    Check(b.headerCount == a.headerCount + MoreHeaders(a, edit), "the headers of a rebuilt record are counted");
    Check(CountHeaders(b).has_value(), "the headers of a rebuilt record are well-formed");
  }
  Check(!rebuilt.Next(b) && rebuilt.status().ok(), "a rebuilt batch ends where it says");
}

void Rebuild(const BatchView& batch, Bytes records, uint8_t edit) {
  static BatchWriter writer;
  static ByteBuffer scratch;
  const Codec codec = kCodecs[edit / 4 % std::size(kCodecs)];
  ByteBuffer out = {'b', 'e', 'f', 'o', 'r', 'e'};
  const size_t start = out.size();
  writer.Begin(batch.header, out);
  RecordReader reader(records, batch.header.count);
  for (RecordView record; reader.Next(record);) AddEdited(record, writer, edit);
  const absl::Status finished = writer.Finish(codec);
  Check(finished.ok() == (batch.header.count > 0), "a batch is rebuilt unless it is empty");
  if (!finished.ok()) {
    Check(out.size() == start, "a batch that is not rebuilt leaves nothing behind");
    return;
  }
  BatchReader rebuiltReader(Bytes(out).subspan(start));
  BatchView rebuilt;
  Check(rebuiltReader.Next(rebuilt) == BatchReader::Result::kBatch && rebuiltReader.rest().empty(),
        "a rebuilt batch is one batch");
  Check(kafka::CheckCrc(rebuilt).ok(), "a rebuilt batch has the right checksum");
  kafka::BatchHeader expected = batch.header;
  expected.attributes =
      static_cast<int16_t>((expected.attributes & ~kafka::BatchHeader::kCodecMask) | static_cast<int16_t>(codec));
  expected.length = rebuilt.header.length;
  expected.crc = rebuilt.header.crc;
  Check(rebuilt.header == expected, "a rebuilt batch keeps every field of its header");
  const auto again = kafka::UncompressedRecords(rebuilt, 4 * kLimit, scratch);
  Check(again.ok(), "a rebuilt batch can be decompressed");
  CompareRecords(records, *again, batch.header.count, edit);
}

// The parts that a batch is cut into hold its records, the same but for their offsets.
void CutUp(const BatchView& batch, Bytes records, uint8_t edit) {
  static ByteBuffer buffer;
  const kafka::BatchPart whole = {.header = batch.header, .records = records};
  const auto counts = kafka::FilledCounts(whole, size_t{16} * edit, 64, static_cast<size_t>(batch.header.count));
  Check(counts.ok(), "a batch of which the records can be read can be divided");
  const auto cut = kafka::Cut(whole, *counts, buffer);
  if (!cut.ok()) return;  // a timestamp that is too long
  RecordReader old(records, batch.header.count);
  RecordView a;
  RecordView b;
  for (const kafka::BatchPart& part : *cut) {
    Check(part.header.count > 0 && part.header.lastOffsetDelta == part.header.count - 1, "a part has records");
    Check(!batch.header.isIdempotent() || batch.header.baseSequence < 0 || part.header.baseSequence >= 0,
          "sequence numbers wrap to 0");
    RecordReader reader(part.records, part.header.count);
    for (int32_t offset = 0; reader.Next(b); ++offset) {
      Check(old.Next(a), "the parts have no more records than the batch");
      Check(&part == &cut->front() || b.offsetDelta == offset, "offsets of a part count from 0");
      Check(a.attributes == b.attributes && a.timestampDelta == b.timestampDelta && a.key == b.key &&
                a.value == b.value && a.headerCount == b.headerCount && a.headers == b.headers,
            "a record in a part is the same");
    }
    Check(reader.status().ok(), "a part is well-formed");
  }
  Check(!old.Next(a), "every record is in a part");
}

void CheckFiller(const BatchView& batch) {
  const ByteBuffer filler = kafka::MakeControlFiller(batch.header);
  BatchReader reader(filler);
  BatchView view;
  Check(reader.Next(view) == BatchReader::Result::kBatch && reader.rest().empty(), "a filler is one batch");
  Check(kafka::CheckCrc(view).ok() && view.header.isControl(), "a filler is a control batch with its checksum");
  Check(
      view.header.baseOffset == batch.header.baseOffset && view.header.lastOffsetDelta == batch.header.lastOffsetDelta,
      "a filler covers the offsets of what it stands for");
  Check(WalkRecords(view.payload, 1), "a filler has one record");
}

}  // namespace

void Run(Bytes bytes) {
  static ByteBuffer scratch;
  Input input(bytes);
  const uint8_t edit = input.Byte();
  BatchReader reader(input.rest());
  BatchView batch;
  size_t read = 0;
  while (reader.Next(batch) == BatchReader::Result::kBatch) {
    read += batch.whole.size();
    Check(batch.whole.size() == batch.header.size(), "a batch is as long as its header says");
    if (batch.isLegacy()) continue;
    (void)kafka::CheckCrc(batch);
    CheckFiller(batch);
    const auto records = kafka::UncompressedRecords(batch, kLimit, scratch);
    if (!records.ok()) continue;
    Check(batch.header.codec() == Codec::kNone || records->size() <= kLimit, "no batch is longer than the limit");
    if (!WalkRecords(*records, batch.header.count)) continue;
    Rebuild(batch, *records, edit);
    if (batch.header.count > 0) CutUp(batch, *records, edit);
  }
  Check(read + reader.rest().size() == input.rest().size(), "every byte is in a batch or left over");
}

}  // namespace kveil::fuzz
