// The known namespaces: starts to listen in each, and releases it. One thread changes the table, any thread may read
// it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "base/expiring_map.h"
#include "base/mutex.h"
#include "base/socket_address.h"
#include "intercept/kernel/listeners.h"
#include "intercept/namespaces/kept_listeners.h"
#include "intercept/namespaces/namespaces.h"
#include "intercept/namespaces/serving_time.h"
#include "intercept/system/cgroup_tree.h"
#include "intercept/system/network_namespace.h"
#include "intercept/workloads/workload_scan.h"

namespace kveil::intercept {

class NamespaceTable {
 public:
  // Calls `watch` with each new witness, for the owner to wait for its descriptor until that is closed. `store`: see
  // Namespaces::Options.
  NamespaceTable(Redirect& redirect, SocketMaker& sockets, CgroupTree cgroups, Namespaces::Callbacks callbacks,
                 std::function<void(uint64_t cookie, int pidFd)> watch, DescriptorStore* store);

  // Only for the table's own thread.
  absl::Status AddOwn();  // the agent's namespace
  // Compares the table with the kernel's facts: adds, retries and releases namespaces.
  void Scan();
  // Makes ScanIfDue scan, because some time has passed.
  void WantScan() { scanWanted_ = true; }
  // Runs a turn of a scan if something asks for one, with rests between scans. A turn takes about 20 ms; other work has
  // its turns in between.
  void ScanIfDue();
  // Begins or continues a scan, until `end`. Returns whether it is complete.
  bool GoOnScanning(std::chrono::steady_clock::time_point end);
  // Checks lo and the addresses of some namespaces again, in turn.
  void RefreshAddresses();
  void OnRefused(const RefusedConnect& refused);
  void OnWitnessEnded(uint64_t cookie);
  void OnReleased(uint64_t cookie);
  // Removes what an earlier agent noted, and listeners that it left, of namespaces that nobody lives in any more.
  void ForgetOthers();
  // Tries again to serve namespaces in which a connect is held, and serving failed or had to wait.
  void RetryHeld();
  // Milliseconds until RetryHeld or ScanIfDue is due, -1: there is nothing to wait for.
  int MillisecondsToWait();

  // Any thread.
  std::shared_ptr<const UniqueFd> Find(uint64_t cookie) const;  // nullptr: it is not served
  std::vector<Namespaces::NamespaceStatus> Status() const;
  std::optional<Namespaces::NamespaceStatus> StatusOf(uint64_t cookie) const;
  absl::Status Health() const;              // not OK: the agent's own namespace, or a fault of the agent
  absl::Status WorkloadsNotServed() const;  // not OK: their workloads made them so that they cannot be served
  // An error names an owner with more namespaces than are served per owner, or one whose namespaces had to wait within
  // the last minute because they take too much of the agent's time.
  absl::Status CrowdHealth() const;
  absl::Status Unserved() const;
  absl::Status NotReset() const;
  absl::Status SeesAllProcesses() const;  // by the last scan

 private:
  using Clock = std::chrono::steady_clock;
  using Sources = std::map<std::pair<uint16_t, int>, SocketAddress>;  // by target and family
  // How often to retry a namespace that cannot be served, however many connects are refused there. Each attempt that
  // forks doubles it.
  static constexpr std::chrono::milliseconds kRetryAfter{200};
  static constexpr std::chrono::milliseconds kMostRetryAfter{3200};
  // Per user, and per workload, which may have many users. Each takes four descriptors of the agent.
  static constexpr size_t kMostNamespacesOfOwner = 64;
  // How long after its last connect a namespace that was not found is remembered, and named in the status.
  static constexpr std::chrono::seconds kUnknownLifetime{30};

  struct Entry {
    Namespaces::NamespaceStatus status;
    std::shared_ptr<const UniqueFd> fd;
    Witness witness;
    Clock::time_point witnessedAt = {};  // when a process was last known to have come or left
    bool isMissed = false;               // by the last scan, which began after that
    uint64_t owner = kHostOwnsNamespace;
    std::string share;                // which it counts towards, unless the host owns it
    std::optional<Sources> sources;   // those the kernel half knows
    absl::Status loopback;            // of a served namespace; while kUnavailable, connects are refused
    Redirect::ListeningPorts hidden;  // meanwhile
    bool handedOut = false;           // the owner has been given listeners
    std::string payer;                // the share that pays for the time it takes
    // The user who also pays, unless another workload that lives there pays.
    uint64_t PayingOwner() const { return payer == share ? owner : kHostOwnsNamespace; }
    Clock::time_point nextAttempt = {};
    std::chrono::milliseconds retryAfter = kRetryAfter;  // after an attempt that forked
    Clock::time_point heldUntil = {};                    // until then a connect waits for it to be served
  };

  // Charges the share and the owner for the time that it lives.
  struct Piece {
    Piece(ServingTime& time, const std::string& share, uint64_t owner) : ofShare(time, share) {
      if (owner != kHostOwnsNamespace) ofOwner.emplace(time, OwnerText(owner));
    }
    const ServingTime::Piece ofShare;
    std::optional<ServingTime::Piece> ofOwner;
  };

  // A held connect from a new namespace that waits for the turn of its share.
  struct PutOff {
    RefusedConnect refused;
    std::string share;
    Clock::time_point nextAttempt, heldUntil;
  };

