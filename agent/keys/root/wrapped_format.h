// What is kept of a key that a key service has wrapped:
//
//   provider 0 | field 0 | ... | check, 8 bytes | the rest
//   check = the first 8 bytes of SHA-256("kveil PROVIDER 1" 0 | provider 0 | fields | length of the context, 4 bytes,
//           big endian | context | the rest)
//
// The check finds damage, and a key in the place of another, without the service: what that answers to them is not
// always told apart from an outage or a refusal. It keeps nobody from writing another one.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"

namespace kveil::keys {

// kUnavailable: UnpackWrapped would not take it. A field, which a key service may have named, holds a zero byte or has
// more than 512 bytes.
absl::StatusOr<ByteBuffer> PackWrapped(std::string_view provider, absl::Span<const std::string_view> fields,
                                       Bytes context, Bytes rest);

struct WrappedParts {
  std::vector<std::string_view> fields;
  Bytes rest;
};
// The parts, in `wrapped`. nullopt: it is damaged, or is of another provider or context.
std::optional<WrappedParts> UnpackWrapped(std::string_view provider, size_t fields, Bytes wrapped, Bytes context);

}  // namespace kveil::keys
