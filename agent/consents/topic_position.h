// How far a topic was read, as the registry keeps it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kveil::consents {

struct TopicPosition {
  static constexpr size_t kMostPartitions = 256;

  struct Partition {
    int64_t next = 0;   // the offset to read on from
    int64_t last = -1;  // of the last record that was read; -1: none
    int64_t time = 0;   // the record's, milliseconds since 1970
    friend bool operator==(const Partition&, const Partition&) = default;
  };
  struct Unreadable {
    uint64_t count = 0;
    int32_t partition = 0;  // of the last one
    int64_t offset = 0;
    std::string reason;  // holds nothing of the record
    friend bool operator==(const Unreadable&, const Unreadable&) = default;
  };
  std::string topic;
  std::string as;                     // how a record's key is the user's id
  std::string cluster;                // its id
  int64_t current = 0;                // when all of it was read last, or reading it began; milliseconds since 1970
  std::vector<Partition> partitions;  // by number
  Unreadable unreadable;              // records of this generation
  bool hasLeftOut = false;            // a record, as the follower could not read what is stored of its user

  friend bool operator==(const TopicPosition&, const TopicPosition&) = default;
};

// JSON, at most some 20 KiB.
std::string Encode(const TopicPosition& position);
// nullopt: it is not what Encode makes.
std::optional<TopicPosition> Decode(std::string_view text);

// In words for the operator, to be put behind others; empty if there are none.
std::string Describe(const TopicPosition::Unreadable& unreadable);

}  // namespace kveil::consents
