// Reads and writes find_coordinator.h's messages.
#include "kafka/messages/find_coordinator.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<FindCoordinatorResponse> Decode<FindCoordinatorResponse>(Bytes, int16_t, size_t*);
template void Encode<FindCoordinatorResponse>(const FindCoordinatorResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
