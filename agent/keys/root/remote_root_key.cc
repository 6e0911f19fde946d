// Calls go to the pool with copies of what they are about: a caller that gives up takes its own away.
#include "keys/root/remote_root_key.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "http/jitter.h"

namespace kveil::keys {
namespace {

using Operation = RootKey::Operation;

// So that an attempt that runs into the deadline can still say what it met.
constexpr std::chrono::milliseconds kToTell{20};

ByteBuffer CopyOf(Bytes bytes) {
  ByteBuffer copy;
  Append(copy, bytes);
  return copy;
}

void AppendField(Bytes bytes, std::string& to) {
  StrAppend(&to, bytes.size(), ":");
  to.append(AsText(bytes));
}

}  // namespace

RemoteRootKey::RemoteRootKey(std::unique_ptr<RootKey> provider, Options options)
    : provider_(std::move(provider)),
      options_(std::move(options)),
      breaker_(options_.breaker),
      pool_(options_.threads, options_.mostWaiting) {}

RemoteRootKey::~RemoteRootKey() { Stop(); }

void RemoteRootKey::Stop() {
  pool_.Stop();
  provider_->Stop();
}

absl::StatusOr<RootKey::DataKey> RemoteRootKey::GenerateDataKey(Bytes context, Deadline deadline) {
  auto answer = std::make_shared<std::promise<absl::StatusOr<DataKey>>>();
  std::future<absl::StatusOr<DataKey>> answered = answer->get_future();
  const bool posted = pool_.Post([this, answer, context = CopyOf(context), deadline] {
    absl::StatusOr<DataKey> made = absl::UnavailableError("");
    const absl::Status status =
        Retry(Operation::kGenerateDataKey, deadline, [this, &made, &context](Deadline attemptDeadline) {
          made = provider_->GenerateDataKey(context, attemptDeadline);
          return made.status();
        });
    if (!status.ok()) made = status;
    answer->set_value(std::move(made));
  });
  if (!posted || answered.wait_until(deadline) != std::future_status::ready) return Late();
  return answered.get();
}

std::vector<absl::StatusOr<crypto::SecretKey>> RemoteRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                     Deadline deadline) {
  if (keys.empty()) return {};
  std::string name;
  std::vector<OwnedKey> owned;
  for (const WrappedKey& key : keys) {
    AppendField(key.wrapped, name);
    AppendField(key.context, name);
    owned.push_back({CopyOf(key.wrapped), CopyOf(key.context)});
  }
  Flight flight;
  bool posted = true;
  {
    const MutexLock lock(mutex_);
    if (const auto known = flights_.find(name); known != flights_.end()) {
      flight = known->second;
    } else {
      auto answer = std::make_shared<std::promise<std::shared_ptr<const Answers>>>();
      flight = answer->get_future().share();
      posted = pool_.Post([this, answer, name, owned = std::move(owned), deadline] {
        auto answers = std::make_shared<const Answers>(UnwrapNow(Operation::kUnwrap, owned, deadline));
        {
          const MutexLock lock(mutex_);
          flights_.erase(name);
        }
        answer->set_value(std::move(answers));
      });
      if (posted) flights_[name] = flight;
    }
  }
  Answers answers;
  if (!posted || flight.wait_until(deadline) != std::future_status::ready) {
    for (size_t i = 0; i < keys.size(); ++i) answers.emplace_back(Late());
    return answers;
  }
  for (const absl::StatusOr<crypto::SecretKey>& key : *flight.get()) {
    if (key.ok()) {
      answers.emplace_back(key->Copy());
    } else {
      answers.emplace_back(key.status());
    }
  }
  return answers;
}

RemoteRootKey::Answers RemoteRootKey::UnwrapNow(Operation operation, const std::vector<OwnedKey>& keys,
                                                Deadline deadline) {
  Answers answers;
  for (size_t i = 0; i < keys.size(); ++i) answers.emplace_back(absl::UnavailableError(""));
  const absl::Status status =
      Retry(operation, deadline, [&](Deadline attemptDeadline) { return UnwrapOnce(keys, answers, attemptDeadline); });
  for (absl::StatusOr<crypto::SecretKey>& answer : answers) {
    if (absl::IsUnavailable(answer.status())) answer = absl::UnavailableError(status.message());
  }
  return answers;
}

