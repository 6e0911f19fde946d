// Decode and Encode for any described message. Each messages/*.cc instantiates them for its own, nobody else includes
// this.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "kafka/error_code.h"
#include "kafka/messages/description.h"
#include "kafka/messages/wire_reader.h"
#include "kafka/messages/wire_writer.h"

namespace kveil::kafka {

// A message whose body's version depends on its error code (which is then its first field) says so by BodyVersion.
template <class Message>
int16_t VersionToRead(Bytes body, int16_t version) {
  if constexpr (requires { Message::BodyVersion(ErrorCode::kNone, version); }) {
    if (body.size() < sizeof(int16_t)) return version;
    return Message::BodyVersion(static_cast<ErrorCode>(LoadBigEndian<int16_t>(body.data())), version);
  }
  return version;
}

template <class Message>
int16_t VersionToWrite(const Message& message, int16_t version) {
  if constexpr (requires { Message::BodyVersion(ErrorCode::kNone, version); }) {
    return Message::BodyVersion(message.errorCode, version);
  }
  return version;
}

// What a message may hold: requests come from anybody on the node, and so may responses, from what stands for a broker.
// A real broker's metadata may list every partition of a large cluster, which takes about three times its size.
template <class Message>
DecodeBounds BoundsOf(Bytes body) {
  constexpr size_t kLittle = 8 << 20, kMuch = 64 << 20;
  const bool isRequest = Message::kName.ends_with("Request");
  return {.elements = isRequest ? size_t{500'000} : size_t{20'000'000},
          .memory = std::max(kLittle, std::min(8 * body.size(), kMuch + 3 * body.size()))};
}

template <class Message>
absl::StatusOr<Message> Decode(Bytes body, int16_t version, size_t* memory) {
  version = VersionToRead<Message>(body, version);
  if (!Message::kVersions.Contains(version)) {
    return absl::UnimplementedError(StrCat(Message::kName, " version ", version, " is not known (",
                                           Message::kVersions.min, " to ", Message::kVersions.max, ")"));
  }
  WireReader reader(body, version, IsFlexible(Message::kApiKey, version), BoundsOf<Message>(body));
  Message message;
  Describe(reader, message);
  if (memory != nullptr) *memory = reader.memory();
  RETURN_IF_ERROR(reader.Finish(Message::kName));
  return message;
}

template <class Message>
void Encode(const Message& message, int16_t version, FrameWriter& writer) {
  version = VersionToWrite(message, version);
  WireWriter wire(writer, version, IsFlexible(Message::kApiKey, version));
  Describe(wire, message);
}

}  // namespace kveil::kafka
