// How a message is described once, so that reading and writing both follow from it.
//
// A message is a struct of plain values, and one function that names its fields in the order of the wire with the
// versions that have them, as the definitions in common/message/*.json of the kafka-clients jar do:
//
//   template <class Visitor>
//   void Describe(Visitor& v, Described<Visitor, Example>& m) {
//     v.Field("name", m.name, {.until = 12});                       // string
//     v.Field("topicId", m.topicId, {.since = 13});
//     v.Field("rack", m.rack, {.nullableSince = 1});                // std::optional: null is allowed from version 1 on
//     v.Tags(m.unknownTags, Tag(0, "leader", m.leader, {.since = 10}));
//   }
//
// Tags() comes last in every struct, also in those without a known tag: it is the tag section of flexible versions
// (KIP-482). The member's type says the encoding: int8 to int64, bool, enums, std::string_view, Bytes (bytes and
// records), TopicId, std::vector of those, another described struct, and std::optional of a string, bytes, vector or
// struct for what may be null.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "kafka/api.h"
#include "kafka/frame_writer.h"

namespace kveil::kafka {

// A tagged field that this build does not know, kept so that it can be passed on.
struct UnknownTaggedField {
  uint32_t tag = 0;
  Bytes data;

  friend bool operator==(const UnknownTaggedField&, const UnknownTaggedField&) = default;
};
using UnknownTaggedFields = std::vector<UnknownTaggedField>;

// The versions of the message in which a field is present, and those in which it may be null (only for std::optional
// members); both ends included. An absent field keeps its default when read and is left out when written.
struct FieldVersions {
  static constexpr int16_t kNewest = std::numeric_limits<int16_t>::max();

  int16_t since = 0;
  int16_t until = kNewest;
  int16_t nullableSince = 0;
  int16_t nullableUntil = kNewest;

  constexpr bool Contain(int16_t version) const { return version >= since && version <= until; }
  constexpr bool AllowNull(int16_t version) const { return version >= nullableSince && version <= nullableUntil; }
};

// Visitors that fill a message have kFills = true; the others get it const.
template <class Visitor, class Message>
using Described = std::conditional_t<Visitor::kFills, Message, const Message>;

// A field that is written with a number, and only when it differs from `absent`.
template <class T>
struct TaggedField {
  uint32_t tag;
  std::string_view name;
  T& value;
  FieldVersions versions;
  std::remove_const_t<T> absent;
};

template <class T>
TaggedField<T> Tag(uint32_t tag, std::string_view name, T& value, FieldVersions versions,
                   std::remove_const_t<T> absent = {}) {
  return {tag, name, value, versions, std::move(absent)};
}

// Reads a message's body, what comes after the header. Strings and byte fields are views into it. ApiVersionsResponse
// with error UNSUPPORTED_VERSION is read as version 0, whatever was asked (KIP-511). kInvalidArgument names message,
// version and field: a length or count beyond the bytes that are there, a null where none may be, bytes left over, more
// elements, or memory for them, than a message of that size may have. `memory`: about what the elements take, in bytes.
// kUnimplemented: the version is outside Message::kVersions.
template <class Message>
absl::StatusOr<Message> Decode(Bytes body, int16_t version, size_t* memory = nullptr);

// Writes the body; the inverse of Decode. Long byte fields are referred to, see FrameWriter. A version outside
// Message::kVersions is a mistake of the caller's; a null where the version allows none is written as empty.
template <class Message>
void Encode(const Message& message, int16_t version, FrameWriter& writer);

}  // namespace kveil::kafka
