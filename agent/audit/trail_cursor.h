// Reads the signed lines of a trail in their order, while the agent goes on writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "audit/trail_head.h"
#include "base/unique_fd.h"
#include "evidence/signing_key.h"

namespace kveil::audit {

// Gives each line once, as it is, whether or not it is what was written: whoever gets them can tell by the chain.
// Takes no lock. One thread uses it.
class TrailCursor {
 public:
  // A line, by its number and its SHA-256. Number 0: there is none.
  struct Place {
    uint64_t seq = 0;
    std::string hash;
    friend bool operator==(const Place&, const Place&) = default;
  };
  // Goes on behind line `after`. Without one, or if the trail does not have this line and did not remove it for its
  // age or size either, it begins at the oldest line that is kept.
  TrailCursor(std::string folder, evidence::SigningKey key, Place after)
      : folder_(std::move(folder)), key_(std::move(key)), place_(std::move(after)) {}

  struct Piece {
    struct Missing {
      uint64_t first = 0, last = 0;
    };
    std::optional<Missing> missing;   // lines that are not there any more, before `lines`
    std::vector<std::string> lines;   // without line breaks
    Place end;                        // the last line that was given
    std::optional<std::string> head;  // if it is new, and the lines end where it says: the whole file
    bool isEmpty() const { return !missing.has_value() && lines.empty() && !head.has_value(); }
  };
  // About `bytes` of lines, or one. kNotFound: there is no trail. kFailedPrecondition: the head is not what was written
  // there. kUnavailable: it cannot be read now.
  absl::StatusOr<Piece> Next(size_t bytes);
  // How many lines were signed and not given yet, when Next was called last.
  uint64_t behind() const { return head_.last > place_.seq ? head_.last - place_.seq : 0; }

 private:
  std::string PathOf(const std::string& file) const { return folder_ + "/" + file; }
  absl::Status ReadHeadAgain();
  // Finds the line at which it is, and opens its file.
  absl::Status Find(Piece& piece);
  // Whether the line at which it is is in `file`. If so, opens that behind it.
  absl::StatusOr<bool> FindIn(const std::string& file, const std::string& next);
  void BeginAnew(const std::vector<std::string>& files);
  absl::Status Open(const std::string& file);
  // Up to where what is in the open file was signed, and which file comes next; empty: none yet.
  struct End {
    uint64_t bytes = 0;
    std::string next;
  };
  absl::StatusOr<End> FindEnd() const;
  absl::StatusOr<uint64_t> SignedBytes(const std::string& file, const std::string& next) const;
  // Takes lines of the open file up to `end`. False: `piece` is full.
  absl::StatusOr<bool> Take(uint64_t end, size_t bytes, Piece& piece);
  bool TakeLine(std::string_view line, Piece& piece);

  const std::string folder_;
  const evidence::SigningKey key_;
  Place place_;
  TrailHead head_;
  std::string headText_;
  bool isHeadGiven_ = false;
  std::string file_;  // of which lines come next; empty: to be found
  UniqueFd open_;
  uint64_t offset_ = 0;
};

}  // namespace kveil::audit
