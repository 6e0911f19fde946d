// Record batches as producers make them, for the programs of this folder.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "kafka/batch_writer.h"
#include "kafka/varint.h"

namespace kveil::kafka {

// A batch of `count` records without keys and headers. Offsets count from 0, all timestamps are the header's.
// `valueOf(i)` is record i's value, of any type that converts to std::string_view. `header` names the codec.
template <typename ValueOf>
ByteBuffer MakeBatch(int32_t count, ValueOf&& valueOf, BatchHeader header = {}) {
  ByteBuffer out;
  BatchWriter writer;
  header.lastOffsetDelta = count - 1;
  header.maxTimestamp = header.baseTimestamp;
  writer.Begin(header, out);
  for (int32_t i = 0; i < count; ++i) {
    uint8_t prefix[1 + 3 * kMaxVarint32Size] = {};  // no attributes
    uint8_t* end = WriteVarint(prefix + 1, 0);
    end = WriteVarint(end, i);
    end = WriteVarint(end, -1);
    RecordView record;
    record.beforeValue = Between(prefix, end);
    const auto& value = valueOf(i);
    const Bytes bytes = AsBytes(value);
    std::copy(bytes.begin(), bytes.end(), writer.AddRecord(record, bytes.size(), HeaderEdit::Keep()));
  }
  if (!writer.Finish(header.codec()).ok()) std::abort();
  out.reserve(out.size() + kTailPadding);
  return out;
}

}  // namespace kveil::kafka
