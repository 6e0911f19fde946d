// Times as people and programs read them.
#pragma once

#include <string>

#include "absl/time/time.h"

namespace kveil {

// RFC 3339, in UTC and whole seconds: "2026-01-31T12:00:00Z".
inline std::string UtcText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace kveil
