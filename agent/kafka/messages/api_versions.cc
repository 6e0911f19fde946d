// Reads and writes api_versions.h's messages.
#include "kafka/messages/api_versions.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<ApiVersionsRequest> Decode<ApiVersionsRequest>(Bytes, int16_t, size_t*);
template void Encode<ApiVersionsRequest>(const ApiVersionsRequest&, int16_t, FrameWriter&);
template absl::StatusOr<ApiVersionsResponse> Decode<ApiVersionsResponse>(Bytes, int16_t, size_t*);
template void Encode<ApiVersionsResponse>(const ApiVersionsResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