  Entry* FindByInode(uint64_t inode);
  void OnConnect(const RefusedConnect& refused, Clock::time_point heldUntil);
  void PutOffHeld(const RefusedConnect& refused, Clock::time_point heldUntil);
  Clock::time_point DueAt(const PutOff& one);
  bool HasTimeToSpare(const std::string& share, uint64_t owner);
  void NoteUnknown(const RefusedConnect& refused);
  absl::StatusOr<uint64_t> CookieOf(int namespaceFd);
  enum class Found { kNo, kYes, kLater };  // kLater: it is not the turn of its share or owner
  // Opens the namespace and serves it, if it is not known. `cookie` 0: any; `share`: of the process.
  Found Add(const std::string& file, pid_t pid, uint64_t cookie, const std::string& share);
  Found AddByProcess(const RefusedConnect& refused);
  Found AddByThread(const RefusedConnect& refused, const std::string& share);
  size_t CountOf(const std::string& share) const;
  bool HasRoom(uint64_t owner, const std::string& share);
  bool Compare(Clock::time_point end);
  void CompareWith(uint64_t inode, const Resident& resident);
  void LetGoOfUnused();
  void Keep(Entry& entry, pid_t pid, std::string file);  // gives it a witness
  void LoseWitness(Entry& entry);
  bool IsInUse(const Entry& entry) const;
  Clock::time_point DueAt(const Entry& entry);
  bool IsDue(Entry& entry);
  // When it is the turn of a workload, and of the user who owns the namespace, who may have many workloads.
  Clock::time_point TurnOf(const std::string& share, uint64_t owner, Clock::time_point now);
  bool HasTurn(const std::string& share, uint64_t owner = kHostOwnsNamespace);
  void HaveItPaid(Entry& entry, const RefusedConnect& refused);
  void Serve(Entry& entry);
  void TryToServe(Entry& entry);
  void ServeV6(Entry& entry);
  Listeners TakeKept(Entry& entry);
  absl::StatusOr<Listeners> MakeListenersIn(Entry& entry, Families families);
  absl::Status Prepare(Entry& entry, const Listeners& listeners);
  bool IsHeldAndFailed(const Entry& entry) const;
  absl::Status NotServed(bool isAgentsFault) const;
  absl::Status LoopbackOf(const Entry& entry);
  void NoteLoopback(Entry& entry);
  absl::Status NoteSources(Entry& entry);
  absl::Status ResetExisting(Entry& entry);
  absl::StatusOr<size_t> ResetIn(int namespaceFd);
  void HandOut(Entry& entry, Listeners listeners);
  void SetProblem(Entry& entry, Namespaces::NamespaceStatus::State state, absl::Status problem);
  void LetGo(Entry& entry);
  void Erase(uint64_t cookie);

  Redirect& redirect_;
  SocketMaker& sockets_;
  const CgroupTree cgroups_;
  const Namespaces::Callbacks callbacks_;
  const std::function<void(uint64_t, int)> watch_;
  KeptListeners kept_;
  mutable Mutex mutex_;  // held to change entries_ or read it from another thread, never during a callback
  std::map<uint64_t, Entry> entries_;                // by cookie
  absl::flat_hash_map<uint64_t, uint64_t> cookies_;  // by inode, which is unique while we have it open
  std::map<uint64_t, absl::Status> notOpened_;       // by inode: namespaces that exist and cannot be entered
  // Users and cgroups with more namespaces than are served per owner, and those that the current scan has found.
  absl::flat_hash_set<std::string> crowded_, crowdedNow_;
  size_t hiddenProcesses_ ABSL_GUARDED_BY(mutex_) = 0;                   // of the last scan
  absl::Status scanProblem_ ABSL_GUARDED_BY(mutex_);                     // the same
  ExpiringMap<uint64_t, bool> notFound_{1024, std::chrono::seconds(1)};  // cookies that no process led to
  // When a workload's threads may be searched again, by share: there are KVEIL_SHARES.
  absl::flat_hash_map<uint32_t, Clock::time_point> nextWalk_;
  std::vector<PutOff> putOff_;
  ServingTime servingTime_;
  bool isStarting_ = true;  // until the first scan is complete: it serves all it finds, and nobody pays
  bool scanWanted_ = false;
  Clock::time_point nextScan_ = {};
  // The current scan.
  struct Comparison {
    Comparison(const CgroupTree& cgroups, Clock::time_point now) : scan(cgroups), start(now) {}
    WorkloadScan scan;
    const Clock::time_point start;
    Clock::duration took{};  // all turns so far
    // Once all processes have been seen: the namespace to compare next.
    std::optional<absl::flat_hash_map<uint64_t, Resident>::const_iterator> next;
  };
  std::optional<Comparison> comparison_;
  uint64_t lastRefreshed_ = 0;                             // the cookie
  ExpiringMap<uint64_t, Clock::time_point> unknownSince_;  // by cookie: the first connect from a namespace not found
  // A process whose namespace has not been found for long.
  struct LostProcess {
    uint32_t process = 0;
    Clock::time_point refusedAt = {};
  };
  LostProcess unserved_ ABSL_GUARDED_BY(mutex_);
  // A workload or user whose namespaces had to wait for their turn.
  struct Latecomer {
    std::string who;
    Clock::time_point at = {};
  };
  std::optional<Latecomer> waited_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::intercept
