// How request and response headers are read and written: RequestHeader.json, ResponseHeader.json.
#include "kafka/frame.h"

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "kafka/big_endian.h"
#include "kafka/varint.h"

namespace kveil::kafka {
namespace {

absl::Status CutShort() { return absl::OutOfRangeError("the frame ends before its header does"); }

// Advances over a varint. The value is at most 32 bits.
absl::Status ReadLength(const uint8_t*& cursor, const uint8_t* end, uint32_t& value) {
  const bool cut = static_cast<size_t>(end - cursor) < kMaxVarint32Size;
  if (ReadUnsignedVarint(cursor, end, value)) return absl::OkStatus();
  return cut ? CutShort() : absl::InvalidArgumentError("header: a varint is longer than 32 bits");
}

// Advances over a tag section, whatever is in it.
absl::Status SkipTags(const uint8_t*& cursor, const uint8_t* end) {
  uint32_t count = 0;
  RETURN_IF_ERROR(ReadLength(cursor, end, count));
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t tag = 0;
    uint32_t size = 0;
    RETURN_IF_ERROR(ReadLength(cursor, end, tag));
    RETURN_IF_ERROR(ReadLength(cursor, end, size));
    if (size > kMaxRequestSize)
      return absl::InvalidArgumentError("header: a tagged field is longer than a request may be");
    if (size > static_cast<size_t>(end - cursor)) return CutShort();
    cursor += size;
  }
  return absl::OkStatus();
}

absl::Status ReadClientId(const uint8_t*& cursor, const uint8_t* end, std::optional<std::string_view>& clientId) {
  // int16 length in every header version, so that a broker can read the header of a version that it does not know.
  if (end - cursor < 2) return CutShort();
  const int16_t length = LoadBigEndian<int16_t>(cursor);
  cursor += 2;
  if (length < -1) return absl::InvalidArgumentError("header: the client id has a negative length");
  if (length == -1) return absl::OkStatus();
  if (end - cursor < length) return CutShort();
  clientId = AsText(Bytes(cursor, static_cast<size_t>(length)));
  cursor += length;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RequestHeader> ReadRequestHeader(Bytes frame) {
  if (frame.size() < kFixedRequestHeaderSize) return CutShort();
  RequestHeader header;
  header.apiKey = static_cast<ApiKey>(LoadBigEndian<int16_t>(frame.data()));
  header.version = LoadBigEndian<int16_t>(frame.data() + 2);
  header.correlationId = LoadBigEndian<int32_t>(frame.data() + 4);
  if (header.version < 0) return absl::InvalidArgumentError("header: the API version is negative");
  const uint8_t* cursor = frame.data() + kFixedRequestHeaderSize;
  const uint8_t* end = frame.data() + frame.size();
  const int version = RequestHeaderVersion(header.apiKey, header.version);
  if (version >= 1) RETURN_IF_ERROR(ReadClientId(cursor, end, header.clientId));
  if (version >= 2) RETURN_IF_ERROR(SkipTags(cursor, end));
  header.size = static_cast<size_t>(cursor - frame.data());
  return header;
}

absl::StatusOr<ResponseHeader> ReadResponseHeader(Bytes frame, ApiKey apiKey, int16_t version) {
  if (frame.size() < sizeof(int32_t)) return CutShort();
  ResponseHeader header;
  header.correlationId = LoadBigEndian<int32_t>(frame.data());
  const uint8_t* cursor = frame.data() + sizeof(int32_t);
  if (ResponseHeaderVersion(apiKey, version) >= 1) {
    RETURN_IF_ERROR(SkipTags(cursor, frame.data() + frame.size()));
  }
  header.size = static_cast<size_t>(cursor - frame.data());
  return header;
}

void WriteRequestHeader(ApiKey apiKey, int16_t version, int32_t correlationId, std::optional<std::string_view> clientId,
                        FrameWriter& writer) {
  writer.Int(static_cast<int16_t>(apiKey));
  writer.Int(version);
  writer.Int(correlationId);
  const int headerVersion = RequestHeaderVersion(apiKey, version);
  if (headerVersion >= 1) {
    writer.Int(clientId.has_value() ? static_cast<int16_t>(clientId->size()) : int16_t{-1});
    writer.Copy(clientId.value_or(std::string_view()));
  }
  if (headerVersion >= 2) writer.UnsignedVarint(0);
}

void WriteResponseHeader(ApiKey apiKey, int16_t version, int32_t correlationId, FrameWriter& writer) {
  writer.Int(correlationId);
  if (ResponseHeaderVersion(apiKey, version) >= 1) writer.UnsignedVarint(0);
}

}  // namespace kveil::kafka
