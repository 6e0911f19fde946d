// A receipt's signature is written before the receipt, and the receipt before the head. So no receipt is without its
// signature, and after a crash the last receipt may not be in the head yet: then it is taken as it is, if it is in
// order, and removed if it is not.
#include "receipts/store.h"

#include <dirent.h>
#include <fcntl.h>
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
#include "evidence/folder_lock.h"
#include "evidence/small_file.h"

namespace kveil::receipts {

using evidence::LockFolder;
using evidence::ReadFile;
using evidence::RemoveFile;
using evidence::Sha256Hex;
using evidence::SigningKey;
using evidence::WriteFile;

namespace {

constexpr size_t kDigits = 8;

std::string HeadText(uint64_t number, const std::string& hash) {
  return StrCat("kveil receipts 1\n", number, " ", hash, "\n");
}

}  // namespace

std::string Store::PathOf(uint64_t number, std::string_view ending) const {
  std::string digits = StrCat(number);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return StrCat(folder_, "/", digits, ending);
}

bool Store::Has(uint64_t number) const { return ::access(PathOf(number, ".json").c_str(), F_OK) == 0; }

absl::Status Store::Prepare() const {
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::UnavailableError(StrCat("receipts: ", folder_, ": ", std::strerror(errno)));
  }
  ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(folder_, lockPatience_));
  return PrepareLocked();
}

// What was cut off, head and all, must not look like a folder that is new.
absl::Status Store::PrepareLocked() const {
  const std::string path = folder_ + "/key.pem";
  const absl::StatusOr<Head> head = ReadHead(nullptr);
  if (!head.ok() && !absl::IsNotFound(head.status())) return head.status();
  const absl::StatusOr<SigningKey> key = SigningKey::Read(path);
  if (!key.ok() && !absl::IsNotFound(key.status())) return key.status();
  if (key.ok() && head.ok()) return absl::OkStatus();
  constexpr const char* kWhatToDo = ". To begin anew, move the folder away and keep it";
  if (key.ok()) {
    return absl::FailedPreconditionError(
        StrCat(folder_, "/head: is missing, so receipts may be, too: kveil receipts verify", kWhatToDo));
  }
  if (HasFilesBeyond(0) || (head.ok() && head->number > 0)) {
    return absl::FailedPreconditionError(
        StrCat(path, ": is missing beside receipts that it has signed: restore it", kWhatToDo));
  }
  ASSIGN_OR_RETURN(const SigningKey made, SigningKey::Make());
  RETURN_IF_ERROR(WriteHead(made, Head()));
  return made.Write(path);
}

absl::StatusOr<Store::Head> Store::ReadHead(const SigningKey* key) const {
  const std::string path = folder_ + "/head";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  const auto wrong = [&] {
    return absl::FailedPreconditionError(StrCat(path, ": is not what was written there: kveil receipts verify"));
  };
  // The signed text, which ends with the second line, and the signature in hexadecimal digits.
  const size_t end = text.find('\n', text.find('\n') + 1);
  if (end == std::string::npos) return wrong();
  const std::string signedText = text.substr(0, end + 1);
  const std::string signature = absl::HexStringToBytes(absl::StripSuffix(text.substr(end + 1), "\n"));
  if (key != nullptr && !key->Verifies(signedText, signature)) return wrong();
  const std::vector<std::string> words = absl::StrSplit(signedText, absl::ByAnyChar(" \n"));
  Head head;
  if (words.size() < 5 || !absl::SimpleAtoi(words[3], &head.number)) return wrong();
  head.hash = words[4];
  return head;
}

absl::Status Store::WriteHead(const SigningKey& key, const Head& head) const {
  const std::string text = HeadText(head.number, head.hash);
  const std::string signature = key.Sign(text);
  if (signature.empty()) return absl::InternalError("OpenSSL cannot sign");
  return WriteFile(folder_ + "/head", StrCat(text, absl::BytesToHexString(signature), "\n"), 0600);
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
  absl::StatusOr<Head> head = ReadHead(&key);
  if (absl::IsNotFound(head.status())) {
    return absl::FailedPreconditionError(StrCat(folder_, "/head: is missing: kveil receipts verify"));
  }
  if (head.ok()) (void)Advance(key, *head);
  return head;
}

