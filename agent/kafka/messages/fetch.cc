// Reads and writes fetch.h's messages.
#include "kafka/messages/fetch.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<FetchRequest> Decode<FetchRequest>(Bytes, int16_t, size_t*);
template void Encode<FetchRequest>(const FetchRequest&, int16_t, FrameWriter&);
template absl::StatusOr<FetchResponse> Decode<FetchResponse>(Bytes, int16_t, size_t*);
template void Encode<FetchResponse>(const FetchResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
