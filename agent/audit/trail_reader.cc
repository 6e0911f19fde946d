#include "audit/trail_reader.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "audit/lines.h"
#include "audit/trail.h"
#include "audit/trail_files.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/small_file.h"

namespace kveil::audit {
namespace {

// How long the agent may take to sign what it has written.
constexpr int kMostLooks = 20;
constexpr std::chrono::milliseconds kBetweenLooks{100};

class Reading {
 public:
  Reading(const std::string& folder, const evidence::SigningKey& key,
          absl::FunctionRef<void(const std::string& line)> onLine)
      : folder_(folder), key_(key), onLine_(onLine) {}

  absl::StatusOr<Verification> Run();

 private:
  void Fault(const std::string& what) {
    if (found_.faults.size() < Verification::kMostFaults) found_.faults.push_back(what);
    isWhole_ = false;
  }
  void BeginAt(uint64_t first, const std::string& previous);
  // A trail that was put together elsewhere, such as of a topic, may have lines that the agent has removed since.
  void BeginEarlier(const std::string& file, std::string_view text);
  void ReadFiles(const std::vector<std::string>& files);
  // Whether the agent has removed it meanwhile, as it is too old.
  bool WasRemoved(const std::string& file);
  void ReadLines(const std::string& file, std::string_view text);
  void ReadLine(const std::string& file, const std::string& line);
  // Whether there is more than the head says, and no head that says so comes.
  bool HasUnsigned() const;

  const std::string& folder_;
  const evidence::SigningKey& key_;
  const absl::FunctionRef<void(const std::string& line)> onLine_;
  Verification found_;
  std::optional<TrailHead> head_;  // none: it is missing, or not what was written
  uint64_t last_ = 0;              // the line that was read last
  std::string hash_;
  bool isWhole_ = true;
  bool isBeyond_ = false;  // there are lines that were not signed: told
};

absl::StatusOr<Verification> Reading::Run() {
  const absl::StatusOr<TrailHead> head = ReadHead(folder_, &key_);
  ASSIGN_OR_RETURN(const std::vector<std::string> files, FilesOf(folder_));
  if (absl::IsNotFound(head.status())) {
    if (files.empty()) return absl::NotFoundError(StrCat(folder_, ": there is no audit trail"));
    Fault("the head is missing: lines may be, too");
  } else if (!head.ok()) {
    Fault(std::string(head.status().message()));
  } else {
    head_ = *head;
    found_.time = head->time;
    BeginAt(head->first, head->firstPrevious);
  }
  ReadFiles(files);
  if (!head_.has_value()) return std::move(found_);
  if (last_ < head_->last) {
    Fault(StrCat("line ", head_->last, " was signed, and line ", last_, " is the last that is there"));
  }
  if (HasUnsigned()) Fault(StrCat("there is more than line ", head_->last, ", which is the last that was signed"));
  return std::move(found_);
}

void Reading::BeginAt(uint64_t first, const std::string& previous) {
  last_ = first - 1;
  hash_ = previous;
  found_.first = first;
  found_.last = last_;
  found_.hash = hash_;
}

void Reading::ReadFiles(const std::vector<std::string>& files) {
  std::string next;
  bool isRead = false;  // `next` is of the file that comes now
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string& file = files[i];
    // Those before the first line are still to be removed, those behind the head are still to be signed.
    if (head_.has_value() && *FirstLineOf(file) > head_->last) return;
    const bool isLast = i + 1 == files.size();
    if (head_.has_value() && !isLast && *FirstLineOf(files[i + 1]) <= head_->first) continue;
    absl::StatusOr<std::string> text = std::exchange(next, "");
    if (!std::exchange(isRead, false)) text = evidence::ReadFile(folder_ + "/" + file);
    if (absl::IsNotFound(text.status()) && WasRemoved(file)) continue;
    if (!text.ok()) Fault(std::string(text.status().message()));
    if (!text.ok()) continue;
    size_t end = text->size();
    if (head_.has_value() && file == head_->file) {
      end = std::min<size_t>(end, head_->bytes);
    } else if (!isLast) {
      absl::StatusOr<std::string> following = evidence::ReadFile(folder_ + "/" + files[i + 1]);
      isRead = following.ok();
      if (isRead) next = *std::move(following);
      const std::optional<uint64_t> signedEnd = SignedEnd(file, next);
      if (signedEnd.has_value() && *signedEnd < end) {
        found_.notes.push_back(StrCat(file, ": ", end - *signedEnd, " bytes at its end were never signed"));
        end = *signedEnd;
      }
    }
    if (i == 0) BeginEarlier(file, *text);
    ReadLines(file, std::string_view(*text).substr(0, end));
  }
}

// The chain says whether they are those before the first that the head has.
void Reading::BeginEarlier(const std::string& file, std::string_view text) {
  const std::optional<ChainPlace> place = ChainPlaceOf(std::string(text.substr(0, text.find('\n'))));
  if (!head_.has_value() || !place.has_value() || place->seq != *FirstLineOf(file)) return;
  if (place->seq > 0 && place->seq < head_->first) BeginAt(place->seq, place->previous);
}

bool Reading::WasRemoved(const std::string& file) {
  absl::StatusOr<TrailHead> head = ReadHead(folder_, &key_);
  if (!head_.has_value() || !head.ok() || head->first <= *FirstLineOf(file)) return false;
  head_->first = head->first;
  BeginAt(head->first, head->firstPrevious);
  return true;
}

void Reading::ReadLines(const std::string& file, std::string_view text) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return Fault(StrCat(file, ": ends in the middle of a line"));
    ReadLine(file, std::string(text.substr(0, end)));
    text.remove_prefix(end + 1);
  }
}