std::vector<absl::StatusOr<ByteBuffer>> RemoteRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  using Rewrapped = std::vector<absl::StatusOr<ByteBuffer>>;
  std::vector<OwnedKey> owned;
  for (const WrappedKey& key : keys) owned.push_back({CopyOf(key.wrapped), CopyOf(key.context)});
  auto answer = std::make_shared<std::promise<Rewrapped>>();
  std::future<Rewrapped> answered = answer->get_future();
  const bool posted = pool_.Post([this, answer, owned = std::move(owned), deadline] {
    std::vector<WrappedKey> wrapped;
    for (const OwnedKey& key : owned) wrapped.push_back({key.wrapped, key.context});
    Rewrapped rewrapped(owned.size(), absl::UnavailableError(""));
    const absl::Status status = Retry(Operation::kRewrap, deadline, [&](Deadline attemptDeadline) {
      rewrapped = provider_->Rewrap(wrapped, attemptDeadline);
      absl::Status worst;
      for (const absl::StatusOr<ByteBuffer>& one : rewrapped) {
        if (!one.ok() && !absl::IsDataLoss(one.status()) && !absl::IsUnavailable(worst)) worst = one.status();
      }
      return worst;
    });
    for (absl::StatusOr<ByteBuffer>& one : rewrapped) {
      if (absl::IsUnavailable(one.status())) one = absl::UnavailableError(status.message());
    }
    answer->set_value(std::move(rewrapped));
  });
  if (posted && answered.wait_until(deadline) == std::future_status::ready) return answered.get();
  return Rewrapped(keys.size(), Late());
}

RemoteRootKey::Answers RemoteRootKey::UnwrapRewrapped(absl::Span<const WrappedKey> keys, Deadline deadline) {
  std::vector<OwnedKey> owned;
  for (const WrappedKey& key : keys) owned.push_back({CopyOf(key.wrapped), CopyOf(key.context)});
  auto answer = std::make_shared<std::promise<Answers>>();
  std::future<Answers> answered = answer->get_future();
  const bool posted = pool_.Post([this, answer, owned = std::move(owned), deadline] {
    answer->set_value(UnwrapNow(Operation::kRewrap, owned, deadline));
  });
  if (posted && answered.wait_until(deadline) == std::future_status::ready) return answered.get();
  Answers late;
  for (size_t i = 0; i < keys.size(); ++i) late.emplace_back(Late());
  return late;
}

// The status is that of the provider as a whole: kDataLoss of a key is none of its own.
absl::Status RemoteRootKey::UnwrapOnce(const std::vector<OwnedKey>& keys, Answers& answers, Deadline deadline) {
  std::vector<size_t> missing;
  std::vector<WrappedKey> wrapped;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!absl::IsUnavailable(answers[i].status())) continue;
    missing.push_back(i);
    wrapped.push_back({keys[i].wrapped, keys[i].context});
  }
  Answers unwrapped = provider_->Unwrap(wrapped, deadline);
  absl::Status worst;
  bool isAnswered = false;
  for (size_t i = 0; i < missing.size(); ++i) {
    const absl::Status status = unwrapped[i].status();
    isAnswered = isAnswered || !absl::IsUnavailable(status);
    if (!status.ok() && !absl::IsDataLoss(status) && !absl::IsUnavailable(worst)) worst = status;
    answers[missing[i]] = std::move(unwrapped[i]);
  }
  // One that takes a key at a time, and has had enough for now, is there all the same.
  if (isAnswered) breaker_.Report(/*answered=*/true, Clock::now());
  return worst;
}

template <typename Attempt>
absl::Status RemoteRootKey::Retry(Operation operation, Deadline deadline, Attempt attempt) {
  const Deadline end = deadline - kToTell;
  std::chrono::milliseconds pause = options_.firstPause;
  absl::Status status;
  for (;;) {
    const Clock::time_point begun = Clock::now();
    if (pool_.isStopping()) return absl::UnavailableError(StrCat(name(), ": the agent is ending"));
    if (begun >= end) return status.ok() ? Late() : status;
    if (operation != Operation::kRewrap && !breaker_.MayBegin(begun)) {
      if (!status.ok()) return status;
      const MutexLock lock(mutex_);
      Clock::time_point since;
      const absl::Status outage = Outage(since);
      return outage.ok() ? Late() : outage;
    }
    status = attempt(std::min(end, begun + options_.attemptLimit));
    const Clock::time_point now = Clock::now();
    Note(operation, status, begun, now);
    const std::chrono::milliseconds wait = http::UpTo(pause);
    if (!absl::IsUnavailable(status) || now + wait >= end || !pool_.Sleep(wait)) return status;
    pause = std::min(2 * pause, options_.longestPause);
  }
}

