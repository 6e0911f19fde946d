#include "keys/service/kek_provider.h"

#include <utility>

#include "base/text.h"

namespace kveil::keys {
namespace {

constexpr size_t kThreads = 3;
constexpr size_t kMostWaiting = 512;
constexpr std::chrono::seconds kAttemptLimit{8};

}  // namespace

KekProvider::KekProvider(std::string name, RootKeyOptions options, std::function<Time()> steadyNow)
    : name_(std::move(name)),
      options_(std::move(options)),
      steadyNow_(std::move(steadyNow)),
      pool_(kThreads, kMostWaiting) {}

bool KekProvider::Ask(Question question) {
  return pool_.Post([this, question = std::move(question)]() mutable {
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
  Answer answer{std::move(question), absl::UnavailableError(""), steadyNow_()};
  if (pool_.isStopping() || !breaker_.MayBegin(begun)) {
    answer.key = absl::UnavailableError(
        StrCat("the provider ", name_, " has not answered several times in a row, and is asked again soon"));
    return answer;
  }
  const Question& asked = answer.question;
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
  breaker_.Report(!absl::IsUnavailable(answer.key.status()), end);
  calls_ += 1;
  errors_ += answer.key.ok() ? 0 : 1;
  nanoseconds_ += static_cast<uint64_t>(std::chrono::nanoseconds(end - begun).count());
  return answer;
}

RootKey::Calls KekProvider::calls() const { return {calls_, errors_, std::chrono::nanoseconds(nanoseconds_)}; }

}  // namespace kveil::keys
