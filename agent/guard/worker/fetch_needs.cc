#include "guard/worker/fetch_needs.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "guard/worker/key_room.h"
#include "io/completion.h"
#include "keys/cache/key_cache.h"

namespace kveil::guard {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPause{100};

// Leaves the room in the end.
class Holder {
 public:
  Holder(KeyRoom& room, std::string_view share) : room_(room), share_(share) {}
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() {
    if (keys_ > 0) room_.Leave(share_, keys_);
  }
  io::Task<bool> Enter(io::Loop& loop, size_t keys, Clock::time_point deadline) {
    auto entering = room_.Enter(loop, share_, keys, deadline);
    const bool inside = co_await std::move(entering);
    if (inside) keys_ = keys;
    co_return inside;
  }

 private:
  KeyRoom& room_;
  const std::string share_;
  size_t keys_ = 0;  // that it has room for
};

// Keys that no waiting brings: a record that needs one stops its reader.
bool HasHopeless(const keys::FetchResult& result) {
  return std::any_of(result.ids.begin(), result.ids.end(), [](const keys::FetchResult::ById& found) {
    return found.state == keys::FetchResult::IdState::kUnknown || found.state == keys::FetchResult::IdState::kDamaged;
  });
}

io::Task<absl::Status> FetchKeys(io::Loop& loop, keys::KeyCache& cache, KeyRoom& room,
                                 const identity::Workload& workload, keys::Misses misses, Clock::time_point deadline) {
  Holder holder(room, workload.share);
  if (misses.size() > keys::kMostKeysOfAFetch) {
    auto entering = holder.Enter(loop, misses.size(), std::max(deadline, Clock::now() + kPause));
    const bool inside = co_await std::move(entering);
    if (!inside) co_return absl::UnavailableError("other batches need as many keys at once");
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

}  // namespace

io::Task<absl::Status> FetchNeeds(io::Loop& loop, WorkerScratch& scratch, const identity::Workload& workload,
                                  Needs needs, Clock::time_point deadline) {
  auto fetching = FetchKeys(loop, scratch.keyCache, scratch.keyRoom, workload, std::move(needs.keys), deadline);
  const absl::Status fetched = co_await std::move(fetching);
  co_return fetched;
}

}  // namespace kveil::guard
