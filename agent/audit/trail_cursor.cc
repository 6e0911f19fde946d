#include "audit/trail_cursor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "audit/lines.h"
#include "audit/trail.h"
#include "audit/trail_files.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/small_file.h"

namespace kveil::audit {
namespace {

// Longer ones are none of ours.
constexpr size_t kLongestLine = size_t{1} << 20;
// A line that says what was never signed is shorter.
constexpr size_t kLongestFirstLine = 4096;

absl::StatusOr<std::string> ReadAt(int fd, uint64_t offset, size_t bytes, const std::string& path) {
  std::string text(bytes, '\0');
  size_t size = 0;
  while (size < bytes) {
    const ssize_t count = ::pread(fd, text.data() + size, bytes - size, static_cast<off_t>(offset + size));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path);
    if (count == 0) break;
    size += static_cast<size_t>(count);
  }
  text.resize(size);
  return text;
}

}  // namespace

absl::StatusOr<TrailCursor::Piece> TrailCursor::Next(size_t bytes) {
  RETURN_IF_ERROR(ReadHeadAgain());
  Piece piece;
  if (file_.empty()) RETURN_IF_ERROR(Find(piece));
  while (!file_.empty()) {
    ASSIGN_OR_RETURN(const End end, FindEnd());
    ASSIGN_OR_RETURN(const bool isRoom, Take(end.bytes, bytes, piece));
    if (!isRoom || end.next.empty()) break;
    RETURN_IF_ERROR(Open(end.next));
  }
  piece.end = place_;
  if (!isHeadGiven_ && place_.seq == head_.last) piece.head = headText_;
  if (piece.head.has_value()) isHeadGiven_ = true;
  return piece;
}

absl::Status TrailCursor::ReadHeadAgain() {
  const std::string path = PathOf("head");
  ASSIGN_OR_RETURN(std::string text, evidence::ReadFile(path));
  if (text == headText_) return absl::OkStatus();
  ASSIGN_OR_RETURN(head_, HeadIn(text, path, &key_));
  headText_ = std::move(text);
  isHeadGiven_ = false;
  return absl::OkStatus();
}

absl::Status TrailCursor::Open(const std::string& file) {
  UniqueFd open(::open(PathOf(file).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!open.valid()) return FileError(PathOf(file));
  open_ = std::move(open);
  file_ = file;
  offset_ = 0;
  return absl::OkStatus();
}

void TrailCursor::BeginAnew(const std::vector<std::string>& files) {
  place_ = {head_.first - 1, head_.firstPrevious};
  file_.clear();
  for (const std::string& file : files) {
    // Those before the first line are still to be removed.
    if (file_.empty() || *FirstLineOf(file) <= head_.first) file_ = file;
  }
}

absl::Status TrailCursor::Find(Piece& piece) {
  ASSIGN_OR_RETURN(std::vector<std::string> files, FilesOf(folder_));
  std::erase_if(files, [&](const std::string& file) { return *FirstLineOf(file) > head_.last; });  // not signed yet
  const auto after = std::find_if(files.begin(), files.end(),
                                  [&](const std::string& file) { return *FirstLineOf(file) > place_.seq; });
  if (place_.seq == 0 || place_.seq > head_.last) {
    BeginAnew(files);
  } else if (after != files.begin()) {
    ASSIGN_OR_RETURN(const bool isThere, FindIn(*(after - 1), after == files.end() ? "" : *after));
    if (isThere) return absl::OkStatus();
    BeginAnew(files);
  } else {
    if (place_.seq + 1 < head_.first) {
      piece.missing = {place_.seq + 1, head_.first - 1};
      place_ = {head_.first - 1, head_.firstPrevious};
    }
    if (!files.empty()) file_ = files.front();
  }
  return file_.empty() ? absl::OkStatus() : Open(std::string(file_));
}

absl::StatusOr<bool> TrailCursor::FindIn(const std::string& file, const std::string& next) {
  RETURN_IF_ERROR(Open(file));
  ASSIGN_OR_RETURN(const uint64_t end, SignedBytes(file, next));
  ASSIGN_OR_RETURN(const std::string text, evidence::ReadFile(PathOf(file)));
  for (size_t at = 0; at < std::min<size_t>(end, text.size());) {
    const size_t lineEnd = text.find('\n', at);
    if (lineEnd == std::string::npos) break;
    const std::string line = text.substr(at, lineEnd - at);
    at = lineEnd + 1;
    const std::optional<ChainPlace> place = ChainPlaceOf(line);
    if (!place.has_value() || place->seq != place_.seq || evidence::Sha256Hex(line) != place_.hash) continue;
    offset_ = at;
    return true;
  }
  return false;
}

absl::StatusOr<uint64_t> TrailCursor::SignedBytes(const std::string& file, const std::string& next) const {
  if (file == head_.file) return head_.bytes;
  struct stat info;
  if (::fstat(open_.get(), &info) != 0) return FileError(PathOf(file));
  const auto size = static_cast<uint64_t>(info.st_size);
  if (next.empty()) return size;
  const UniqueFd following(::open(PathOf(next).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!following.valid()) return FileError(PathOf(next));
  ASSIGN_OR_RETURN(const std::string text, ReadAt(following.get(), 0, kLongestFirstLine, PathOf(next)));
  return std::min(size, SignedEnd(file, text).value_or(size));
}

absl::StatusOr<TrailCursor::End> TrailCursor::FindEnd() const {
  if (file_ == head_.file) return End{head_.bytes, ""};
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(folder_));
  const auto next = std::find_if(files.begin(), files.end(), [&](const std::string& file) {
    return *FirstLineOf(file) > *FirstLineOf(file_) && *FirstLineOf(file) <= head_.last;
  });
  if (next == files.end()) return End{offset_, ""};
  ASSIGN_OR_RETURN(const uint64_t bytes, SignedBytes(file_, *next));
  return End{bytes, *next};
}

absl::StatusOr<bool> TrailCursor::Take(uint64_t end, size_t bytes, Piece& piece) {
  size_t taken = 0;
  for (const std::string& line : piece.lines) taken += line.size();
  while (offset_ < end) {
    const size_t most = std::min<uint64_t>(end - offset_, kLongestLine);
    ASSIGN_OR_RETURN(const std::string text, ReadAt(open_.get(), offset_, most, PathOf(file_)));
    size_t at = 0;
    for (size_t lineEnd = 0; (lineEnd = text.find('\n', at)) != std::string::npos;) {
      if (taken >= bytes) return false;
      const std::string_view line = std::string_view(text).substr(at, lineEnd - at);
      if (!TakeLine(line, piece)) return false;
      taken += line.size();
      at = lineEnd + 1;
      offset_ += line.size() + 1;
    }
    if (at == 0) offset_ = end;  // what follows is no line
  }
  return true;
}

// False: a gap comes before it, which is to be told before the line.
bool TrailCursor::TakeLine(std::string_view line, Piece& piece) {
  std::string text(line);
  const std::optional<ChainPlace> place = ChainPlaceOf(text);
  if (!place.has_value() || place->seq <= place_.seq) return true;  // no line of the chain
  if (place->seq > place_.seq + 1) {
    if (!piece.lines.empty() || piece.missing.has_value()) return false;
    piece.missing = {place_.seq + 1, place->seq - 1};
  }
  place_ = {place->seq, evidence::Sha256Hex(text)};
  piece.lines.push_back(std::move(text));
  return true;
}

}  // namespace kveil::audit
