// What is known of a user beside the keys: consents and attributes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "users/source_clock.h"

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

// The topic that a user's consents come from, instead of from commands.
struct FactsSource {
  std::string keyspace;    // each has one topic at most
  int64_t generation = 0;  // of what was read of it, from its beginning on; from 1
  int32_t partition = 0;   // with the user's records; kSeveralPartitions

  friend bool operator==(const FactsSource&, const FactsSource&) = default;
};
// Nobody knows which of the user's records is the last one. The user has no consent.
inline constexpr int32_t kSeveralPartitions = -1;
inline constexpr size_t kLongestSource = 256;  // bytes of the keyspace, UTF-8

// By a command, of a user whose consents come from a topic, or may come from one yet. A record grants the purpose again
// when its own time is later than `until`, or later than `time` and the record is known to be written after `time`.
struct Withdrawal {
  std::string purpose;  // kEveryPurpose, too
  absl::Time time;      // of the command, in whole milliseconds
  absl::Time until;     // not before `time`: records whose producer's clock is ahead seem to be later than they are

  friend bool operator==(const Withdrawal&, const Withdrawal&) = default;
};
inline constexpr size_t kMostWithdrawals = 64;
// Where the oldest withdrawals end up when there are too many. No purpose has this name.
inline constexpr std::string_view kEveryPurpose = "*";

// Does not change while it is shared.
struct UserFacts {
  std::vector<Consent> consents;                                // by purpose, each once
  std::vector<std::pair<std::string, std::string>> attributes;  // by name, each once

  std::vector<Withdrawal> withdrawn;  // by purpose, each once

  std::optional<FactsSource> source;
  // Of the user's records, the latest time that had yet to come when the record was read: its producer's clock is
  // ahead. A withdrawal by command holds against such a record, too, also after commands took the user over from the
  // topic. In whole milliseconds; InfinitePast: none.
  absl::Time ahead = absl::InfinitePast();
  std::shared_ptr<const SourceClock> clock;  // of the source, where consents are asked for

  // Whether the user consents to the purpose at `now`. With a source, only while its clock says that no withdrawal can
  // be missing. Takes a binary search and no memory.
  bool Consents(std::string_view purpose, absl::Time now) const;
  // nullptr: the user has no such attribute. The value lives as long as the facts.
  const std::string* Attribute(std::string_view name) const;

  // By a command, as far as a record of a topic is concerned. The purpose's own and that of every purpose as one.
  std::optional<Withdrawal> WithdrawalOf(std::string_view purpose) const;

  bool empty() const {
    return consents.empty() && attributes.empty() && withdrawn.empty() && !source.has_value() &&
           ahead == absl::InfinitePast();
  }
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
// where a consent's value is its `until` in milliseconds since 1970 UTC, null without an end; with a source also
//
//   "source":{"keyspace":"customers","generation":1,"partition":0}
//
// with `ahead`
//
//   "ahead":1798761600000
//
// and with withdrawals, as `time`, or as `time` and `until` where they differ
//
//   "withdrawn":{"marketing":1798761600000,"news":[1798761600000,1798761610000]}
//
// The same facts give the same bytes, whatever their clock. The facts must be of the kind that Check is content with.
std::string Encode(const UserFacts& facts);

// Encode never makes more bytes.
inline constexpr size_t kLongestEncoded = 32 * 1024;

// kDataLoss: these are not the bytes that Encode makes of any facts. The error holds nothing of them.
absl::StatusOr<UserFacts> Decode(std::string_view text);

}  // namespace kveil::users
