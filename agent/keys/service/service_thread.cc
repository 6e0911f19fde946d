#include "keys/service/service_thread.h"

namespace kveil::keys {
namespace {

// Of a turn. It ends with the question that reaches either.
constexpr size_t kMostKeysOfATurn = 512;
constexpr size_t kMostQuestionsOfATurn = 64;

}  // namespace

ServiceThread::ServiceThread(KeyServiceOptions options, std::unique_ptr<Keyring> keyring)
    : core_(std::move(options), std::move(keyring)) {
  thread_ = std::thread([this] { Run(); });
}

ServiceThread::~ServiceThread() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  sleep_.Wake();
  thread_.join();
}

void ServiceThread::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  bool wasAsleep;
  {
    const MutexLock lock(mutex_);
    questions_.Push(workload, {{std::move(misses), std::string(workload), {}}, std::move(done)});
    wasAsleep = std::exchange(isAsleep_, false);
  }
  if (wasAsleep) sleep_.Wake();
}

void ServiceThread::RunSoon(absl::AnyInvocable<void()> task) {
  bool wasAsleep;
  {
    const MutexLock lock(mutex_);
    tasks_.push_back(std::move(task));
    wasAsleep = std::exchange(isAsleep_, false);
  }
  if (wasAsleep) sleep_.Wake();
}

void ServiceThread::Run() {
  for (;;) {
    Rest();
    absl::AnyInvocable<void()> task;
    std::vector<ServiceCore::Question> group;
    {
      const MutexLock lock(mutex_);
      isAsleep_ = false;
      if (!tasks_.empty()) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      // One of either, so that none waits for many of the others.
      group = NextTurn();
      if (stopping_ && !task && group.empty()) break;
    }
    core_.Turn(std::move(task), std::move(group));
  }
  core_.End();
}

void ServiceThread::Rest() {
  {
    const MutexLock lock(mutex_);
    isAsleep_ = !stopping_ && questions_.empty() && tasks_.empty();
    if (!isAsleep_) return;
  }
  const ServiceCore::Rest rest = core_.Pause();
  if (rest.isTold || sleep_.Until(rest.until, rest.descriptor)) core_.Hear();
}

std::vector<ServiceCore::Question> ServiceThread::NextTurn() {
  std::vector<ServiceCore::Question> turn;
  size_t keys = 0;
  while (!questions_.empty() && keys < kMostKeysOfATurn && turn.size() < kMostQuestionsOfATurn) {
    turn.push_back(questions_.Pop());
    keys += turn.back().lookup.misses.size();
  }
  return turn;
}

}  // namespace kveil::keys
