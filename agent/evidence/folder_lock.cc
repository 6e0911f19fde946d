// A process that is stopped keeps its locks. So nobody waits for one without a bound.
#include "evidence/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::evidence {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenAttempts{20};

// Who holds the lock, as proc(5) has it in /proc/locks: "1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF". A process of
// another PID namespace is not there.
std::string HolderOf(int lock) {
  struct stat info;
  if (::fstat(lock, &info) != 0) return "another process";
  const std::string place = absl::StrFormat("%02x:%02x:%d", major(info.st_dev), minor(info.st_dev), info.st_ino);
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipWhitespace());
    if (words.size() >= 6 && words[1] == "FLOCK" && words[5] == place) return StrCat("process ", words[4]);
  }
  return "another process";
}

}  // namespace

absl::StatusOr<UniqueFd> LockFolder(const std::string& folder, std::chrono::milliseconds patience) {
  const std::string path = folder + "/lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return absl::UnavailableError(StrCat(path, ": ", std::strerror(errno)));
  for (const Clock::time_point giveUp = Clock::now() + patience;;) {
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
    if (errno != EWOULDBLOCK && errno != EINTR) {
      return absl::UnavailableError(StrCat(path, ": ", std::strerror(errno)));
    }
    if (Clock::now() >= giveUp) {
      return absl::UnavailableError(StrCat(path, ": is held by ", HolderOf(lock.get()),
                                           ", which has not let it go for ", patience.count(), " ms"));
    }
    std::this_thread::sleep_for(kBetweenAttempts);
  }
}

}  // namespace kveil::evidence
