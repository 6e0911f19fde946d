// Reads and makes the root key file.
#include "keys/root/root_key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "crypto/hmac.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kFirstLine = "kveil root key 1\n";
constexpr std::string_view kLaterFirstLine = "kveil root key 2 ";  // and the generation
constexpr size_t kGenerationDigits = 8;
constexpr std::string_view kCheckLabel = "kveil root check 1";
constexpr std::string_view kNextLabel = "kveil root next 1";
constexpr std::string_view kAnotherKey = "holds another key than the one in use; restore it";
constexpr size_t kCheckSize = 8;
constexpr size_t kKeyDigits = crypto::SecretKey::kSize * 2;
constexpr size_t kLineSize = kKeyDigits + 1 + kCheckSize * 2 + 1;
constexpr size_t kFileSize = kFirstLine.size() + kLineSize;  // of generation 0
constexpr size_t kLaterFileSize = kLaterFirstLine.size() + kGenerationDigits + 1 + kLineSize;

// The file's bytes; wiped, unlike a string's.
struct FileText {
  ~FileText() { crypto::Wipe(MutableBytes(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())); }
  std::string_view view() const { return {bytes.data(), size}; }
  std::array<char, kLaterFileSize> bytes{};
  size_t size = 0;
};

absl::Status Refuse(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(StrCat("root key file ", path, " ", why));
}

absl::Status RefuseErrno(const std::string& path, std::string_view doing) {
  return Refuse(path, StrCat(doing, ": ", strerror(errno)));
}

// In our own code, so that no copy of the key is left in a string of a library.
void AppendHex(Bytes bytes, char*& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (uint8_t byte : bytes) {
    *out++ = kDigits[byte >> 4];
    *out++ = kDigits[byte & 0x0f];
  }
}

bool ReadHex(std::string_view text, MutableBytes out) {
  for (size_t i = 0; i < out.size(); ++i) {
    unsigned value = 0;
    for (char digit : text.substr(2 * i, 2)) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(digit))) return false;
      value =
          value << 4 | (absl::ascii_isdigit(static_cast<unsigned char>(digit))
                            ? static_cast<unsigned>(digit - '0')
                            : static_cast<unsigned>(absl::ascii_tolower(static_cast<unsigned char>(digit)) - 'a') + 10);
    }
    out[i] = static_cast<uint8_t>(value);
  }
  return true;
}

std::array<uint8_t, 8> BytesOf(uint64_t generation) {
  std::array<uint8_t, 8> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(generation >> (56 - 8 * i));
  return bytes;
}

std::array<uint8_t, crypto::kHmacSize> Check(const RootKeyGeneration& root) {
  std::array<uint8_t, crypto::kHmacSize> check;
  const std::array<uint8_t, 8> generation = BytesOf(root.generation);
  const Bytes parts[] = {AsBytes(kCheckLabel), root.generation == 0 ? Bytes() : Bytes(generation)};
  crypto::HmacSha256(root.key, parts, check.data());
  return check;
}

void Format(const RootKeyGeneration& root, FileText& text) {
  char* out = text.bytes.data();
  if (root.generation == 0) {
    out += kFirstLine.copy(out, kFirstLine.size());
  } else {
    out += kLaterFirstLine.copy(out, kLaterFirstLine.size());
    std::string digits = StrCat(root.generation);
    digits.insert(0, kGenerationDigits - digits.size(), '0');
    out += digits.copy(out, kGenerationDigits);
    *out++ = '\n';
  }
  AppendHex(root.key.bytes(), out);
  *out++ = ' ';
  AppendHex(Bytes(Check(root)).first(kCheckSize), out);
  *out++ = '\n';
  text.size = static_cast<size_t>(out - text.bytes.data());
}

// The size has been checked: it tells the format. False: it is not one.
bool ReadFirstLine(std::string_view line, uint64_t& generation) {
  generation = 0;
  if (line.size() == kFirstLine.size()) return line == kFirstLine;
  if (!line.starts_with(kLaterFirstLine) || line.back() != '\n') return false;
  for (const char digit : line.substr(kLaterFirstLine.size(), kGenerationDigits)) {
    if (!absl::ascii_isdigit(static_cast<unsigned char>(digit))) return false;
    generation = 10 * generation + static_cast<uint64_t>(digit - '0');
  }
  return generation > 0;
}

