// Reads and writes metadata.h's messages.
#include "kafka/messages/metadata.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<MetadataRequest> Decode<MetadataRequest>(Bytes, int16_t, size_t*);
template void Encode<MetadataRequest>(const MetadataRequest&, int16_t, FrameWriter&);
template absl::StatusOr<MetadataResponse> Decode<MetadataResponse>(Bytes, int16_t, size_t*);
template void Encode<MetadataResponse>(const MetadataResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
