// Agents that share a registry, all that can go wrong between them, and what must hold whatever does.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scheduler.h"
#include "simulated_agent.h"
#include "simulated_server.h"

namespace kveil::keys {

class Simulation {
 public:
  using Time = Scheduler::Time;
  struct Options {
    uint64_t seed = 0;
    bool isTraced = false;  // prints what happens
  };
  explicit Simulation(Options options);
  ~Simulation();

  // What did not hold; nullopt: everything did.
  std::optional<std::string> Run();

  // The same for the same seed.
  uint64_t digest() const { return digest_; }
  struct Counts {
    uint64_t sealed = 0, opened = 0, erasures = 0, complete = 0, turns = 0, faults = 0, changes = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  // An agent that an erasure's report names: from then on it does not open.
  using Bound = std::map<std::string, Time>;
  struct Report {
    Time time;
    bool isComplete = false;
    Bound bound;
  };
  // A user in a keyspace, and the oracle's view of it.
  struct User {
    std::string name;
    std::string keyspace;
    bool isWanted = false;                    // to be erased
    std::optional<crypto::KeyId> keyId;       // the one key of the user
    std::vector<Report> reports;              // of the user's erasure
    int told = 0;                             // the version of what is known of the user that all agents go by
    std::vector<std::pair<Time, int>> known;  // since when it is in the registry, at the latest
  };
  struct Sealed {
    crypto::KeyId id;
    size_t user = 0;
    bool isThrowAway = false;
    std::optional<Time> erased;  // when the registry's server did it
    std::optional<Time> lost;    // in a failover
  };

  template <typename... Parts>
  void Trace(const Parts&... parts);
  void Note(uint64_t what);
  void Fail(const std::string& what);

  // Tasks.
  void Work(SimulatedAgent& agent, KeyCache& cache);
  void Seal(SimulatedAgent& agent, KeyCache& cache, size_t user);
  void Open(SimulatedAgent& agent, KeyCache& cache, size_t record);
  void OpenEverywhere();
  // False: the agent has left before the end.
  bool OpenAll(SimulatedAgent& agent, KeyCache& cache);
  bool FetchInto(SimulatedAgent& agent, KeyCache& cache, Misses misses);
  void EraseUsers();
  bool EraseUser(size_t user);
  void TurnEpochs();
  void ChangeUsers();
  void MakeFaults();
  void MakeFault();
  void Restart(size_t node, bool inOrder);
  void FailOver();

  // The oracle.
  void Look();
  void OnSealed(const SimulatedAgent& agent, size_t user, const CachedKey& key, const users::UserFacts* facts);
  void OnOpened(const SimulatedAgent& agent, Sealed& record, const users::UserFacts* facts);
  void CheckFacts(const SimulatedAgent& agent, const User& user, const users::UserFacts* facts);
  Sealed* FindRecord(const crypto::KeyId& id);

  std::string StateOfAll() const;
  bool isChaos() const { return scheduler_.now() < chaosEnds_; }
  std::shared_ptr<SimulatedAgent> SomeAgent();

  const Options options_;
  Random random_;
  Scheduler scheduler_{random_};
  SimulatedServer server_;
  Time chaosEnds_;
  Time failedOver_{0};
  bool mayLose_;  // failovers to a server that has lost the last moments
  bool mayJump_;
  bool isOver_ = false;
  bool isLast_ = false;  // workers open everything once more
  int lastRound_ = 0;
  size_t opened_ = 0;  // workers that have, in this round
  std::array<Node, 3> nodes_;
  SimulatedAgent::World world_;
  std::vector<std::shared_ptr<SimulatedAgent>> agents_;  // by node
  std::vector<User> users_;
  std::vector<Sealed> sealed_;
  RegistryTables standby_;
  std::optional<std::string> failure_;
  uint64_t digest_ = 0;
  int version_ = 0;
  Counts counts_;
};

}  // namespace kveil::keys