absl::StatusOr<uint64_t> Store::Append(const Receipt& receipt) const {
  ASSIGN_OR_RETURN(const UniqueFd lock, LockFolder(folder_, lockPatience_));
  RETURN_IF_ERROR(PrepareLocked());  // it may have failed when the agent started
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::Read(folder_ + "/key.pem"));
  ASSIGN_OR_RETURN(const Head head, FindHead(key));
  const uint64_t number = head.number + 1;
  const std::string text = TextOf(receipt, number, head.hash);
  const std::string signature = key.Sign(text);
  if (signature.empty()) return absl::InternalError("OpenSSL cannot sign");
  // One that is not in order gets no signature that is not its own, or whoever reads now would find it changed.
  RETURN_IF_ERROR(RemoveFile(PathOf(number, ".json")));
  RETURN_IF_ERROR(WriteFile(PathOf(number, ".sig"), signature, 0600));
  RETURN_IF_ERROR(WriteFile(PathOf(number, ".json"), text, 0600));
  RETURN_IF_ERROR(WriteHead(key, {number, Sha256Hex(text)}));
  return number;
}

absl::StatusOr<Store::Stored> Store::Read(uint64_t number) const {
  Stored stored;
  ASSIGN_OR_RETURN(stored.text, ReadFile(PathOf(number, ".json")));
  ASSIGN_OR_RETURN(stored.signature, ReadFile(PathOf(number, ".sig")));
  return stored;
}

absl::StatusOr<ErasuresTold> Store::ReadErasures(const SigningKey& key, uint64_t number) const {
  ASSIGN_OR_RETURN(const Stored stored, Read(number));
  RETURN_IF_ERROR(Verify(key, number, stored));
  return ErasuresOf(stored.text);
}

absl::StatusOr<std::string> Store::PublicPem() const {
  const std::string path = folder_ + "/key.pem";
  if (::access(path.c_str(), F_OK) != 0) {
    return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno), "; the agent makes it when it starts"));
  }
  ASSIGN_OR_RETURN(const SigningKey key, SigningKey::Read(path));
  return key.PublicPem();
}

absl::StatusOr<uint64_t> Store::ReadCount() const {
  const absl::StatusOr<Head> head = ReadHead(nullptr);
  uint64_t count = head.ok() ? head->number : 0;
  while (Has(count + 1)) ++count;
  return count;
}

std::vector<uint64_t> Store::ReadNumbers() const {
  std::vector<uint64_t> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(folder_.c_str()), ::closedir);
  if (folder == nullptr) return numbers;
  while (const dirent* const entry = ::readdir(folder.get())) {
    const std::string_view name = entry->d_name;
    uint64_t found = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), found);
    if (error == std::errc() && end != name.data() && std::string_view(end) == ".json") numbers.push_back(found);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

bool Store::HasFilesBeyond(uint64_t number) const {
  const std::vector<uint64_t> numbers = ReadNumbers();
  return !numbers.empty() && numbers.back() > number;
}

absl::StatusOr<Store::Verification> Store::VerifyAll(const SigningKey& key) const {
  Verification verification;
  const auto fault = [&](const std::string& what) {
    if (verification.faults.size() < kMostFaults) verification.faults.push_back(what);
  };
  const absl::StatusOr<Head> first = ReadHead(&key);
  if (absl::IsNotFound(first.status())) {
    fault("the head is missing: receipts may be, too");
  } else if (!first.ok()) {
    fault(std::string(first.status().message()));
  }
  Head known = first.value_or(Head());
  Head head;
  bool isWhole = true;
  for (uint64_t number = 1; verification.faults.size() < kMostFaults; ++number) {
    // Others may append meanwhile: then the head has moved. A receipt is written when the head says the one before, so
    // a head that is read behind it says so, too.
    const bool isThere = Has(number);
    if (first.ok() && number > known.number) known = ReadHead(&key).value_or(known);
    if (!isThere && number > known.number) {
      if (!HasFilesBeyond(number)) break;
      known = first.ok() ? ReadHead(&key).value_or(known) : known;
      if (number > known.number) {
        fault(StrCat("there are receipts behind number ", number - 1, ", which is the last in order"));
        break;
      }
    }
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
    if (first.ok() && known.number == number && known.hash != head.hash) {
      fault(StrCat("receipt ", number, ": is not the one that was written there last"));
    }
    if (first.ok() && number > known.number + 1) fault(StrCat("receipt ", number, ": is behind the head"));
  }
  return verification;
}

absl::Status Store::Verify(const SigningKey& key, uint64_t number, const Stored& stored) const {
  if (!key.Verifies(stored.text, stored.signature)) {
    return absl::FailedPreconditionError(StrCat(PathOf(number, ".json"), ": its signature is wrong"));
  }
  const absl::StatusOr<Place> place = PlaceOf(stored.text);
  if (place.ok() && place->number == number) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(PathOf(number, ".json"), ": is not the receipt of this number"));
}

absl::Status Store::VerifyOne(const SigningKey& key, uint64_t number) const {
  ASSIGN_OR_RETURN(const Stored stored, Read(number));
  return Verify(key, number, stored);
}

}  // namespace kveil::receipts
