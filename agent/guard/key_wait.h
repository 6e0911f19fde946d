// How a batch waits for its keys, without holding up any other connection.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "io/completion.h"
#include "io/loop.h"
#include "io/task.h"
#include "keys/key_cache.h"

namespace kveil::guard {

// Fetches what is missing into the worker's cache. kUnavailable: some of it cannot be had now; then this has waited a
// little, so that the caller may simply try again until its patience ends.
inline io::Task<absl::Status> FetchKeys(io::Loop& loop, keys::KeyCache& cache, keys::Misses misses) {
  constexpr std::chrono::milliseconds kPause{100};
  auto start = [&](absl::AnyInvocable<void(keys::FetchResult)> done) {
    cache.Fetch(std::move(misses), std::move(done));
  };
  auto waiting = io::AwaitCallback<keys::FetchResult>(loop, std::move(start));
  keys::FetchResult result = co_await std::move(waiting);
  const absl::Status delivered = cache.Deliver(std::move(result));
  if (!delivered.ok()) co_await loop.Sleep(kPause);
  co_return delivered;
}

}  // namespace kveil::guard
