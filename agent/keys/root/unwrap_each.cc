#include "keys/root/unwrap_each.h"

#include <atomic>
#include <thread>

#include "base/mutex.h"

namespace kveil::keys {
namespace {

constexpr size_t kMostAtOnce = 8;

}  // namespace

// One after the other, many would not be done by the deadline; all at once, the service would throttle them. The first
// goes alone.
std::vector<absl::StatusOr<crypto::SecretKey>> UnwrapEach(
    absl::Span<const RootKey::WrappedKey> keys,
    const std::function<absl::StatusOr<crypto::SecretKey>(const RootKey::WrappedKey&)>& unwrap) {
  std::vector<absl::StatusOr<crypto::SecretKey>> answers;
  for (size_t i = 0; i < keys.size(); ++i) answers.emplace_back(absl::UnavailableError(""));
  Mutex mutex;
  absl::Status common;  // guarded by it
  const auto one = [&](size_t i) {
    {
      const MutexLock lock(mutex);
      if (!common.ok()) {
        answers[i] = common;
        return;
      }
    }
    answers[i] = unwrap(keys[i]);
    if (!absl::IsUnavailable(answers[i].status()) && !absl::IsPermissionDenied(answers[i].status())) return;
    const MutexLock lock(mutex);
    common = answers[i].status();
  };
  if (!keys.empty()) one(0);
  std::atomic<size_t> next{1};
  const auto work = [&] {
    for (size_t i = next++; i < keys.size(); i = next++) one(i);
  };
  std::vector<std::thread> threads;
  while (keys.size() > threads.size() + 2 && threads.size() + 1 < kMostAtOnce) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return answers;
}

std::vector<absl::StatusOr<ByteBuffer>> RewrapEach(
    absl::Span<const RootKey::WrappedKey> keys,
    const std::function<absl::StatusOr<ByteBuffer>(const RootKey::WrappedKey&)>& rewrap) {
  std::vector<absl::StatusOr<ByteBuffer>> answers;
  for (const RootKey::WrappedKey& key : keys) {
    const absl::Status before = answers.empty() ? absl::OkStatus() : answers.back().status();
    if (absl::IsUnavailable(before) || absl::IsPermissionDenied(before)) {
      answers.emplace_back(before);
    } else {
      answers.push_back(rewrap(key));
    }
  }
  return answers;
}

}  // namespace kveil::keys