void Reading::ReadLine(const std::string& file, const std::string& line) {
  const std::optional<ChainPlace> place = ChainPlaceOf(line);
  if (!place.has_value()) return Fault(StrCat(file, ": there is something behind line ", last_, " that is no line"));
  if (head_.has_value() && place->seq > head_->last) {
    if (!std::exchange(isBeyond_, true)) {
      Fault(StrCat(file, ": there is more than line ", head_->last, ", which is the last that was signed"));
    }
    return;
  }
  if (place->seq != last_ + 1) {
    Fault(StrCat(file, ": line ", place->seq, " follows line ", last_));
  } else if (place->previous != hash_) {
    Fault(StrCat(file, ": line ", last_, " is not the one that line ", place->seq, " was written behind"));
  }
  // The rest is judged by what lies there.
  last_ = place->seq;
  hash_ = evidence::Sha256Hex(line);
  if (head_.has_value() && last_ == head_->last && hash_ != head_->hash) {
    Fault(StrCat(file, ": line ", last_, " is not the one that was signed"));
  }
  if (isWhole_) {
    found_.last = last_;
    found_.hash = hash_;
  }
  onLine_(line);
}

// The agent signs what it has written a moment later.
bool Reading::HasUnsigned() const {
  for (int looks = 0; looks < kMostLooks; ++looks) {
    const absl::StatusOr<std::vector<std::string>> files = FilesOf(folder_);
    const absl::StatusOr<TrailHead> now = ReadHead(folder_, &key_);
    if (!files.ok() || !now.ok() || now->last != head_->last) return false;
    std::error_code error;
    const uint64_t size = head_->file.empty() ? 0 : std::filesystem::file_size(folder_ + "/" + head_->file, error);
    const bool isMore = !error && size > head_->bytes;
    if (!isMore && (files->empty() || *FirstLineOf(files->back()) <= head_->last)) return false;
    std::this_thread::sleep_for(kBetweenLooks);
  }
  return true;
}

}  // namespace

absl::StatusOr<Verification> ReadTrail(const std::string& folder, const evidence::SigningKey& key,
                                       absl::FunctionRef<void(const std::string& line)> onLine) {
  return Reading(folder, key, onLine).Run();
}

absl::StatusOr<evidence::SigningKey> ReadPublicKey(const std::string& folder, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string pem, evidence::ReadFile(path.empty() ? folder + "/public.pem" : path));
  return evidence::SigningKey::FromPublicPem(pem);
}

}  // namespace kveil::audit
