#include "keys/root/settled_note.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <string_view>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;

// Without the end of the line. Empty: it cannot be read.
std::string ReadLine(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  std::array<char, 128> text;
  const ssize_t size = fd.valid() ? ::read(fd.get(), text.data(), text.size()) : 0;
  if (size <= 0 || text[static_cast<size_t>(size) - 1] != '\n') return "";
  return std::string(text.data(), static_cast<size_t>(size) - 1);
}

int64_t SinceBoot() {
  timespec now{};
  (void)::clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace

milliseconds SettledNote::SettledFor(int64_t epoch) const {
  if (epoch == 0) {
    (void)::unlink(path_.c_str());
    return milliseconds(0);
  }
  const int64_t now = SinceBoot();
  const std::string boot = ReadLine("/proc/sys/kernel/random/boot_id");
  if (boot.empty()) return milliseconds(0);
  const std::string line = ReadLine(path_);
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  int64_t noted = 0, since = 0;
  if (words.size() == 3 && absl::SimpleAtoi(words[0], &noted) && noted == epoch && ToStd(words[1]) == boot &&
      absl::SimpleAtoi(words[2], &since) && since <= now) {
    return milliseconds(now - since);
  }
  const UniqueFd fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  const std::string text = StrCat(epoch, " ", boot, " ", now, "\n");
  if (fd.valid()) (void)!::write(fd.get(), text.data(), text.size());
  return milliseconds(0);
}

}  // namespace kveil::keys
