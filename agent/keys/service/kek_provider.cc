#include "keys/service/kek_provider.h"

#include <utility>

namespace kveil::keys {
namespace {

constexpr size_t kThreads = 2;  // of each pool
constexpr size_t kMostWaiting = 512;
constexpr size_t kMostNewWaiting = 32;  // the others take turns by workload before they come here
constexpr std::chrono::seconds kAttemptLimit{8};

}  // namespace

KekProvider::KekProvider(RootKeyOptions options, std::function<Time()> steadyNow)
    : opener_(std::move(options)),
      steadyNow_(std::move(steadyNow)),
      poolOfThoseThere_(kThreads, kMostWaiting),
      poolOfNewOnes_(kThreads, kMostNewWaiting) {}

bool KekProvider::Ask(Question question) {
  CallPool& pool = question.wrapped.empty() ? poolOfNewOnes_ : poolOfThoseThere_;
  return pool.Post([this, question = std::move(question)]() mutable {
    Answer answer = AskNow(std::move(question));
    const MutexLock lock(mutex_);
    answers_.push_back(std::move(answer));
  });
}

std::vector<KekProvider::Answer> KekProvider::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(answers_, {});
}

KekProvider::Answer KekProvider::AskNow(Question question) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begun = Clock::now();
  Answer answer{std::move(question), absl::UnavailableError("the agent ends"), steadyNow_()};
  const Question& asked = answer.question;
  if (PoolOf(!asked.wrapped.empty()).isStopping()) return answer;
  if (asked.wrapped.empty()) {
    answer.key = asked.root->GenerateDataKey(asked.context, begun + kAttemptLimit);
  } else {
    const RootKey::WrappedKey wrapped[] = {{asked.wrapped, asked.context}};
    absl::StatusOr<crypto::SecretKey> key = std::move(asked.root->Unwrap(wrapped, begun + kAttemptLimit).front());
    if (key.ok()) {
      answer.key = RootKey::DataKey{*std::move(key), {}};
    } else {
      answer.key = key.status();
    }
  }
  const Clock::time_point end = Clock::now();
  calls_ += 1;
  errors_ += answer.key.ok() ? 0 : 1;
  nanoseconds_ += static_cast<uint64_t>(std::chrono::nanoseconds(end - begun).count());
  return answer;
}

RootKey::Calls KekProvider::calls() const { return {calls_, errors_, std::chrono::nanoseconds(nanoseconds_)}; }

}  // namespace kveil::keys
