#include "guard/worker/fetch_needs.h"

#include <algorithm>
#include <iterator>
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
  ~Holder() { Leave(); }
  bool isInside() const { return keys_ > 0; }
  io::Task<bool> Enter(io::Loop& loop, size_t keys, Clock::time_point deadline) {
    auto entering = room_.Enter(loop, share_, keys, deadline);
    const bool inside = co_await std::move(entering);
    if (inside) keys_ = keys;
    co_return inside;
  }
  void Leave() {
    if (keys_ > 0) room_.Leave(share_, std::exchange(keys_, 0));
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

void DropCached(keys::KeyCache& cache, keys::Misses& misses) {
  std::erase_if(misses.scopes, [&](const auto& scope) { return cache.FindForSealing(scope.view()) != nullptr; });
  std::erase_if(misses.ids, [&](const keys::KeyRef& ref) {
    return cache.FindById(ref).state != keys::KeyCache::State::kNotCached;
  });
}

class Fetching {
 public:
  Fetching(io::Loop& loop, WorkerScratch& scratch, const identity::Workload& workload, Clock::time_point deadline)
      : loop_(loop),
        cache_(scratch.keyCache),
        share_(workload.share),
        deadline_(deadline),
        holder_(scratch.keyRoom, workload.share) {}

  io::Task<absl::Status> All(keys::Misses misses) {
    const size_t count = misses.size();
    while (!misses.empty()) {
      if (count > keys::kMostKeysOfAFetch && !holder_.isInside()) {
        auto entering = holder_.Enter(loop_, count, std::max(deadline_, Clock::now() + kPause));
        const bool inside = co_await std::move(entering);
        if (!inside) co_return absl::UnavailableError("other batches need as many keys at once");
      }
      keys::Misses piece = misses.Take(keys::kMostKeysOfAFetch);
      auto fetching = Fetch(piece);
      Delivered delivered = co_await std::move(fetching);
      if (!delivered.status.ok()) {
        // A KEK that is away must not hold up batches under others. A limit holds up all of the workload alike.
        if (!delivered.isLimited) holder_.Leave();
        DropCached(cache_, piece);
        auto waiting = WaitForSome(piece.OnePerKek(), delivered.status);
        delivered = co_await std::move(waiting);
        if (!delivered.status.ok()) co_return delivered.status;
        std::move(piece.scopes.begin(), piece.scopes.end(), std::back_inserter(misses.scopes));
        std::move(piece.ids.begin(), piece.ids.end(), std::back_inserter(misses.ids));
      }
      if (delivered.isHopeless) co_return absl::OkStatus();
      if (!misses.empty() && Clock::now() > deadline_) co_return absl::UnavailableError("too many keys for the time");
    }
    co_return absl::OkStatus();
  }

 private:
  struct Delivered {
    absl::Status status;
    bool isHopeless = false;  // then `status` is OK
    bool isLimited = false;
  };

  io::Task<Delivered> Fetch(keys::Misses piece) {
    auto start = [&](absl::AnyInvocable<void(keys::FetchResult)> done) {
      cache_.Fetch(std::move(piece), share_, std::move(done));
    };
    auto waiting = io::AwaitCallback<keys::FetchResult>(loop_, std::move(start));
    keys::FetchResult result = co_await std::move(waiting);
    Delivered delivered;
    delivered.isHopeless = HasHopeless(result);
    delivered.isLimited = !result.limit.ok();
    delivered.status = cache_.Deliver(std::move(result));
    if (delivered.isHopeless) delivered.status = absl::OkStatus();
    co_return delivered;
  }

  // Asks for `some` until they are there: while a KEK is away, the registry need not read more.
  io::Task<Delivered> WaitForSome(keys::Misses some, absl::Status why) {
    Delivered delivered;
    delivered.status = std::move(why);
    do {
      co_await loop_.Sleep(kPause);
      if (Clock::now() > deadline_) co_return delivered;
      auto fetching = Fetch(some);
      delivered = co_await std::move(fetching);
    } while (!delivered.status.ok());
    co_return delivered;
  }

  io::Loop& loop_;
  keys::KeyCache& cache_;
  const std::string_view share_;
  const Clock::time_point deadline_;
  Holder holder_;
};

}  // namespace

io::Task<absl::Status> FetchNeeds(io::Loop& loop, WorkerScratch& scratch, const identity::Workload& workload,
                                  Needs needs, Clock::time_point deadline) {
  Fetching fetching(loop, scratch, workload, deadline);
  auto all = fetching.All(std::move(needs.keys));
  const absl::Status fetched = co_await std::move(all);
  co_return fetched;
}

}  // namespace kveil::guard
