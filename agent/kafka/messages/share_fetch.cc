// Reads and writes share_fetch.h's messages.
#include "kafka/messages/share_fetch.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<ShareFetchRequest> Decode<ShareFetchRequest>(Bytes, int16_t, size_t*);
template void Encode<ShareFetchRequest>(const ShareFetchRequest&, int16_t, FrameWriter&);
template absl::StatusOr<ShareFetchResponse> Decode<ShareFetchResponse>(Bytes, int16_t, size_t*);
template void Encode<ShareFetchResponse>(const ShareFetchResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
