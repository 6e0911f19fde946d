// A receipt is written before the head, and each file is there whole or not at all. So after a crash the last receipt
// may not be in the head yet: then it is taken as it is, if it is in order, and written over if it is not.
#include "receipts/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "receipts/small_file.h"

namespace kveil::receipts {
namespace {

constexpr size_t kDigits = 8;

// One writer at a time, of this process or another.
absl::StatusOr<UniqueFd> Lock(const std::string& folder) {
  const std::string path = folder + "/lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid() || ::flock(lock.get(), LOCK_EX) != 0) {
    return absl::UnavailableError(StrCat(path, ": ", std::strerror(errno)));
  }
  return lock;
}

std::string HeadText(uint64_t number, const std::string& hash) {
  return StrCat("kveil receipts 1\n", number, " ", hash, "\n");
}

}  // namespace

std::string Store::PathOf(uint64_t number, std::string_view ending) const {
  std::string digits = StrCat(number);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return StrCat(folder_, "/", digits, ending);
}

absl::Status Store::Prepare() const {
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(StrCat("receipts: ", folder_, ": ", std::strerror(errno)));
  }
  ASSIGN_OR_RETURN(const UniqueFd lock, Lock(folder_));
  return SigningKey::ReadOrMake(folder_ + "/key.pem").status();
}

absl::StatusOr<std::optional<Store::Head>> Store::ReadHead(const SigningKey& key) const {
  const std::string path = folder_ + "/head";
  absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) return text.status();
  const auto wrong = [&] {
    return absl::FailedPreconditionError(StrCat(path, ": is not what was written there: kveil receipts verify"));
  };
  // The signed text, which ends with the second line, and the signature in hexadecimal digits.
  const size_t end = text->find('\n', text->find('\n') + 1);
  if (end == std::string::npos) return wrong();
  const std::string signedText = text->substr(0, end + 1);
  const std::string signature = absl::HexStringToBytes(absl::StripSuffix(text->substr(end + 1), "\n"));
  if (!key.Verifies(signedText, signature)) return wrong();
  const std::vector<std::string> words = absl::StrSplit(signedText, absl::ByAnyChar(" \n"));
  Head head;
  if (words.size() < 5 || !absl::SimpleAtoi(words[3], &head.number)) return wrong();
  head.hash = words[4];
  return head;
}

absl::Status Store::Advance(const SigningKey& key, Head& head) const {
  ASSIGN_OR_RETURN(const Stored stored, Read(head.number + 1));
  if (!key.Verifies(stored.text, stored.signature)) return absl::FailedPreconditionError("its signature is wrong");
  ASSIGN_OR_RETURN(const Place place, PlaceOf(stored.text));
  if (place.number != head.number + 1) return absl::FailedPreconditionError(StrCat("it is number ", place.number));
  if (place.previous != head.hash) return absl::FailedPreconditionError("it does not follow the one before");
  head = {place.number, Sha256Hex(stored.text)};
  return absl::OkStatus();
}

absl::StatusOr<Store::Head> Store::FindHead(const SigningKey& key) const {
  ASSIGN_OR_RETURN(const std::optional<Head> written, ReadHead(key));
  Head head = written.value_or(Head());
  (void)Advance(key, head);
  // Without its head, what is there could be all or a part.
  if (!written.has_value() && HasFilesBeyond(1)) {
    return absl::FailedPreconditionError(StrCat(folder_, "/head: is missing: kveil receipts verify"));
  }
  return head;
}

absl::StatusOr<uint64_t> Store::Append(const Receipt& receipt) const {
  ASSIGN_OR_RETURN(const UniqueFd lock, Lock(folder_));
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::ReadOrMake(folder_ + "/key.pem"));
  ASSIGN_OR_RETURN(const Head head, FindHead(key));
  const uint64_t number = head.number + 1;
  const std::string text = TextOf(receipt, number, head.hash);
  const std::string signature = key.Sign(text);
  const std::string headText = HeadText(number, Sha256Hex(text));
  const std::string headSignature = key.Sign(headText);
  if (signature.empty() || headSignature.empty()) return absl::InternalError("OpenSSL cannot sign");
  RETURN_IF_ERROR(WriteFile(PathOf(number, ".json"), text, 0600));
  RETURN_IF_ERROR(WriteFile(PathOf(number, ".sig"), signature, 0600));
  RETURN_IF_ERROR(WriteFile(folder_ + "/head", StrCat(headText, absl::BytesToHexString(headSignature), "\n"), 0600));
  return number;
}