absl::StatusOr<RootKeyGeneration> Parse(const std::string& path, const FileText& text) {
  const std::string_view all = text.view();
  std::array<uint8_t, kCheckSize> check;
  RootKeyGeneration root;
  const std::string_view line = all.substr(all.size() - kLineSize);
  const bool wellFormed = ReadFirstLine(all.substr(0, all.size() - kLineSize), root.generation) &&
                          line[kKeyDigits] == ' ' && line.back() == '\n' &&
                          ReadHex(line.substr(0, kKeyDigits), root.key.writable()) &&
                          ReadHex(line.substr(kKeyDigits + 1, 2 * kCheckSize), absl::MakeSpan(check));
  if (!wellFormed) return Refuse(path, "is damaged: it is not in the format of a root key; restore it from a backup");
  if (!crypto::EqualInConstantTime(Bytes(Check(root)).first(kCheckSize), check)) {
    return Refuse(path, "is damaged: its check value does not fit its key; restore it from a backup");
  }
  return root;
}

absl::Status CheckFile(const std::string& path, const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return Refuse(path, "is not a regular file");
  if (info.st_mode & 077) {
    return Refuse(path, StrCat("may be used by others than its owner (mode ", absl::Hex((info.st_mode >> 6) & 7),
                               absl::Hex((info.st_mode >> 3) & 7), absl::Hex(info.st_mode & 7), "); make it 600"));
  }
  if (info.st_uid != 0 && info.st_uid != geteuid()) {
    return Refuse(path, "belongs to neither root nor the user that kveil runs as");
  }
  if (info.st_size != static_cast<off_t>(kFileSize) && info.st_size != static_cast<off_t>(kLaterFileSize)) {
    return Refuse(path, StrCat("is damaged: it has ", info.st_size, " bytes instead of ", kFileSize, " or ",
                               kLaterFileSize, "; restore it from a backup"));
  }
  return absl::OkStatus();
}

absl::Status WriteDurably(const std::string& path, int fd, const FileText& text) {
  size_t written = 0;
  while (written < text.size) {
    ssize_t count = write(fd, text.bytes.data() + written, text.size - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return RefuseErrno(path, "cannot be written");
    written += static_cast<size_t>(count);
  }
  if (fsync(fd) != 0) return RefuseErrno(path, "cannot be written to disk");
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return RefuseErrno(path, "is in a directory that cannot be opened");
  return fd;
}

absl::Status SyncDirectory(const std::string& path, int directory) {
  if (fsync(directory) != 0) return RefuseErrno(path, "cannot be made durable in its directory");
  return absl::OkStatus();
}

// One process at a time replaces the file, as long as it has what this returns.
absl::StatusOr<UniqueFd> LockDirectoryOf(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd directory, OpenDirectoryOf(path));
  if (flock(directory.get(), LOCK_EX | LOCK_NB) == 0) return directory;
  if (errno == EWOULDBLOCK) return Refuse(path, "is being replaced by another process");
  return RefuseErrno(path, "is in a directory that cannot be locked");
}

// Overwrites what there is of the file, before its name goes.
absl::Status WipeAndRemove(const std::string& path, int fd, off_t size) {
  const std::string zeros(static_cast<size_t>(size), '\0');
  if (pwrite(fd, zeros.data(), zeros.size(), 0) != static_cast<ssize_t>(zeros.size()) || fsync(fd) != 0) {
    return RefuseErrno(path, "cannot be overwritten");
  }
  if (unlink(path.c_str()) != 0) return RefuseErrno(path, "cannot be removed");
  return absl::OkStatus();
}