void RemoteRootKey::Note(Operation operation, const absl::Status& status, Clock::time_point begun,
                         Clock::time_point end) {
  Counters& counters = counters_[static_cast<size_t>(operation)];
  counters.calls += 1;
  counters.errors += status.ok() ? 0 : 1;
  counters.nanoseconds += static_cast<uint64_t>(std::chrono::nanoseconds(end - begun).count());
  if (pool_.isStopping() || operation == Operation::kRewrap) return;
  const bool answered = !absl::IsUnavailable(status);
  breaker_.Report(answered, end);
  const MutexLock lock(mutex_);
  heard_ = end;
  LastWord& last = last_[static_cast<size_t>(operation)];
  last.outage = answered ? absl::OkStatus() : status;
  if (!answered) return;
  last.answered = end;
  last.refused = status;
}

absl::Status RemoteRootKey::Ask(Deadline deadline) {
  auto answer = std::make_shared<std::promise<absl::Status>>();
  std::future<absl::Status> answered = answer->get_future();
  const bool posted = pool_.Post([this, answer, deadline] { answer->set_value(AskNow(deadline)); });
  if (!posted || answered.wait_until(deadline) != std::future_status::ready) return Late();
  return answered.get();
}

absl::Status RemoteRootKey::AskNow(Deadline deadline) {
  return Retry(Operation::kCheck, deadline,
               [this](Deadline attemptDeadline) { return provider_->Check(attemptDeadline); });
}

void RemoteRootKey::AskIfDue() {
  if (isAsking_) return;
  // What was refused or is out is asked for again at once. The breaker and this flag say how often.
  const bool isWell = Last(Operation::kCheck).outage.ok() && Last(Operation::kUnwrap).outage.ok() &&
                      Last(Operation::kCheck).refused.ok();
  const std::chrono::milliseconds interval =
      isWell ? options_.checkInterval : std::min(options_.checkInterval, std::chrono::milliseconds(1'000));
  if (Clock::now() - heard_ < interval) return;
  isAsking_ = pool_.Post([this] {
    (void)AskNow(Clock::now() + options_.attemptLimit);
    const MutexLock lock(mutex_);
    isAsking_ = false;
  });
}

absl::Status RemoteRootKey::Check(Deadline /*deadline*/) {
  const MutexLock lock(mutex_);
  AskIfDue();
  for (const Operation operation : {Operation::kCheck, Operation::kUnwrap}) {
    if (const absl::Status& refused = Last(operation).refused; !refused.ok()) return refused;
  }
  Clock::time_point since;
  const absl::Status outage = Outage(since);
  if (outage.ok() || Clock::now() - since < options_.outageLimit) return absl::OkStatus();
  return absl::UnavailableError(
      StrCat(ToStd(outage.message()), ", for ", options_.outageLimit.count() / 60'000, " minutes and more"));
}

absl::Status RemoteRootKey::Outage(Clock::time_point& since) const {
  const LastWord& check = Last(Operation::kCheck);
  const LastWord& unwrap = Last(Operation::kUnwrap);
  // An answer to the one says nothing about the other.
  const LastWord& worse =
      unwrap.outage.ok() || (!check.outage.ok() && check.answered < unwrap.answered) ? check : unwrap;
  since = worse.answered;
  if (!worse.outage.ok()) return worse.outage;
  since = std::max(check.answered, unwrap.answered);
  // Attempts that do not even end by their deadlines.
  if (Clock::now() - heard_ < 2 * options_.checkInterval + options_.attemptLimit) return absl::OkStatus();
  return absl::UnavailableError(StrCat(name(), " does not answer"));
}

absl::Status RemoteRootKey::Warning() const {
  const MutexLock lock(mutex_);
  Clock::time_point since;
  const absl::Status outage = Outage(since);
  if (outage.ok()) return outage;
  return absl::UnavailableError(StrCat(ToStd(outage.message()),
                                       "; the keys in use serve on, but nothing new is sealed once this has lasted ",
                                       options_.outageLimit.count() / 60'000, " minutes, and no agent can start"));
}

absl::Status RemoteRootKey::Late() const { return absl::UnavailableError(StrCat(name(), " does not answer in time")); }

RootKey::Stats RemoteRootKey::stats() const {
  Stats stats{.provider = options_.provider};
  for (size_t i = 0; i < kOperations; ++i) {
    stats.calls[i] = {counters_[i].calls, counters_[i].errors, std::chrono::nanoseconds(counters_[i].nanoseconds)};
  }
  return stats;
}

}  // namespace kveil::keys
