// An agent's process: the real core of its key service and the real caches of its workers, driven by a scheduler.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "keys/cache/key_cache.h"
#include "keys/service/service_core.h"
#include "scheduler.h"
#include "simulated_kek.h"
#include "simulated_root_key.h"
#include "simulated_server.h"

namespace kveil::keys {

// What stays of an agent from one process to the next.
struct Node {
  int number = 0;
  int processes = 0;
  Link link;
  Scheduler::Time wallOffset{0};
  std::shared_ptr<SimulatedRootKey::Copy> rootKey = std::make_shared<SimulatedRootKey::Copy>();
};

class SimulatedAgent : public KeySource, public std::enable_shared_from_this<SimulatedAgent> {
 public:
  using Time = Scheduler::Time;
  static constexpr int kWorkers = 2;
  struct World {
    Scheduler& scheduler;
    Random& random;
    SimulatedServer& server;
    SimulatedKek::Provider& keks;
    std::shared_ptr<SimulatedRootKey::Shared> rootKey;
    std::chrono::milliseconds cacheTtl;
    std::chrono::seconds sharedKeyWindow;
    // What each worker does until the agent is dead or ends.
    std::function<void(SimulatedAgent&, KeyCache&)> work;
    std::function<void(const std::string&)> fail;
  };

  // Begins the process: a task for the service, which begins those of the workers.
  static std::shared_ptr<SimulatedAgent> Start(World& world, Node& node);

  // Killed: from now on it changes nothing, and nothing reaches it.
  void Kill();
  // Told to end in order. It does so by and by.
  void Stop();
  bool isDead() const { return process_->isDead; }
  bool isLeaving() const { return process_->isDead || isStopping_; }
  bool isReady() const { return core_ != nullptr && !isLeaving(); }

  const std::string& name() const { return options_.agentName; }
  Node& node() { return node_; }
  // Whether a worker has the key in memory, used or not, and not too old to be used.
  bool Holds(const KeyRef& ref);
  uint64_t timeline() const { return process_->timeline; }
  // What is wrong with it, by its own account.
  std::string Health() const { return core_ == nullptr ? "not running" : core_->health().ToString(); }
  // True time of the agent's steady clock.
  SteadyTime SteadyNow() const { return SteadyTime(world_.scheduler.now() + process_->steadyOffset); }

  // The service's answer, before those to the fetches that wait. Blocks the task that calls. nullopt: nobody will hear
  // of it, as the agent is leaving.
  template <typename Question, typename Result = std::invoke_result_t<Question, ServiceCore&>>
  std::optional<Result> Ask(Question question) {
    if (!isReady()) return std::nullopt;
    struct State {
      std::optional<Result> answer;
      Scheduler::Signal signal;
    };
    const auto state = std::make_shared<State>();
    tasks_.emplace_back([this, state, question = std::move(question)](ServiceCore& core) {
      state->answer.emplace(question(core));
      world_.scheduler.Notify(state->signal);
    });
    world_.scheduler.Notify(process_->wake);
    while (!state->answer.has_value() && !isLeaving()) {
      world_.scheduler.Wait(state->signal, world_.scheduler.now() + std::chrono::seconds(1));
    }
    return isDead() ? std::nullopt : std::move(state->answer);
  }

  // KeySource.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) override;
  crypto::KeyIdMask NewMask() const override { return crypto::KeyIdMask(core_->secret()); }
  const KeyServiceOptions& options() const override { return options_; }
  const Revocations& revocations() const override { return core_->revocations(); }

 private:
  SimulatedAgent(World& world, Node& node);
  void Run();
  void RunService();
  void RunWorker();

  World& world_;
  Node& node_;
  const std::shared_ptr<Process> process_;
  KeyServiceOptions options_;
  std::unique_ptr<ServiceCore> core_;
  std::deque<std::function<void(ServiceCore&)>> tasks_;
  std::deque<ServiceCore::Question> questions_;
  bool isStopping_ = false;
  int workers_ = 0;
  std::vector<KeyCache*> caches_;  // the workers'
  Scheduler::Signal workersEnded_;
};

}  // namespace kveil::keys
