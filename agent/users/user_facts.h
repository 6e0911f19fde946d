// What is known of a user beside the keys: consents and attributes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kveil::users {

inline constexpr size_t kMostConsents = 64;
inline constexpr size_t kMostAttributes = 32;
inline constexpr size_t kLongestName = 64;             // of a purpose or an attribute, bytes
inline constexpr size_t kLongestAttributeValue = 256;  // bytes of UTF-8, without control characters; not empty

struct Consent {
  std::string purpose;
  absl::Time until = absl::InfiniteFuture();  // from then on it is none; in whole milliseconds

  friend bool operator==(const Consent&, const Consent&) = default;
};

// Does not change while it is shared.
struct UserFacts {
  std::vector<Consent> consents;                                // by purpose, each once
  std::vector<std::pair<std::string, std::string>> attributes;  // by name, each once

  // Whether the user consents to the purpose at `now`. Takes a binary search and no memory.
  bool Consents(std::string_view purpose, absl::Time now) const;
  // nullptr: the user has no such attribute. The value lives as long as the facts.
  const std::string* Attribute(std::string_view name) const;

  bool empty() const { return consents.empty() && attributes.empty(); }
  friend bool operator==(const UserFacts&, const UserFacts&) = default;
};

// Null: nothing is known of the user.
using SharedFacts = std::shared_ptr<const UserFacts>;

// Stands for facts that are stored and cannot be read: damaged, or of a later version. It has no consent and no
// attribute. Unlike of a user of whom nothing is known, nobody can say what the user has consented to.
SharedFacts DamagedFacts();
// Whether these are DamagedFacts. Null is not.
bool IsDamaged(const UserFacts* facts);

// Whether it can be the name of a purpose or an attribute: 1 to kLongestName of the characters A-Z a-z 0-9 . _ -
bool IsName(std::string_view name);

// OK, or kInvalidArgument that says which bound or order the facts break. It holds no value of an attribute.
absl::Status Check(const UserFacts& facts);

// The JSON that the registry keeps, for example
//
//   {"consents":{"marketing":null,"research":1798761600000},"attributes":{"region":"eu"}}
//
// where a consent's value is its `until` in milliseconds since 1970 UTC, null without an end. The same facts give the
// same bytes. The facts must be of the kind that Check is content with.
std::string Encode(const UserFacts& facts);

// Encode never makes more bytes.
inline constexpr size_t kLongestEncoded = 32 * 1024;

// kDataLoss: these are not the bytes that Encode makes of any facts. The error holds nothing of them.
absl::StatusOr<UserFacts> Decode(std::string_view text);

}  // namespace kveil::users
