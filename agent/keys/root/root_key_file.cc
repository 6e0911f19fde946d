// Reads and makes the root key file.
#include "keys/root/root_key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string_view>

#include "absl/strings/ascii.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "crypto/hmac.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kFirstLine = "kveil root key 1\n";
constexpr std::string_view kCheckLabel = "kveil root check 1";
constexpr size_t kCheckSize = 8;
constexpr size_t kKeyDigits = crypto::SecretKey::kSize * 2;
constexpr size_t kFileSize = kFirstLine.size() + kKeyDigits + 1 + kCheckSize * 2 + 1;

// The file's bytes; wiped, unlike a string's.
struct FileText {
  ~FileText() { crypto::Wipe(MutableBytes(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())); }
  std::array<char, kFileSize> bytes{};
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

std::array<uint8_t, crypto::kHmacSize> Check(const crypto::SecretKey& key) {
  std::array<uint8_t, crypto::kHmacSize> check;
  const Bytes parts[] = {AsBytes(kCheckLabel)};
  crypto::HmacSha256(key, parts, check.data());
  return check;
}

void Format(const crypto::SecretKey& key, FileText& text) {
  char* out = text.bytes.data();
  out += kFirstLine.copy(out, kFirstLine.size());
  AppendHex(key.bytes(), out);
  *out++ = ' ';
  AppendHex(Bytes(Check(key)).first(kCheckSize), out);
  *out++ = '\n';
}

absl::StatusOr<crypto::SecretKey> Parse(const std::string& path, const FileText& text) {
  const std::string_view all(text.bytes.data(), text.bytes.size());
  std::array<uint8_t, kCheckSize> check;
  crypto::SecretKey key;
  const std::string_view line = all.substr(kFirstLine.size());
  const bool wellFormed = all.starts_with(kFirstLine) && line[kKeyDigits] == ' ' && line.back() == '\n' &&
                          ReadHex(line.substr(0, kKeyDigits), key.writable()) &&
                          ReadHex(line.substr(kKeyDigits + 1, 2 * kCheckSize), absl::MakeSpan(check));
  if (!wellFormed) return Refuse(path, "is damaged: it is not in the format of a root key; restore it from a backup");
  if (!crypto::EqualInConstantTime(Bytes(Check(key)).first(kCheckSize), check)) {
    return Refuse(path, "is damaged: its check value does not fit its key; restore it from a backup");
  }
  return key;
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
  if (info.st_size != static_cast<off_t>(kFileSize)) {
    return Refuse(path, StrCat("is damaged: it has ", info.st_size, " bytes instead of ", kFileSize,
                               "; restore it from a backup"));
  }
  return absl::OkStatus();
}

absl::Status WriteDurably(const std::string& path, int fd, const FileText& text) {
  size_t written = 0;
  while (written < text.bytes.size()) {
    ssize_t count = write(fd, text.bytes.data() + written, text.bytes.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return RefuseErrno(path, "cannot be written");
    written += static_cast<size_t>(count);
  }
  if (fsync(fd) != 0) return RefuseErrno(path, "cannot be written to disk");
  return absl::OkStatus();
}

absl::Status SyncDirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0) return RefuseErrno(path, "cannot be made durable in its directory");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<crypto::SecretKey> ReadRootKeyFile(const std::string& path) {
  // O_NONBLOCK: opening a FIFO would wait for its writer.
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && errno == ENOENT) return absl::NotFoundError(StrCat("root key file ", path, " is missing"));
  if (!fd.valid() && errno == ELOOP) return Refuse(path, "is a symbolic link; name the file itself");
  if (!fd.valid()) return RefuseErrno(path, "cannot be opened");
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return RefuseErrno(path, "cannot be read");
  if (absl::Status status = CheckFile(path, info); !status.ok()) return status;
  FileText text;
  size_t size = 0;
  while (size < kFileSize) {
    ssize_t count = read(fd.get(), text.bytes.data() + size, kFileSize - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return RefuseErrno(path, "cannot be read");
    if (count == 0) return Refuse(path, "is damaged: it is cut short; restore it from a backup");
    size += static_cast<size_t>(count);
  }
  return Parse(path, text);
}

absl::StatusOr<crypto::SecretKey> CreateRootKeyFile(const std::string& path) {
  std::array<uint8_t, 8> suffix;
  crypto::FillRandom(absl::MakeSpan(suffix));
  std::string temporary = StrCat(path, ".new.");
  for (uint8_t byte : suffix) StrAppend(&temporary, absl::Hex(byte, absl::kZeroPad2));
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return RefuseErrno(path, "cannot be made");
  crypto::SecretKey key = crypto::SecretKey::Random();
  FileText text;
  Format(key, text);
  absl::Status status = WriteDurably(path, fd.get(), text);
  // The name appears only with the whole key behind it, and never replaces another's.
  if (status.ok() && renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0) {
    if (status = SyncDirectoryOf(path); !status.ok()) return status;
    log::Info("keys.rootKey.made", {{"file", path}});
    return key;
  }
  const bool another = status.ok() && errno == EEXIST;
  if (status.ok() && !another) status = RefuseErrno(path, "cannot be made");
  unlink(temporary.c_str());
  if (another) return ReadRootKeyFile(path);
  return status;
}

}  // namespace kveil::keys
