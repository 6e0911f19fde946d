// Reads and writes produce.h's messages.
#include "kafka/messages/produce.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<ProduceRequest> Decode<ProduceRequest>(Bytes, int16_t, size_t*);
template void Encode<ProduceRequest>(const ProduceRequest&, int16_t, FrameWriter&);
template absl::StatusOr<ProduceResponse> Decode<ProduceResponse>(Bytes, int16_t, size_t*);
template void Encode<ProduceResponse>(const ProduceResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
