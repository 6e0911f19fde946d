// Reads and writes describe_topic_partitions.h's messages.
#include "kafka/messages/describe_topic_partitions.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<DescribeTopicPartitionsResponse> Decode<DescribeTopicPartitionsResponse>(Bytes, int16_t,
                                                                                                 size_t*);
template void Encode<DescribeTopicPartitionsResponse>(const DescribeTopicPartitionsResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
