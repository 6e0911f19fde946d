// The thread behind KeyService: whoever asks waits for it, and it drives a ServiceCore. Questions are answered in turns
// of several, so that many new keys cost one sync of the disk. A turn is short: whoever comes meanwhile, with a
// question or an erasure, waits for one of them at most.
#pragma once

#include <deque>
#include <future>
#include <memory>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "base/mutex.h"
#include "keys/service/fair_queue.h"
#include "keys/service/key_service.h"
#include "keys/service/service_core.h"
#include "keys/service/sleep.h"

namespace kveil::keys {

class ServiceThread {
 public:
  ServiceThread(KeyServiceOptions options, std::unique_ptr<Keyring> keyring);
  // Answers all that was asked before it returns.
  ~ServiceThread();

  // See KeyService.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done);

  // The thread's answer to a question about its core. Blocks.
  template <typename Question>
  std::invoke_result_t<Question, ServiceCore&> Ask(Question question) {
    std::promise<std::invoke_result_t<Question, ServiceCore&>> promise;
    RunSoon([&] { promise.set_value(question(core_)); });
    return promise.get_future().get();
  }
  // The same for the keyring, see ServiceCore::AskKeyring.
  template <typename Question>
  std::invoke_result_t<Question, Keyring&> AskKeyring(Question question) {
    return Ask([&](ServiceCore& core) { return core.AskKeyring(question); });
  }
  // Has the thread do something with its core, before the fetches that wait.
  template <typename Task>
  void Do(Task task) {
    RunSoon([this, task = std::move(task)]() mutable { task(core_); });
  }

  // Any thread may use it.
  RootKey& root() { return core_.root(); }
  // What any thread may ask it.
  const ServiceCore& core() const { return core_; }

 private:
  void RunSoon(absl::AnyInvocable<void()> task);
  void Run();
  void Rest();
  std::vector<ServiceCore::Question> NextTurn() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  ServiceCore core_;  // the thread's
  Sleep sleep_;
  Mutex mutex_;
  bool isAsleep_ ABSL_GUARDED_BY(mutex_) = false;
  FairQueue<ServiceCore::Question> questions_ ABSL_GUARDED_BY(mutex_);
  std::deque<absl::AnyInvocable<void()>> tasks_ ABSL_GUARDED_BY(mutex_);  // erasures above all
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace kveil::keys
