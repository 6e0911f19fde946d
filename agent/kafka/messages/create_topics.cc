// Reads and writes create_topics.h's messages.
#include "kafka/messages/create_topics.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<CreateTopicsResponse> Decode<CreateTopicsResponse>(Bytes, int16_t, size_t*);
template void Encode<CreateTopicsResponse>(const CreateTopicsResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