// Makes a file with the whole key in it, on disk, that belongs to whom `owner` does (nullptr: to us). Leaves nothing
// when that fails.
absl::Status WriteNewFile(const std::string& path, const RootKeyGeneration& root, const struct stat* owner) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return RefuseErrno(path, "cannot be made");
  FileText text;
  Format(root, text);
  absl::Status status = owner != nullptr && fchown(fd.get(), owner->st_uid, owner->st_gid) != 0
                            ? RefuseErrno(path, "cannot be given to the owner of the former file")
                            : WriteDurably(path, fd.get(), text);
  if (!status.ok()) {
    struct stat info {};
    if (fstat(fd.get(), &info) != 0 || !WipeAndRemove(path, fd.get(), info.st_size).ok()) unlink(path.c_str());
  }
  return status;
}

struct OpenedFile {
  UniqueFd fd;
  struct stat info {};
  RootKeyGeneration root;
};

absl::StatusOr<OpenedFile> OpenFile(const std::string& path, int access) {
  OpenedFile opened;
  // O_NONBLOCK: opening a FIFO would wait for its writer.
  opened.fd.Reset(open(path.c_str(), access | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!opened.fd.valid() && errno == ENOENT) return absl::NotFoundError(StrCat("root key file ", path, " is missing"));
  if (!opened.fd.valid() && errno == ELOOP) return Refuse(path, "is a symbolic link; name the file itself");
  if (!opened.fd.valid())
    return RefuseErrno(path, access == O_RDWR ? "cannot be opened to be replaced" : "cannot be opened");
  if (fstat(opened.fd.get(), &opened.info) != 0) return RefuseErrno(path, "cannot be read");
  RETURN_IF_ERROR(CheckFile(path, opened.info));
  FileText text;
  const auto size = static_cast<size_t>(opened.info.st_size);
  while (text.size < size) {
    ssize_t count = read(opened.fd.get(), text.bytes.data() + text.size, size - text.size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return RefuseErrno(path, "cannot be read");
    if (count == 0) return Refuse(path, "is damaged: it is cut short; restore it from a backup");
    text.size += static_cast<size_t>(count);
  }
  ASSIGN_OR_RETURN(opened.root, Parse(path, text));
  return opened;
}

// The next generation is written here, and changes places with the file. From then on the former one is here, until it
// is overwritten and removed. One fixed name, so that what a crash leaves is found.
std::string AsideOf(const std::string& path) { return StrCat(path, ".replacing"); }

bool IsSameFile(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

// With the directory locked.
absl::Status WipeAside(const std::string& path, int directory) {
  const std::string aside = AsideOf(path);
  UniqueFd fd(open(aside.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) return absl::OkStatus();
  if (!fd.valid()) return RefuseErrno(aside, "cannot be opened to be overwritten");
  struct stat info {};
  struct stat current {};
  if (fstat(fd.get(), &info) != 0 || lstat(path.c_str(), &current) != 0) return RefuseErrno(aside, "cannot be read");
  const bool isOurs = S_ISREG(info.st_mode) && info.st_size <= static_cast<off_t>(kLaterFileSize);
  if (!isOurs || IsSameFile(info, current)) return Refuse(aside, "is not what kveil left there; remove it");
  // The file that took its place stays, whatever happens.
  RETURN_IF_ERROR(SyncDirectory(path, directory));
  return WipeAndRemove(aside, fd.get(), info.st_size);
}

// `former` is still open, so that its inode is no other file's by now.
absl::Status ChangePlaces(const std::string& path, const OpenedFile& former) {
  const std::string aside = AsideOf(path);
  const auto exchange = [&] {
    return renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) == 0;
  };
  if (!exchange()) return RefuseErrno(path, "cannot be replaced");
  struct stat info {};
  if (lstat(aside.c_str(), &info) == 0 && IsSameFile(info, former.info)) return absl::OkStatus();
  exchange();
  return Refuse(path, "was replaced by somebody else meanwhile");
}

absl::Status Replace(const std::string& path, const RootKeyGeneration& to) {
  ASSIGN_OR_RETURN(const UniqueFd directory, LockDirectoryOf(path));
  RETURN_IF_ERROR(WipeAside(path, directory.get()));
  ASSIGN_OR_RETURN(const OpenedFile former, OpenFile(path, O_RDWR));
  if (!AreOfOneKey(former.root, to)) return Refuse(path, kAnotherKey);
  if (former.root.generation >= to.generation) return absl::OkStatus();  // another process was quicker
  RETURN_IF_ERROR(WriteNewFile(AsideOf(path), to, &former.info));
  const absl::Status status = ChangePlaces(path, former);
  // Whatever is aside now: the former file, or one that is not needed.
  const absl::Status wiped = WipeAside(path, directory.get());
  return status.ok() ? wiped : status;
}

}  // namespace

crypto::SecretKey DeriveGeneration(const RootKeyGeneration& from, uint64_t generation) {
  crypto::SecretKey key = from.key.Copy();
  for (uint64_t next = from.generation + 1; next <= generation; ++next) {
    constexpr std::array<uint8_t, 1> kBlock = {1};
    const std::array<uint8_t, 8> number = BytesOf(next);
    const Bytes parts[] = {AsBytes(kNextLabel), number, kBlock};
    crypto::SecretKey derived;
    crypto::HmacSha256(key, parts, derived.writable().data());
    key = std::move(derived);
  }
  return key;
}

bool AreOfOneKey(const RootKeyGeneration& one, const RootKeyGeneration& another) {
  const RootKeyGeneration& from = one.generation < another.generation ? one : another;
  const RootKeyGeneration& to = one.generation < another.generation ? another : one;
  if (to.generation - from.generation > kMostGenerationsAhead) return false;
  return DeriveGeneration(from, to.generation).Equals(to.key);
}

absl::StatusOr<RootKeyGeneration> ReadRootKeyFile(const std::string& path) {
  absl::StatusOr<OpenedFile> file = OpenFile(path, O_RDONLY);
  // It may have been replaced and overwritten after it was opened. Then another one has its name.
  if (!file.ok()) file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return file.status();
  return std::move(file->root);
}

absl::Status WriteRootKeyFile(const std::string& path, const RootKeyGeneration& root) {
  std::array<uint8_t, 8> suffix;
  crypto::FillRandom(absl::MakeSpan(suffix));
  std::string temporary = StrCat(path, ".new.");
  for (uint8_t byte : suffix) StrAppend(&temporary, absl::Hex(byte, absl::kZeroPad2));
  ASSIGN_OR_RETURN(const UniqueFd directory, OpenDirectoryOf(path));
  RETURN_IF_ERROR(WriteNewFile(temporary, root, nullptr));
  // The name appears only with the whole key behind it, and never replaces another's.
  if (renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    return SyncDirectory(path, directory.get());
  }
  const absl::Status status =
      errno == EEXIST ? absl::AlreadyExistsError(StrCat("root key file ", path, " exists, and is left as it is"))
                      : RefuseErrno(path, "cannot be made");
  unlink(temporary.c_str());
  return status;
}

absl::StatusOr<RootKeyGeneration> CreateRootKeyFile(const std::string& path) {
  RootKeyGeneration root{crypto::SecretKey::Random(), 0};
  const absl::Status made = WriteRootKeyFile(path, root);
  if (absl::IsAlreadyExists(made)) return ReadRootKeyFile(path);
  if (!made.ok()) return made;
  log::Info("keys.rootKey.made", {{"file", path}});
  return root;
}

absl::Status AdvanceRootKeyFile(const std::string& path, const RootKeyGeneration& to) {
  ASSIGN_OR_RETURN(const RootKeyGeneration file, ReadRootKeyFile(path));
  if (!AreOfOneKey(file, to)) return Refuse(path, kAnotherKey);
  if (file.generation >= to.generation) return FinishRootKeyFile(path);
  if (absl::Status status = Replace(path, to); !status.ok()) {
    return absl::FailedPreconditionError(
        StrCat(ToStd(status.message()), " (it may move on to generation ", to.generation, ")"));
  }
  log::Info("keys.rootKey.advanced", {{"file", path}, {"generation", to.generation}});
  return absl::OkStatus();
}

absl::Status FinishRootKeyFile(const std::string& path) {
  struct stat info {};
  if (lstat(AsideOf(path).c_str(), &info) != 0 && errno == ENOENT) return absl::OkStatus();
  ASSIGN_OR_RETURN(const UniqueFd directory, LockDirectoryOf(path));
  return WipeAside(path, directory.get());
}

}  // namespace kveil::keys
