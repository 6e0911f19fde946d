// Where the chain of a trail begins and ends, signed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "evidence/signing_key.h"

namespace kveil::audit {

// RFC 3339, UTC.
std::string TextOf(absl::Time time);
// Of the end of a span: the next whole second.
std::string TextOfEnd(absl::Time time);
// nullopt: it is none.
std::optional<absl::Time> TimeIn(const std::string& text);

struct TrailHead {
  uint64_t first = 1;         // the number of the first line that is kept
  std::string firstPrevious;  // the hash of the line before that; empty when there never was one
  uint64_t last = 0;          // the number of the last line; first - 1 when there is none
  std::string hash;           // of the last line, in hexadecimal digits
  std::string file;           // that it is in; empty when there is none yet
  uint64_t bytes = 0;         // where it ends there
  std::string time;           // until when all is said; RFC 3339, UTC
  std::string aged;           // what age is reckoned from (trail.h)
  std::string early;          // when lines were last removed for want of room; empty: never
};

// What a head is kept as: a line that says what it is, a line of JSON, and the signature of both in hexadecimal digits.
// Empty: OpenSSL cannot sign.
std::string TextOf(const TrailHead& head, const evidence::SigningKey& key);

// What TextOf has made. kFailedPrecondition: it is not, or `key` did not sign it. `path` is for the error. Without
// `key`, its signature is not checked.
absl::StatusOr<TrailHead> HeadIn(const std::string& text, const std::string& path, const evidence::SigningKey* key);

// kNotFound: there is no head. kFailedPrecondition: it is not what was written there. Without `key`, its signature is
// not checked.
absl::StatusOr<TrailHead> ReadHead(const std::string& folder, const evidence::SigningKey* key);

}  // namespace kveil::audit
