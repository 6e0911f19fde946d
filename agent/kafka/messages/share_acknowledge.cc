// Reads and writes share_acknowledge.h's messages.
#include "kafka/messages/share_acknowledge.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<ShareAcknowledgeRequest> Decode<ShareAcknowledgeRequest>(Bytes, int16_t, size_t*);
template void Encode<ShareAcknowledgeRequest>(const ShareAcknowledgeRequest&, int16_t, FrameWriter&);
template absl::StatusOr<ShareAcknowledgeResponse> Decode<ShareAcknowledgeResponse>(Bytes, int16_t, size_t*);
template void Encode<ShareAcknowledgeResponse>(const ShareAcknowledgeResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
