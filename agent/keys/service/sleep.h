// How the key service's thread sleeps: until there is work, the registry has something to say, or it is time.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>

#include "base/unique_fd.h"

namespace kveil::keys {

class Sleep {
 public:
  using Time = std::chrono::steady_clock::time_point;

  Sleep() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  // Any thread. The next Until returns at once.
  void Wake() const {
    const uint64_t one = 1;
    (void)!::write(event_.get(), &one, sizeof(one));
  }

  // Sleeps until `time`, or Wake. True: `descriptor` can be read; -1 for none.
  bool Until(Time time, int descriptor) const {
    std::array<pollfd, 2> watched = {{{event_.get(), POLLIN, 0}, {descriptor, POLLIN, 0}}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(time - std::chrono::steady_clock::now()).count();
    ::poll(watched.data(), watched.size(), static_cast<int>(std::clamp<int64_t>(left, 0, 60'000)));
    uint64_t count = 0;
    if (watched[0].revents != 0) (void)!::read(event_.get(), &count, sizeof(count));
    return watched[1].revents != 0;
  }

 private:
  const UniqueFd event_;
};

}  // namespace kveil::keys
