// Up to which line the trail was sent, as a file in its folder.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "audit/trail_cursor.h"
#include "audit_topic/topic_producer.h"

namespace kveil::audit_topic {

struct SentPosition {
  std::string cluster;  // its id
  std::string topic;
  audit::TrailCursor::Place line;
  // The last lines that were not there any more when they were to be sent.
  struct Missed {
    uint64_t first = 0, last = 0;
    std::string time;  // RFC 3339
    friend bool operator==(const Missed&, const Missed&) = default;
  };
  std::optional<Missed> missed;
  // Of the last record that was acknowledged; none: nothing was, or an earlier version has written the file.
  std::optional<TopicProducer::Spot> spot;
  friend bool operator==(const SentPosition&, const SentPosition&) = default;
};

// nullopt: there is none, or it is not what was written. Then the trail is sent from its beginning: a line twice is
// better than none. kUnavailable: it cannot be read now.
absl::StatusOr<std::optional<SentPosition>> ReadPosition(const std::string& folder);
// Is on disk when it returns.
absl::Status WritePosition(const std::string& folder, const SentPosition& position);

}  // namespace kveil::audit_topic
