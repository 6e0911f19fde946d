// A connection's bytes cut into frames, and the headers of requests and responses.
#include <optional>

#include "fuzz.h"
#include "kafka/api.h"
#include "kafka/big_endian.h"
#include "kafka/frame.h"
#include "kafka/frame_writer.h"

namespace kveil::fuzz {
namespace {

using kafka::FrameWriter;
using kafka::RequestHeader;
using kafka::ResponseHeader;

bool Same(const RequestHeader& a, const RequestHeader& b) {
  return a.apiKey == b.apiKey && a.version == b.version && a.correlationId == b.correlationId &&
         a.clientId == b.clientId && a.size == b.size;
}

void CheckWritten(const RequestHeader& header) {
  FrameWriter writer;
  kafka::WriteRequestHeader(header.apiKey, header.version, header.correlationId, header.clientId, writer);
  const ByteBuffer bytes = writer.ToBuffer();
  auto again = kafka::ReadRequestHeader(bytes);
  Check(again.ok(), "a request header that was written can be read");
  Check(again->size == bytes.size(), "all of a request header that was written is read");
  again->size = header.size;  // tags are not written
  Check(Same(*again, header), "a request header is written as it was read");
}

// A request whose bytes come in piece by piece is read as it is when all are there.
void CheckRequest(Bytes frame) {
  const auto whole = kafka::ReadRequestHeader(frame);
  if (!whole.ok()) return;
  Check(whole->size <= frame.size(), "a request header ends within its frame");
  const auto alone = kafka::ReadRequestHeader(frame.first(whole->size));
  Check(alone.ok() && Same(*alone, *whole), "a request header needs none of the bytes behind it");
  for (size_t size = whole->size; size-- > 0;) {
    const auto cut = kafka::ReadRequestHeader(frame.first(size));
    Check(absl::IsOutOfRange(cut.status()), "a request header that is cut short asks for more");
    if (size > 64 && size < whole->size - 64) size = 64;  // the middle of a long client id is all the same
  }
  if (kafka::IsKnown(whole->apiKey)) CheckWritten(*whole);
}

void CheckResponse(Bytes frame, kafka::ApiKey apiKey, int16_t version) {
  const auto whole = kafka::ReadResponseHeader(frame, apiKey, version);
  if (!whole.ok()) return;
  Check(whole->size <= frame.size(), "a response header ends within its frame");
  const auto alone = kafka::ReadResponseHeader(frame.first(whole->size), apiKey, version);
  Check(alone.ok() && alone->size == whole->size, "a response header needs none of the bytes behind it");
  FrameWriter writer;
  kafka::WriteResponseHeader(apiKey, version, whole->correlationId, writer);
  const auto again = kafka::ReadResponseHeader(writer.ToBuffer(), apiKey, version);
  Check(again.ok() && again->correlationId == whole->correlationId, "a response header is written as it was read");
}

}  // namespace

void Run(Bytes input) {
  while (input.size() >= sizeof(int32_t)) {
    const auto length = kafka::LoadBigEndian<int32_t>(input.data());
    input.remove_prefix(sizeof(int32_t));
    if (length < 0) return;
    const Bytes frame = Input(input).Take(static_cast<size_t>(length));
    input.remove_prefix(frame.size());
    CheckRequest(frame);
    // As a response, to the request that its own first bytes make.
    Input asked(frame);
    const auto apiKey = static_cast<kafka::ApiKey>(asked.Below(100));
    const auto version = static_cast<int16_t>(asked.Below(20));
    CheckResponse(asked.rest(), apiKey, version);
  }
}

}  // namespace kveil::fuzz
