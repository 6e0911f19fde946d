// Reads and writes describe_configs.h's messages.
#include "kafka/messages/describe_configs.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<DescribeConfigsRequest> Decode<DescribeConfigsRequest>(Bytes, int16_t, size_t*);
template void Encode<DescribeConfigsRequest>(const DescribeConfigsRequest&, int16_t, FrameWriter&);
template absl::StatusOr<DescribeConfigsResponse> Decode<DescribeConfigsResponse>(Bytes, int16_t, size_t*);
template void Encode<DescribeConfigsResponse>(const DescribeConfigsResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
