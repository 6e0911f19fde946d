#include "keys/registry/registry_copy.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/registry/moved_note.h"
#include "keys/registry/postgres_copy_target.h"
#include "keys/registry/sqlite_copy_source.h"

namespace kveil::keys {
namespace {

using Source = SqliteCopySource;
using Target = PostgresCopyTarget;

constexpr std::chrono::seconds kOpenLimit{1};
constexpr std::chrono::seconds kConnectLimit{20};
// Of one transaction.
constexpr size_t kMostBytes = 4 << 20;

Source::Deadline Within(std::chrono::seconds time) { return std::chrono::steady_clock::now() + time; }

size_t SizeOf(const std::vector<CopiedValue>& row) {
  size_t size = 0;
  for (const CopiedValue& value : row) {
    const auto* const bytes = std::get_if<ByteBuffer>(&value);
    size += bytes == nullptr ? sizeof(int64_t) : bytes->size();
  }
  return size;
}

// Whether the target is the one that the file moves to, or may become it. Its token or id says so: a server may be
// named otherwise by now, as a standby that has taken over.
absl::Status CheckTarget(const Source& source, const Target& target, const Target::Content& content,
                         const RegistryId& id) {
  const bool isBegun = source.state() != Source::State::kInUse;
  const bool wasWhole = source.state() == Source::State::kHandingOver || source.state() == Source::State::kMoved;
  switch (content.state) {
    case Target::State::kEmpty:
      if (!isBegun || (!wasWhole && source.target() == target.name())) return absl::OkStatus();
      if (!wasWhole) {
        return absl::FailedPreconditionError(StrCat("it is being moved to ", source.target(), " already: name that ",
                                                    "one, or give it up by `kveil registry copy --give-up`"));
      }
      return absl::FailedPreconditionError(StrCat("the copy in ", source.target(), " was complete, and may have been ",
                                                  "in use since. ", target.name(), " does not hold it: name the one ",
                                                  "that does; if it is gone, restore its backup"));
    case Target::State::kUnfinished:
      if (isBegun && content.token == source.token()) return absl::OkStatus();
      return absl::FailedPreconditionError(
          StrCat(target.name(),
                 " holds an unfinished copy that is not this one's. If it was given up, remove it: "
                 "DROP SCHEMA kveil CASCADE"));
    case Target::State::kRegistry:
      if (wasWhole && content.id == id) return absl::OkStatus();
      return absl::FailedPreconditionError(
          StrCat(target.name(), " holds a registry already: choose a database without one"));
    case Target::State::kForeign:
      break;
  }
  return absl::FailedPreconditionError(
      StrCat(target.name(), " has a schema kveil that is something else's; choose a database without one"));
}

// Whether the tables of both are those that this version knows.
absl::Status CheckVersion(const Source& source, const Target::Content& content) {
  if (source.isOfThisVersion() && content.isOfThisVersion) return absl::OkStatus();
  const bool mayGiveUp = source.state() == Source::State::kCopying;
  return absl::FailedPreconditionError(StrCat("the copy was begun by another version of kveil: finish it by that one",
                                              mayGiveUp ? ", or give it up by `kveil registry copy --give-up`" : ""));
}

// The note is made when the file says that the target may be in use. So beside one that says less, which was put back
// from before, it tells that it is older.
absl::Status CheckNote(const std::string& path, const Source& source) {
  return source.state() == Source::State::kCopying ? RefuseIfMoved(path) : absl::OkStatus();
}

class Copy {
 public:
  Copy(const RegistryCopyOptions& options, Source& source, Target& target)
      : options_(options), source_(source), target_(target) {}

  // All tables. Returns how many rows there are.
  absl::StatusOr<uint64_t> Run() {
    for (const CopiedTable& table : CopiedTables()) {
      ASSIGN_OR_RETURN(const uint64_t count, source_.Count(table));
      all_ += count;
    }
    for (const CopiedTable& table : CopiedTables()) RETURN_IF_ERROR(CopyTable(table));
    return all_;
  }

