// The headers of requests and responses. A frame here is what follows the int32 length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka/api.h"
#include "kafka/frame_writer.h"

namespace kveil::kafka {

// Kafka's own limit of a request, socket.request.max.bytes.
inline constexpr size_t kMaxRequestSize = 100 * 1024 * 1024;
// api key, version, correlation id: the fields that every request of every version starts with.
inline constexpr size_t kFixedRequestHeaderSize = 2 + 2 + 4;

struct RequestHeader {
  ApiKey apiKey{};
  int16_t version = 0;
  int32_t correlationId = 0;
  std::optional<std::string_view> clientId;  // a view into the frame
  size_t size = 0;                           // bytes of the header, tag section included: the body starts here
};

struct ResponseHeader {
  int32_t correlationId = 0;
  size_t size = 0;
};

// Reads the header at the start of a request. The frame may be cut short after the header. For an API that this build
// does not know only the fixed first fields are read, and `size` covers just those. kInvalidArgument: the bytes are no
// request header. kOutOfRange: they end before the header does (read on and retry).
absl::StatusOr<RequestHeader> ReadRequestHeader(Bytes frame);

// Reads the header at the start of the response to a request of this API and version. An unknown API: correlation id
// only.
absl::StatusOr<ResponseHeader> ReadResponseHeader(Bytes frame, ApiKey apiKey, int16_t version);

// Write a header with an empty tag section, in the header version that belongs to the message version.
void WriteRequestHeader(ApiKey apiKey, int16_t version, int32_t correlationId, std::optional<std::string_view> clientId,
                        FrameWriter& writer);
void WriteResponseHeader(ApiKey apiKey, int16_t version, int32_t correlationId, FrameWriter& writer);

}  // namespace kveil::kafka
