// Lines are written before the head. What a crash leaves behind the head was not signed: it stays where it is, and a
// line says so. Nothing is mended in silence.
#include "audit/trail.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "audit/trail_files.h"
#include "base/status_macros.h"
#include "base/sync_folder.h"
#include "base/text.h"
#include "evidence/folder_lock.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using evidence::SigningKey;
using Json = nlohmann::ordered_json;

// How often a file of one name may have been set aside.
constexpr int kMostSetAside = 100;

std::string Line(uint64_t number, const std::string& previous, const std::string& object) {
  return StrCat("{\"seq\":", number, ",\"previous\":\"", previous, "\",", std::string_view(object).substr(1));
}

// What was cut off, head and all, must not look like a folder that is new.
absl::Status PrepareFolder(const std::string& folder) {
  const std::string path = folder + "/key.pem";
  const absl::StatusOr<TrailHead> head = ReadHead(folder, nullptr);
  if (!head.ok() && !absl::IsNotFound(head.status())) return head.status();
  const absl::StatusOr<SigningKey> key = SigningKey::Read(path);
  if (!key.ok() && !absl::IsNotFound(key.status())) return key.status();
  if (key.ok() && head.ok()) return absl::OkStatus();
  constexpr const char* kWhatToDo = ". To begin anew, move the folder away and keep it";
  if (key.ok()) {
    return absl::FailedPreconditionError(
        StrCat(folder, "/head: is missing, so lines may be, too: kveil audit verify", kWhatToDo));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(folder));
  if (!files.empty() || (head.ok() && head->last > 0)) {
    return absl::FailedPreconditionError(
        StrCat(path, ": is missing beside lines that it has signed: restore it", kWhatToDo));
  }
  ASSIGN_OR_RETURN(const SigningKey made, SigningKey::Make());
  TrailHead first;
  first.time = first.aged = TextOf(absl::Now());
  RETURN_IF_ERROR(evidence::WriteFile(folder + "/head", TextOf(first, made), 0600));
  return made.Write(path);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trail>> Trail::Open(const std::string& folder, const Limits& limits) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return FileError(folder);
  ASSIGN_OR_RETURN(UniqueFd lock, evidence::LockFolder(folder, std::chrono::milliseconds(0)));
  RETURN_IF_ERROR(PrepareFolder(folder));
  ASSIGN_OR_RETURN(SigningKey key, SigningKey::Read(folder + "/key.pem"));
  ASSIGN_OR_RETURN(TrailHead head, ReadHead(folder, &key));
  RETURN_IF_ERROR(evidence::WriteFile(folder + "/public.pem", key.PublicPem(), 0644));
  std::unique_ptr<Trail> trail(new Trail(folder, limits, std::move(lock), std::move(key), std::move(head)));
  RETURN_IF_ERROR(trail->LookAtEnd());
  return trail;
}

void Trail::NoteDamage(const std::string& file, const std::string& what) {
  damage_ = StrCat(PathOf(file), ": ", what, ": kveil audit verify");
  notes_.push_back(Json{{"kind", "damaged"}, {"file", file}, {"what", what}}.dump());
}

void Trail::NoteUnsigned(const std::string& file, uint64_t from, uint64_t bytes) {
  // The first line of the next file, where whoever verifies looks for it.
  notes_.insert(notes_.begin(), Json{{"kind", "unsigned"}, {"file", file}, {"from", from}, {"bytes", bytes}}.dump());
}

absl::Status Trail::SetAside(const std::string& file) {
  for (int i = 1; i <= kMostSetAside; ++i) {
    const std::string name = SetAsideName(file, i);
    if (::access(PathOf(name).c_str(), F_OK) == 0) continue;
    if (::rename(PathOf(file).c_str(), PathOf(name).c_str()) != 0) return FileError(PathOf(file));
    notes_.push_back(Json{{"kind", "setAside"}, {"file", name}}.dump());
    return absl::OkStatus();
  }
  return absl::UnavailableError(StrCat("audit: ", PathOf(file), ": is there although no line of it was signed"));
}

