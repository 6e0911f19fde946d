// The registry's server, and the wires between it and the agents: in a simulation's time, with its faults.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "registry_tables.h"
#include "scheduler.h"
#include "simulated_registry.h"

namespace kveil::keys {

// How an agent is connected. Outlives the agent.
struct Link {
  bool isCut = false;      // nothing arrives, in either direction; what was sent arrives when it is mended, or never
  Scheduler::Time lag{0};  // how much longer everything takes, in each direction
};

// An agent's, which may be killed.
struct Process {
  Link* link = nullptr;
  Scheduler::Time steadyOffset{0};
  bool isDead = false;
  uint64_t timeline = 0;  // of the server, when it has heard from this agent last
  Scheduler::Signal wake;
};

class SimulatedServer {
 public:
  using Time = Scheduler::Time;

  // How often calls are slow, in a thousand, and how often what was sent is lost.
  struct Faults {
    uint64_t slow = 20;
    uint64_t verySlow = 3;
    uint64_t lostNotifications = 100;
  };

  SimulatedServer(Scheduler& scheduler, Random& random, Faults faults)
      : scheduler_(scheduler), random_(random), faults_(faults) {}

  RegistryTables::Millis WallNow() const { return kBegin + (scheduler_.now() + wallOffset).count() / 1000; }

  // No request is answered, and every connection breaks.
  void Stop();
  void Start() { isUp_ = true; }
  bool isUp() const { return isUp_; }
  // Another server takes over, with these tables.
  void FailOver(RegistryTables tables);
  // Grows with each failover: what was answered before may be lost.
  uint64_t timeline() const { return timeline_; }
  void HealForGood() { faults_ = {0, 0, 0}; }

  RegistryTables tables;
  Time wallOffset{0};
  std::function<void()> onDone = [] {};  // after each request

  static constexpr RegistryTables::Millis kBegin = 1'750'000'000'000;

 private:
  friend class SimulatedWire;
  struct Connection {
    bool isBroken = false;
    bool isNotified = false;
    std::shared_ptr<Process> process;
  };
  struct Pending {
    bool isDone = false;
    bool isBroken = false;
    Scheduler::Signal arrived;
  };

  Time Delay();
  void Receive(const std::shared_ptr<Connection>& connection, const std::shared_ptr<Pending>& pending,
               const RegistryWire::Request& request);
  void Answer(const std::shared_ptr<Connection>& connection, const std::shared_ptr<Pending>& pending);
  void TellOfNews();

  Scheduler& scheduler_;
  Random& random_;
  Faults faults_;
  bool isUp_ = true;
  uint64_t timeline_ = 1;
  int64_t newestNumber_ = 0;
  std::vector<std::weak_ptr<Connection>> connections_;
};

class SimulatedWire : public RegistryWire {
 public:
  SimulatedWire(SimulatedServer& server, std::shared_ptr<Process> process)
      : server_(server), process_(std::move(process)) {}

  bool Connect(Deadline deadline) override;
  RegistryWire::Answer Ask(Request request, Deadline deadline) override;
  RegistryWire::Answer Await(Deadline deadline) override;
  void GiveUp() override;
  bool TakeNotification() override;
  bool isNotified() const override { return connection_ != nullptr && connection_->isNotified; }
  Deadline now() const override { return Deadline(server_.scheduler_.now() + process_->steadyOffset); }

 private:
  Scheduler::Time TrueTime(Deadline deadline) const;

  SimulatedServer& server_;
  const std::shared_ptr<Process> process_;
  std::shared_ptr<SimulatedServer::Connection> connection_;
  std::shared_ptr<SimulatedServer::Pending> pending_;
};

}  // namespace kveil::keys
