#include "simulated_agent.h"

#include <algorithm>

#include "base/text.h"

namespace kveil::keys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kCacheCapacity = 8;

}  // namespace

SimulatedAgent::SimulatedAgent(World& world, Node& node)
    : world_(world), node_(node), process_(std::make_shared<Process>()) {
  process_->link = &node.link;
  process_->steadyOffset = world.random.Between(seconds(1), std::chrono::hours(1000));
  options_.agentName = StrCat("node-", node.number, "/", ++node.processes);
  options_.cacheTtl = world.cacheTtl;
  options_.sharedKeyWindow = world.sharedKeyWindow;
  options_.steadyNow = options_.timerNow = [this] { return SteadyNow(); };
  options_.wallNow = [this] {
    return absl::FromUnixMillis(SimulatedServer::kBegin) +
           absl::Microseconds((world_.scheduler.now() + node_.wallOffset).count());
  };
  options_.registry.open = [this](bool mustExist, RegistryWire::Deadline deadline) {
    return SimulatedRegistry::Open(std::make_unique<SimulatedWire>(world_.server, process_), mustExist, deadline);
  };
  options_.root.open = [this](RegistryWire::Deadline) -> absl::StatusOr<std::unique_ptr<RootKey>> {
    return std::make_unique<SimulatedRootKey>(world_.rootKey, node_.rootKey);
  };
  options_.kekProviders["hsm"].openKek = [this](std::string_view key) {
    return std::make_unique<SimulatedKek>(world_.keks, std::string(key), process_);
  };
}

std::shared_ptr<SimulatedAgent> SimulatedAgent::Start(World& world, Node& node) {
  std::shared_ptr<SimulatedAgent> agent(new SimulatedAgent(world, node));
  world.scheduler.Spawn([agent] { agent->Run(); });
  return agent;
}

void SimulatedAgent::Kill() {
  process_->isDead = true;
  world_.scheduler.Notify(process_->wake);
}

void SimulatedAgent::Stop() {
  isStopping_ = true;
  world_.scheduler.Notify(process_->wake);
}

void SimulatedAgent::Run() {
  while (!isLeaving()) {
    auto keyring = Keyring::Open(options_);
    if (keyring.ok()) {
      core_ = std::make_unique<ServiceCore>(options_, *std::move(keyring));
      break;
    }
    if (!absl::IsUnavailable(keyring.status())) {
      return world_.fail(StrCat(name(), " cannot start: ", ToStd(keyring.status().message())));
    }
    world_.scheduler.SleepUntil(world_.scheduler.now() + milliseconds(300));
  }
  if (core_ == nullptr) return;
  workers_ = kWorkers;
  for (int worker = 0; worker < kWorkers; ++worker) {
    world_.scheduler.Spawn([self = shared_from_this()] { self->RunWorker(); });
  }
  RunService();
  core_ = nullptr;
}

void SimulatedAgent::RunWorker() {
  {
    KeyCache cache(*this, milliseconds(100), kCacheCapacity);
    caches_.push_back(&cache);
    world_.work(*this, cache);
    std::erase(caches_, &cache);
  }
  --workers_;
  world_.scheduler.Notify(workersEnded_);
  world_.scheduler.Notify(process_->wake);
}

// As ServiceThread, which ends after the workers.
void SimulatedAgent::RunService() {
  Scheduler& scheduler = world_.scheduler;
  while (workers_ > 0) {
    if (tasks_.empty() && questions_.empty()) {
      const ServiceCore::Rest rest = core_->Pause();
      const Time until =
          std::chrono::duration_cast<microseconds>(rest.until.time_since_epoch()) - process_->steadyOffset;
      if (rest.isTold && !isDead()) {
        core_->Hear();
      } else {
        scheduler.Wait(process_->wake, isDead() ? scheduler.now() + milliseconds(10) : until);
      }
    }
    absl::AnyInvocable<void()> task;
    std::vector<ServiceCore::Question> questions;
    if (!tasks_.empty()) {
      task = [this, work = std::move(tasks_.front())] { work(*core_); };
      tasks_.pop_front();
    }
    while (!questions_.empty() && questions.size() < 64) {
      questions.push_back(std::move(questions_.front()));
      questions_.pop_front();
    }
    core_->Turn(std::move(task), std::move(questions));
  }
  if (!isDead()) core_->End();
}

bool SimulatedAgent::Holds(const KeyRef& ref) {
  const SteadyTime now = SteadyNow();
  return std::any_of(caches_.begin(), caches_.end(), [&](KeyCache* cache) {
    const KeyCache::Found found = cache->FindById(ref);
    if (found.state != KeyCache::State::kReady || found.key->expires <= now) return false;
    return found.key->kek == nullptr || found.key->kek->expires > now;
  });
}

void SimulatedAgent::Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) {
  questions_.push_back({{std::move(misses), std::string(workload), {}}, std::move(done)});
  world_.scheduler.Notify(process_->wake);
}

}  // namespace kveil::keys