absl::StatusOr<Store::Stored> Store::Read(uint64_t number) const {
  Stored stored;
  ASSIGN_OR_RETURN(stored.text, ReadFile(PathOf(number, ".json")));
  ASSIGN_OR_RETURN(stored.signature, ReadFile(PathOf(number, ".sig")));
  return stored;
}

absl::StatusOr<std::string> Store::PublicPem() const {
  const std::string path = folder_ + "/key.pem";
  if (::access(path.c_str(), F_OK) != 0) {
    return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno), "; the agent makes it when it starts"));
  }
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::ReadOrMake(path));
  return key.PublicPem();
}

absl::StatusOr<uint64_t> Store::ReadCount() const {
  uint64_t count = 0;
  while (::access(PathOf(count + 1, ".json").c_str(), F_OK) == 0) ++count;
  return count;
}

bool Store::HasFilesBeyond(uint64_t number) const {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(folder_.c_str()), ::closedir);
  if (folder == nullptr) return false;
  while (const dirent* const entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    uint64_t found = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), found);
    if (error == std::errc() && end != name.data() && std::string_view(end) == ".json" && found > number) return true;
  }
  return false;
}

absl::StatusOr<Store::Verification> Store::VerifyAll(const SigningKey& key) const {
  Verification verification;
  const auto fault = [&](const std::string& what) {
    if (verification.faults.size() < kMostFaults) verification.faults.push_back(what);
  };
  ASSIGN_OR_RETURN(const UniqueFd lock, Lock(folder_));
  absl::StatusOr<std::optional<Head>> written = ReadHead(key);
  if (!written.ok()) fault(std::string(written.status().message()));
  const std::optional<Head> known = written.ok() ? *written : std::nullopt;
  Head head;
  bool isWhole = true;
  const auto hasText = [this](uint64_t number) { return ::access(PathOf(number, ".json").c_str(), F_OK) == 0; };
  for (uint64_t number = 1; hasText(number) || (known.has_value() && number <= known->number); ++number) {
    const absl::Status status = Advance(key, head);
    if (!status.ok()) {
      isWhole = false;
      fault(StrCat("receipt ", number, ": ", ToStd(status.message())));
      // The rest is judged by what lies there.
      const absl::StatusOr<std::string> text = ReadFile(PathOf(number, ".json"));
      head = {number, text.ok() ? Sha256Hex(*text) : ""};
    } else if (isWhole) {
      verification.count = number;
      verification.last = head.hash;
    }
    if (known.has_value() && known->number == number && known->hash != head.hash) {
      fault(StrCat("receipt ", number, ": is not the one that was written there last"));
    }
    if (verification.faults.size() == kMostFaults) break;
  }
  if (written.ok() && !known.has_value() && head.number > 0) fault("the head is missing: receipts may be, too");
  if (known.has_value() && head.number > known->number + 1) fault("there are receipts behind the head");
  if (HasFilesBeyond(head.number))
    fault(StrCat("there are receipts behind number ", head.number, ", which is the last in order"));
  return verification;
}

absl::Status Store::VerifyOne(const SigningKey& key, uint64_t number) const {
  ASSIGN_OR_RETURN(const Stored stored, Read(number));
  if (!key.Verifies(stored.text, stored.signature)) {
    return absl::FailedPreconditionError(StrCat(PathOf(number, ".json"), ": its signature is wrong"));
  }
  const absl::StatusOr<Place> place = PlaceOf(stored.text);
  if (place.ok() && place->number == number) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(PathOf(number, ".json"), ": is not the receipt of this number"));
}

}  // namespace kveil::receipts
