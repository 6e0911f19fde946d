#include "crypto/secret_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::crypto {
namespace {

constexpr size_t kLongestSecret = size_t{64} << 10;

absl::Status FileError(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(StrCat(path, " ", why));
}

}  // namespace

absl::StatusOr<SecretText> ReadSecretFile(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return FileError(path, StrCat("cannot be opened: ", strerror(errno)));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return FileError(path, "is not a regular file");
  SecretText text(kLongestSecret + 1);
  size_t size = 0;
  for (;;) {
    const ssize_t count = ::read(fd.get(), text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(path, StrCat("cannot be read: ", strerror(errno)));
    if (count == 0) break;
    size += static_cast<size_t>(count);
    if (size > kLongestSecret) return FileError(path, "is too long for a secret");
  }
  text.resize(size);
  return text.empty() ? FileError(path, "is empty") : absl::StatusOr<SecretText>(std::move(text));
}

absl::StatusOr<SecretText> ReadSecret(const std::string& path) {
  ASSIGN_OR_RETURN(SecretText text, ReadSecretFile(path));
  while (!text.empty() && absl::ascii_isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  if (text.empty()) return FileError(path, "is empty");
  // Most go into a header.
  const bool isText =
      std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
  return isText ? absl::StatusOr<SecretText>(std::move(text)) : FileError(path, "is not one line of printable text");
}

}  // namespace kveil::crypto
