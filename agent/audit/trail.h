// The folder of a node's audit trail:
//
//   key.pem                            the private key, 0600
//   public.pem                         its public part, which verifies
//   000000000001.2026-11-29.jsonl      lines 1 and on, of this day
//   000000000842.2026-11-30.jsonl
//   head                               where the chain begins and ends, signed (trail_head.h)
//   000000000842.2026-11-30.jsonl.1.unsigned   a file of which no line was signed
//   lock                               held by the agent while it runs
//
// Each line is a JSON object with its number (`seq`) and the SHA-256 of the line before (`previous`), without the line
// break. The head is written after the lines, and each minute: what lies behind it was not signed. So a line that was
// changed, taken out, put in, or cut off the end is found. Whoever has the private key can still write the whole folder
// anew: keep a copy of the last number and its hash elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "audit/trail_head.h"
#include "base/unique_fd.h"
#include "evidence/signing_key.h"

namespace kveil::audit {

// The one writer. One thread uses it.
class Trail {
 public:
  struct Limits {
    size_t bytes = size_t{256} << 20;  // of all files together: then the oldest are removed
    absl::Duration keep = absl::Hours(24 * 90);
    size_t fileBytes = size_t{16} << 20;  // then a new file begins, as it does each day (UTC)
  };

  // Makes the folder, the key and the head if there are none. kUnavailable: the folder cannot be written, or another
  // process holds it. kFailedPrecondition: its head or its key is missing or not what was written, so that the chain
  // cannot go on.
  static absl::StatusOr<std::unique_ptr<Trail>> Open(const std::string& folder, const Limits& limits);
  Trail(const Trail&) = delete;
  Trail& operator=(const Trail&) = delete;

  struct Moment {
    absl::Time now;
    absl::Duration elapsed;  // by a steady clock, since the last Append that succeeded, or since Open
    bool isAll = true;       // nothing of the time until `now` is still to come
  };
  // Adds lines and signs the head. Each is a JSON object with at least one member, without line breaks. They are on
  // disk then. Without lines, only signs that there was nothing until `now`. kUnavailable: none of them was added.
  //
  // Age is reckoned from a time of its own, which the head has: it follows `now` at most kMostHaste times as fast as
  // time passes. A clock that is wrong for an hour makes no line more than a day older.
  absl::Status Append(absl::Span<const std::string> objects, const Moment& moment);
  static constexpr int kMostHaste = 24;

  const TrailHead& head() const { return head_; }
  const std::string& folder() const { return folder_; }
  // When lines were last removed before their time, for want of room; InfinitePast: never.
  absl::Time removedEarly() const { return TimeIn(head_.early).value_or(absl::InfinitePast()); }
  // The last line that was there when it was opened; empty when there was none, or it was damaged.
  const std::string& lastLine() const { return lastLine_; }
  // What was found not to be as it was written, since it was opened. Empty: nothing.
  const std::string& damage() const { return damage_; }

 private:
  Trail(std::string folder, const Limits& limits, UniqueFd lock, evidence::SigningKey key, TrailHead head)
      : folder_(std::move(folder)),
        limits_(limits),
        lock_(std::move(lock)),
        key_(std::move(key)),
        head_(std::move(head)) {}

  std::string PathOf(const std::string& file) const { return folder_ + "/" + file; }
  uint64_t SizeOf(const std::string& file) const;
  // Whether all that is there was signed, and what to say where it was not.
  absl::Status LookAtEnd();
  // Whether the current file is as it was left. If not, notes that for the next lines, which go to a new file.
  absl::Status CheckFile();
  absl::Status OpenFile(absl::Time now);
  absl::Status Write(const std::string& text);
  absl::Status WriteHead(const TrailHead& head) const;
  bool IsOnDisk(const TrailHead& head) const;
  void NoteDamage(const std::string& file, const std::string& what);
  void NoteUnsigned(const std::string& file, uint64_t from, uint64_t bytes);
  // Gives a file of which nothing was signed a name that is no trail's.
  absl::Status SetAside(const std::string& file);
  // Finds what is too old or too much, moves the head's beginning behind it, and says so in a line.
  void PlanRemoval(absl::Time now, TrailHead& head, std::vector<std::string>& lines);
  // How many of the files that are kept are to be removed, the oldest first.
  struct Kept {
    std::vector<std::string> files, days;
    std::vector<uint64_t> sizes;
    uint64_t total = 0;  // with those that were set aside
  };
  absl::StatusOr<Kept> ReadKept() const;
  // Removes files that were set aside and are too old or too much, before any line that was signed, and notes it.
  void RemoveSetAside(const std::string& oldest, Kept& kept);
  size_t CountGone(const Kept& kept, const std::string& oldest) const;
  // What is not there of the first `gone` files, or not as it was written: it must not be signed away. Empty: nothing.
  std::string FindMissing(const std::vector<std::string>& files, size_t gone) const;
  void RemoveOld() const;

  const std::string folder_;
  const Limits limits_;
  const UniqueFd lock_;
  const evidence::SigningKey key_;
  TrailHead head_;
  UniqueFd file_;  // that lines go to; none: a new one is to be begun
  std::string name_;
  uint64_t size_ = 0;               // of it, as it was signed
  bool mustTruncate_ = false;       // what lies behind that is ours, and was not signed
  std::vector<std::string> notes_;  // lines that say what was found
  std::string damage_;
  std::string lastLine_;
  bool isMissing_ = false;  // old lines are: noted
};

}  // namespace kveil::audit
