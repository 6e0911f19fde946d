// Agents that share a registry, all that can go wrong between them, and what must hold whatever does.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/text.h"
#include "scheduler.h"
#include "simulated_agent.h"
#include "simulated_kek.h"
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
    uint64_t sealed = 0, opened = 0, underKeks = 0, mixed = 0, erasures = 0, complete = 0, readmissions = 0, turns = 0,
             givenUp = 0, changes = 0, faults = 0;
    Counts& operator+=(const Counts& other);
  };
  const Counts& counts() const { return counts_; }

 private:
  static constexpr size_t kUsers = 24;
  static constexpr size_t kUsersAtFirst = 8;
  static constexpr size_t kTopics = 4;

  // An agent that an erasure's report names: from then on it does not open.
  using Bound = std::map<std::string, Time>;
  struct Report {
    Time time;
    int64_t number = 0;  // of the erasure
    bool isComplete = false;
    Bound bound;
  };
  // Of what is known of a user.
  struct Change {
    int version = 0;
    int64_t number = 0;
    Time since;           // it is in the registry, at the latest
    bool isTold = false;  // all agents go by it
  };
  // A user in a keyspace, and the oracle's view of it.
  struct User {
    std::string name;
    std::string keyspace;
    bool isWanted = false;               // to be erased
    bool wasWanted = false;              // ever
    std::optional<Subject> subject;      // once an agent has told
    std::optional<crypto::KeyId> keyId;  // the user's last key
    std::vector<Report> reports;         // of the user's erasures
    std::vector<Change> changes;
    int64_t readmission = 0;  // the number of the last one
    Time readmitted{0};
  };
  struct Topic {
    std::string name;
    std::optional<std::string> kek;  // by the policy in force
  };
  // A key that something was sealed with. That of a user is another one with each KEK key that is mixed into it.
  struct Sealed {
    KeyRef ref() const { return {id, kekKey}; }

    crypto::KeyId id;
    std::string owner;  // for messages
    std::optional<size_t> user;
    std::optional<std::string> kek;       // that the policy named
    std::optional<crypto::KeyId> kekKey;  // that was mixed into a user's
    uint64_t bytes = 0;                   // the first ones of the key
    bool isThrowAway = false;
    std::optional<Time> erased;  // when the registry's server did it
    std::optional<Time> lost;    // in a failover
  };
  // What was in the place of a row's wrapped key, and what is.
  struct Damage {
    ByteBuffer before, now;
  };

  template <typename... Parts>
  void Trace(const Parts&... parts);
  void Note(uint64_t what);
  void Fail(const std::string& what);
  std::string StateOfAll() const;
  bool isChaos() const { return scheduler_.now() < chaosEnds_; }

  // simulation_work.cc: what workers do.
  void Work(SimulatedAgent& agent, KeyCache& cache);
  void SealForUser(SimulatedAgent& agent, KeyCache& cache, size_t user, const Topic& topic);
  void SealForTopic(SimulatedAgent& agent, KeyCache& cache, size_t topic);
  CachedKey* KeyFor(SimulatedAgent& agent, KeyCache& cache, const OwnedScopeName& name);
  size_t SomeRecord();
  KeyCache::State Open(SimulatedAgent& agent, KeyCache& cache, size_t record);
  // False: the agent has left before the end.
  bool OpenAll(SimulatedAgent& agent, KeyCache& cache);
  void AddOthers(Misses& misses);
  bool FetchInto(SimulatedAgent& agent, KeyCache& cache, Misses misses);
  OwnedScopeName NameOf(const User& user, const Topic& topic) const;
  const Topic& SomeTopicOfUsers();

  // simulation_operators.cc: tasks, each of an operator.
  void EraseUsers();
  bool EraseUser(size_t user);
  void EraseAfterFailOver();
  void ReadmitUsers();
  void TurnEpochs();
  bool TurnEpoch();
  void TurnAfterFailOver();
  void ChangeUsers();
  void ChangeUser(SimulatedAgent& agent, User& user);
  void RotateKeks();
  bool RotateKek(const std::string& name, const std::shared_ptr<Process>& self);
  void MendRows();
  void GiveUpOrRestore(crypto::KeyId id);
  void GiveUp(crypto::KeyId id);
  void BringUsers();
  void LearnSubjects(SimulatedAgent& agent);
  std::shared_ptr<SimulatedAgent> SomeAgent();
  size_t SomeUser();

  // simulation_faults.cc.
  void MakeFaults();
  void MakeFault();
  void MakeKekFaults();
  void MakeKekFault();
  void CutOff(Node& node);
  void SlowDown(Node& node, Time most);
  void DamageSomeRow();
  void Restart(size_t node, bool inOrder, Time longestPause = std::chrono::seconds(5));
  void LoseSoon();
  void LoseNewcomer();
  void FailOver(std::optional<size_t> newcomer);
  // Tasks only. Whether it has become so while there are faults.
  bool Await(const std::function<bool()>& isSo);
  void NoteUnheard();
  void Heal();

  // simulation_oracle.cc.
  void Look();
  void LookAtUsers();
  void LookAtConfirmations();
  void CheckHeld(size_t user, const Report& report);
  bool IsUnheard(const SimulatedAgent& agent, const crypto::KeyId& id) const;
  // Whether it has the key in a cache, by itself or with any KEK key mixed into it.
  bool Holds(SimulatedAgent& agent, const crypto::KeyId& id) const;
  bool IsLost(const Sealed& record) const;
  bool IsAsThePolicySays(const Sealed& record, const Registry::Row& row) const;
  // `sealed`: for whom, and under which KEK, as the policy says.
  void OnSealed(SimulatedAgent& agent, Sealed sealed, const CachedKey& key);
  Sealed* AddRecord(const SimulatedAgent& agent, const Sealed& sealed);
  void CheckThrowAway(const SimulatedAgent& agent, const Sealed& record);
  // Whoever has a key seals and opens with it.
  void OnOpened(const SimulatedAgent& agent, const Sealed& record, const CachedKey& key);
  void CheckKek(const SimulatedAgent& agent, const Sealed& record);
  void CheckErasures(const SimulatedAgent& agent, const Sealed& record, const RegistryTables::KeyLife& life);
  void CheckFacts(const SimulatedAgent& agent, const Sealed& record, const RegistryTables::KeyLife& life,
                  const users::UserFacts* facts);
  // In the end, on every agent.
  KeyCache::State StateInTheEnd(const Sealed& record) const;
  bool isDamaged(const crypto::KeyId& id) const;
  Sealed* FindRecord(const KeyRef& ref);
  void OpenEverywhere();
  bool isDone() const;

  const Options options_;
  Random random_;
  Scheduler scheduler_{random_};
  SimulatedServer server_;
  SimulatedKek::Provider keks_{scheduler_, random_, {}};
  Time chaosEnds_;
  Time failedOver_{0};  // to a server that has lost the last moments
  // The keys that agents had then whom this server does not know: nobody waits for these.
  std::map<std::string, std::set<std::array<uint8_t, 16>>> unheard_;
  bool mayLose_;  // there are such
  bool mayJump_;
  bool mayDamage_;
  bool mayLoseKek_;
  bool afterErasureNewKey_;  // the policy of keyspace "orders"
  bool hasServerJumped_ = false;
  bool areKeksRotated_ = false;
  bool isOver_ = false;
  bool isLast_ = false;  // workers open everything once more
  int lastRound_ = 0;
  size_t opened_ = 0;  // workers that have, in this round
  std::array<Node, 3> nodes_;
  SimulatedAgent::World world_;
  std::vector<std::shared_ptr<SimulatedAgent>> agents_;  // by node
  std::vector<User> users_;
  std::vector<Topic> topics_;         // with keys of their own
  std::vector<Topic> topicsOfUsers_;  // with those of users
  size_t usersHere_ = kUsersAtFirst;
  size_t hot_ = 0;  // the user whom everybody looks at now
  std::vector<Sealed> sealed_;
  absl::flat_hash_map<KeyRef, size_t> places_;  // in sealed_
  // The KEK keys that were ever mixed into a user's key, by its id.
  std::map<std::array<uint8_t, 16>, std::set<std::array<uint8_t, 16>>> mixed_;
  std::map<std::array<uint8_t, 16>, Damage> damaged_;
  std::set<std::array<uint8_t, 16>> wereDamaged_;  // ever
  RegistryTables standby_;
  std::map<std::array<uint8_t, 16>, Damage> damagedThere_;
  uint64_t revision_ = 0;                     // of the tables, when they were looked at
  uint64_t confirmations_ = 0;                // likewise
  std::map<std::string, int64_t> confirmed_;  // by agent, likewise
  std::optional<std::string> failure_;
  uint64_t digest_ = 0;
  int version_ = 0;
  Counts counts_;
};

// As the trace and the messages have a key's id.
std::string ShortText(const KeyRef& ref);

template <typename... Parts>
void Simulation::Trace(const Parts&... parts) {
  if (!options_.isTraced) return;
  const std::string text = StrCat(parts...);
  std::printf("%10.6f %s\n", static_cast<double>(scheduler_.now().count()) / 1e6, text.c_str());
}

}  // namespace kveil::keys
