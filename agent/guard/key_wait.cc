#include "guard/key_wait.h"

#include <algorithm>

#include "io/completion.h"

namespace kveil::guard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPause{100};

// Leaves the room in the end.
class Holder {
 public:
  Holder(KeyRoom& room, const std::string& workload) : room_(room), workload_(workload) {}
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (inside_) room_.Leave(workload_);
  }
  bool Enter(size_t keys) { return inside_ = room_.Enter(workload_, keys); }

 private:
  KeyRoom& room_;
  const std::string workload_;
  bool inside_ = false;
};

// Keys that no waiting brings: a record that needs one stops its reader.
bool HasHopeless(const keys::FetchResult& result) {
  return std::any_of(result.ids.begin(), result.ids.end(), [](const keys::FetchResult::ById& found) {
    return found.state == keys::FetchResult::IdState::kUnknown || found.state == keys::FetchResult::IdState::kDamaged;
  });
}

}  // namespace

io::Task<absl::Status> FetchKeys(io::Loop& loop, keys::KeyCache& cache, KeyRoom& room, const policy::Workload& workload,
                                 keys::Misses misses, Clock::time_point deadline) {
  Holder holder(room, workload.share);
  if (misses.size() > keys::kMostKeysOfAFetch) {
    while (!holder.Enter(misses.size())) {
      co_await loop.Sleep(kPause);
      if (Clock::now() > deadline) co_return absl::UnavailableError("other batches need as many keys at once");
    }
  }
  while (!misses.empty()) {
    keys::Misses piece = misses.Take(keys::kMostKeysOfAFetch);
    for (;;) {
      auto start = [&](absl::AnyInvocable<void(keys::FetchResult)> done) {
        cache.Fetch(piece, workload.share, std::move(done));
      };
      auto waiting = io::AwaitCallback<keys::FetchResult>(loop, std::move(start));
      keys::FetchResult result = co_await std::move(waiting);
      const bool hopeless = HasHopeless(result);
      const absl::Status delivered = cache.Deliver(std::move(result));
      if (hopeless) co_return absl::OkStatus();
      if (delivered.ok()) break;
      co_await loop.Sleep(kPause);
      if (Clock::now() > deadline) co_return delivered;
    }
    if (!misses.empty() && Clock::now() > deadline) co_return absl::UnavailableError("too many keys for the time");
  }
  co_return absl::OkStatus();
}

}  // namespace kveil::guard
