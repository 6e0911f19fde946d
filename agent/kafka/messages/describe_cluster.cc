// Reads and writes describe_cluster.h's messages.
#include "kafka/messages/describe_cluster.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<DescribeClusterResponse> Decode<DescribeClusterResponse>(Bytes, int16_t, size_t*);
template void Encode<DescribeClusterResponse>(const DescribeClusterResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