absl::Status Trail::LookAtEnd() {
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(folder_));
  for (const std::string& file : files) {
    if (*FirstLineOf(file) > head_.last) RETURN_IF_ERROR(SetAside(file));
  }
  if (head_.file.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> text = evidence::ReadFile(PathOf(head_.file));
  if (absl::IsUnavailable(text.status())) return text.status();
  if (!text.ok()) {
    NoteDamage(head_.file, "is missing");
  } else if (text->size() < head_.bytes) {
    NoteDamage(head_.file, "is shorter than it was signed");
  } else {
    const std::string_view lines = std::string_view(*text).substr(0, head_.bytes);
    const size_t before = lines.size() < 2 ? std::string_view::npos : lines.rfind('\n', lines.size() - 2);
    const std::string_view last = lines.substr(before + 1);  // of npos 0
    if (!last.ends_with('\n') || evidence::Sha256Hex(last.substr(0, last.size() - 1)) != head_.hash) {
      NoteDamage(head_.file, "its last line is not the one that was signed");
      return absl::OkStatus();
    }
    lastLine_ = std::string(last.substr(0, last.size() - 1));
    if (text->size() > head_.bytes) {
      NoteUnsigned(head_.file, head_.bytes, text->size() - head_.bytes);
    } else {
      file_ = UniqueFd(::open(PathOf(head_.file).c_str(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
      if (!file_.valid()) return FileError(PathOf(head_.file));
      name_ = head_.file;
      size_ = head_.bytes;
    }
  }
  return absl::OkStatus();
}

absl::Status Trail::CheckFile() {
  if (!file_.valid()) return absl::OkStatus();
  if (mustTruncate_) {
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) != 0) return FileError(PathOf(name_));
    mustTruncate_ = false;
  }
  struct stat open, there;
  if (::fstat(file_.get(), &open) != 0) return FileError(PathOf(name_));
  const bool isThere = ::lstat(PathOf(name_).c_str(), &there) == 0 && there.st_ino == open.st_ino;
  const auto size = static_cast<uint64_t>(open.st_size);
  if (isThere && size == size_) return absl::OkStatus();
  if (!isThere) {
    if (size_ > 0) NoteDamage(name_, "was removed or replaced");
  } else if (size < size_) {
    NoteDamage(name_, "is shorter than it was written");
  } else if (size_ > 0) {
    damage_ = StrCat(PathOf(name_), ": somebody else has written to it: kveil audit verify");
    NoteUnsigned(name_, size_, size - size_);
  }
  file_ = UniqueFd();
  return absl::OkStatus();
}

absl::Status Trail::OpenFile(absl::Time now) {
  if (file_.valid() && size_ < limits_.fileBytes && DayIn(name_) == DayOf(now)) return absl::OkStatus();
  if (file_.valid() && size_ == 0) return absl::OkStatus();  // nothing could be written to it yet
  const std::string name = FileName(head_.last + 1, now);
  file_ = UniqueFd();
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  file_ = UniqueFd(::open(PathOf(name).c_str(), kFlags, 0600));
  if (!file_.valid() && errno == EEXIST) {
    RETURN_IF_ERROR(SetAside(name));
    file_ = UniqueFd(::open(PathOf(name).c_str(), kFlags, 0600));
  }
  if (!file_.valid()) return FileError(PathOf(name));
  name_ = name;
  size_ = 0;
  return SyncFolder(folder_) ? absl::OkStatus() : FileError(folder_);
}

absl::Status Trail::Write(const std::string& text) {
  mustTruncate_ = true;  // until the head has it
  for (size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(file_.get(), text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(PathOf(name_));
    written += static_cast<size_t>(count);
  }
  return ::fdatasync(file_.get()) == 0 ? absl::OkStatus() : FileError(PathOf(name_));
}

// The folder may not have been synced although the head has its name.
bool Trail::IsOnDisk(const TrailHead& head) const {
  const absl::StatusOr<TrailHead> there = ReadHead(folder_, &key_);
  return there.ok() && there->last == head.last && there->hash == head.hash && there->time == head.time;
}

absl::Status Trail::WriteHead(const TrailHead& head) const {
  const std::string text = TextOf(head, key_);
  if (text.empty()) return absl::InternalError("audit: OpenSSL cannot sign");
  return evidence::WriteFile(folder_ + "/head", text, 0600);
}

absl::Status Trail::Append(absl::Span<const std::string> objects, const Moment& moment) {
  RETURN_IF_ERROR(CheckFile());
  const absl::Time now = moment.now;
  TrailHead head = head_;
  if (moment.isAll) head.time = TextOf(now);
  // Of an empty one, nothing can be too young.
  const absl::Time aged = head.last == 0 ? now : TimeIn(head.aged).value_or(now);
  head.aged = TextOf(std::min(now, aged + kMostHaste * moment.elapsed));
  std::vector<std::string> removals;
  PlanRemoval(now, head, removals);
  if (objects.empty() && removals.empty() && notes_.empty()) {
    RETURN_IF_ERROR(WriteHead(head));
    head_ = std::move(head);
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(OpenFile(now));
  std::vector<std::string> added = notes_;
  added.insert(added.end(), removals.begin(), removals.end());
  added.insert(added.end(), objects.begin(), objects.end());
  std::string text;
  for (const std::string& object : added) {
    const std::string line = Line(++head.last, head.hash, object);
    head.hash = evidence::Sha256Hex(line);
    StrAppend(&text, line, "\n");
  }
  head.file = name_;
  head.bytes = size_ + text.size();
  absl::Status written = Write(text);
  if (written.ok()) {
    written = WriteHead(head);
    if (!written.ok() && IsOnDisk(head)) written = absl::OkStatus();
  }
  if (!written.ok()) {
    if (::ftruncate(file_.get(), static_cast<off_t>(size_)) == 0) mustTruncate_ = false;
    return written;
  }
  mustTruncate_ = false;
  size_ = head.bytes;
  notes_.clear();
  const bool isShorter = head.first != head_.first;
  head_ = std::move(head);
  if (isShorter) RemoveOld();
  return absl::OkStatus();
}

uint64_t Trail::SizeOf(const std::string& file) const {
  struct stat info;
  return ::lstat(PathOf(file).c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

absl::StatusOr<Trail::Kept> Trail::ReadKept() const {
  Kept kept;
  ASSIGN_OR_RETURN(kept.files, FilesOf(folder_));
  for (const std::string& file : kept.files) {
    kept.sizes.push_back(SizeOf(file));
    kept.total += kept.sizes.back();
    kept.days.emplace_back(DayIn(file));
  }
  // A file was not begun after the next one, whatever the clock said.
  for (size_t i = kept.days.size(); i-- > 1;) kept.days[i - 1] = std::min(kept.days[i - 1], kept.days[i]);
  return kept;
}

void Trail::RemoveSetAside(const std::string& oldest, Kept& kept) {
  const absl::StatusOr<std::vector<std::string>> files = SetAsideIn(folder_);
  if (!files.ok()) return;
  for (const std::string& file : *files) kept.total += SizeOf(file);
  for (const std::string& file : *files) {
    if (DayIn(FormerName(file)) >= oldest && kept.total <= limits_.bytes) continue;
    const uint64_t size = SizeOf(file);
    if (!evidence::RemoveFile(PathOf(file)).ok()) continue;
    kept.total -= size;
    notes_.push_back(Json{{"kind", "removed"}, {"file", file}, {"bytes", size}}.dump());
  }
}

size_t Trail::CountGone(const Kept& kept, const std::string& oldest) const {
  uint64_t total = kept.total;
  size_t gone = 0;
  while (gone < kept.files.size() &&
         (kept.days[gone] < oldest || (total > limits_.bytes && gone + 1 < kept.files.size()))) {
    total -= kept.sizes[gone++];
  }
  return gone;
}

std::string Trail::FindMissing(const std::vector<std::string>& files, size_t gone) const {
  size_t i = 0;
  while (i + 1 < files.size() && *FirstLineOf(files[i + 1]) <= head_.first) ++i;  // are still to be removed
  if (*FirstLineOf(files[i]) != head_.first) return StrCat("lines before ", files[i]);
  for (; i < gone; ++i) {
    const absl::StatusOr<std::string> text = evidence::ReadFile(PathOf(files[i]));
    if (!text.ok()) return StrCat("what is in ", files[i]);
    std::string_view lines = *text;
    std::string following = head_.hash;
    if (files[i] == head_.file) {
      lines = lines.substr(0, head_.bytes);
    } else if (i + 1 < files.size()) {
      following = PreviousOf(PathOf(files[i + 1]));
      const absl::StatusOr<std::string> next = evidence::ReadFile(PathOf(files[i + 1]));
      if (next.ok()) lines = lines.substr(0, SignedEnd(files[i], *next).value_or(lines.size()));
    }
    if (!lines.ends_with('\n')) return StrCat("the end of ", files[i]);
    lines.remove_suffix(1);
    const std::string last(lines.substr(lines.rfind('\n') + 1));  // of npos 0
    if (evidence::Sha256Hex(last) != following) return StrCat("what follows ", files[i], ", or its end,");
  }
  return "";
}

void Trail::PlanRemoval(absl::Time now, TrailHead& head, std::vector<std::string>& lines) {
  absl::StatusOr<Kept> kept = ReadKept();
  if (!kept.ok() || head_.last == 0) return;
  const std::vector<std::string>& files = kept->files;
  // A day's lines are kept for `keep` after the day.
  const std::string oldest = DayOf(*TimeIn(head.aged) - limits_.keep - absl::Hours(24));
  RemoveSetAside(oldest, *kept);
  const auto firstAfter = [&](size_t gone) { return gone < files.size() ? *FirstLineOf(files[gone]) : head_.last + 1; };
  size_t gone = CountGone(*kept, oldest);
  if (gone == 0 || firstAfter(gone) <= head.first) return;  // of an earlier removal
  if (const std::string missing = FindMissing(files, gone); !missing.empty()) {
    if (!std::exchange(isMissing_, true)) {
      NoteDamage(files[0], StrCat(missing, " is missing or changed, so that no line is removed for its age"));
    }
    gone = CountGone(*kept, "");  // but the disk must not fill up
    if (gone == 0 || firstAfter(gone) <= head.first) return;
  }
  if (gone < files.size() && firstAfter(gone) > head_.last) return;  // the file that is begun now
  const bool isEarly = kept->days[gone - 1] >= oldest;
  const std::string previous = gone < files.size() ? PreviousOf(PathOf(files[gone])) : head_.hash;
  Json line{{"kind", "removed"},
            {"first", head.first},
            {"last", firstAfter(gone) - 1},
            {"hash", previous},
            {"time", TextOf(now)}};
  if (isEarly) line["early"] = true;
  if (isEarly) head.early = TextOf(now);
  lines.push_back(line.dump());
  head.first = firstAfter(gone);
  head.firstPrevious = previous;
}

// Those that could not be removed are when the next ones are.
void Trail::RemoveOld() const {
  const absl::StatusOr<std::vector<std::string>> files = FilesOf(folder_);
  if (!files.ok()) return;
  for (size_t i = 0; i + 1 < files->size() && *FirstLineOf((*files)[i + 1]) <= head_.first; ++i) {
    (void)evidence::RemoveFile(PathOf((*files)[i]));
  }
}

}  // namespace kveil::audit