 private:
  absl::Status CopyTable(const CopiedTable& table) {
    ASSIGN_OR_RETURN(uint64_t copied, target_.Count(table));
    done_ += copied;
    options_.progress(done_, all_);
    ASSIGN_OR_RETURN(std::vector<CopiedValue> place, target_.ReadPlace(table));
    ASSIGN_OR_RETURN(Source::Rows rows, source_.ReadAfter(table, std::move(place)));
    for (bool hasMore = true; hasMore;) {
      if (options_.mustEnd()) return absl::CancelledError("ended");
      ASSIGN_OR_RETURN(hasMore, Read(rows));
      if (batch_.empty()) break;
      RETURN_IF_ERROR(target_.Add(table, batch_));
      copied += batch_.size();
      done_ += batch_.size();
      options_.progress(done_, all_);
    }
    ASSIGN_OR_RETURN(const uint64_t count, source_.Count(table));
    if (copied == count) return absl::OkStatus();
    return absl::FailedPreconditionError(StrCat(target_.name(), " has ", copied, " rows in kveil.", table.name,
                                                ", and ", count,
                                                " were to be copied: somebody else has changed it. Give the "
                                                "copy up, and begin anew"));
  }

  // Fills the batch. Whether there may be more rows.
  absl::StatusOr<bool> Read(Source::Rows& rows) {
    batch_.clear();
    for (size_t size = 0; batch_.size() < options_.mostRows && size < kMostBytes; size += SizeOf(batch_.back())) {
      std::vector<CopiedValue> row;
      ASSIGN_OR_RETURN(const bool isThere, rows.Next(row));
      if (!isThere) return false;
      batch_.push_back(std::move(row));
    }
    return true;
  }

  const RegistryCopyOptions& options_;
  Source& source_;
  Target& target_;
  std::vector<std::vector<CopiedValue>> batch_;
  uint64_t done_ = 0;
  uint64_t all_ = 0;
};

}  // namespace

absl::StatusOr<RegistryCopied> CopyRegistry(const RegistryCopyOptions& options) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Source> source, Source::Open(options.from, Within(kOpenLimit)));
  if (source->state() == Source::State::kInUse && options.mustBeBegun) {
    return absl::FailedPreconditionError(
        StrCat("registry ", options.from, " is not the one that the configuration names as keys.registry. A copy or ",
               "a backup must not move: the other one would stay in use beside it"));
  }
  RETURN_IF_ERROR(CheckNote(options.from, *source));
  ASSIGN_OR_RETURN(const Source::Identity identity, source->ReadIdentity());
  ASSIGN_OR_RETURN(const std::unique_ptr<Target> target, Target::Connect(options.to, Within(kConnectLimit)));
  ASSIGN_OR_RETURN(const Target::Content content, target->Look());
  RETURN_IF_ERROR(CheckTarget(*source, *target, content, identity.identity.id));
  const bool isWhole = content.state == Target::State::kRegistry;
  RegistryCopied copied{target->name()};
  copied.wasMoved = isWhole && source->state() == Source::State::kMoved;
  if (!isWhole) {
    RETURN_IF_ERROR(CheckVersion(*source, content));
    if (source->state() == Source::State::kInUse) RETURN_IF_ERROR(source->Begin(target->name()));
    if (content.state == Target::State::kEmpty) RETURN_IF_ERROR(target->Claim(content, source->token()));
    ASSIGN_OR_RETURN(copied.rows, Copy(options, *source, *target).Run());
    RETURN_IF_ERROR(source->SetState(Source::State::kHandingOver, target->name()));
  }
  RETURN_IF_ERROR(NoteMoved(options.from, target->name()));
  if (copied.wasMoved) return copied;
  if (options.mustEnd()) return absl::CancelledError("ended");
  if (!isWhole) RETURN_IF_ERROR(target->Finish(identity.identity, identity.created, identity.lastNumber));
  if (options.mustEnd()) return absl::CancelledError("ended");
  RETURN_IF_ERROR(source->SetState(Source::State::kMoved, target->name()));
  RETURN_IF_ERROR(source->Settle());
  return copied;
}

absl::Status GiveUpCopy(const std::string& from) {
  ASSIGN_OR_RETURN(const std::unique_ptr<Source> source, Source::Open(from, Within(kOpenLimit)));
  switch (source->state()) {
    case Source::State::kInUse:
      return absl::FailedPreconditionError(StrCat("registry ", from, " is not being moved"));
    case Source::State::kCopying:
      RETURN_IF_ERROR(CheckNote(from, *source));
      return source->GiveUp();
    case Source::State::kHandingOver:
    case Source::State::kMoved:
      break;
  }
  return absl::FailedPreconditionError(
      StrCat("registry ", from, " was copied to ", source->target(), ", which may be in use: go on with that one"));
}

}  // namespace kveil::keys
