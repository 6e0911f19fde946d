// Reads and writes sasl.h's messages.
#include "kafka/messages/sasl.h"

#include "kafka/messages/codec.h"

namespace kveil::kafka {

template absl::StatusOr<SaslHandshakeRequest> Decode<SaslHandshakeRequest>(Bytes, int16_t, size_t*);
template void Encode<SaslHandshakeRequest>(const SaslHandshakeRequest&, int16_t, FrameWriter&);
template absl::StatusOr<SaslHandshakeResponse> Decode<SaslHandshakeResponse>(Bytes, int16_t, size_t*);
template void Encode<SaslHandshakeResponse>(const SaslHandshakeResponse&, int16_t, FrameWriter&);
template absl::StatusOr<SaslAuthenticateRequest> Decode<SaslAuthenticateRequest>(Bytes, int16_t, size_t*);
template void Encode<SaslAuthenticateRequest>(const SaslAuthenticateRequest&, int16_t, FrameWriter&);
template absl::StatusOr<SaslAuthenticateResponse> Decode<SaslAuthenticateResponse>(Bytes, int16_t, size_t*);
template void Encode<SaslAuthenticateResponse>(const SaslAuthenticateResponse&, int16_t, FrameWriter&);

}  // namespace kveil::kafka
