// The known namespaces and what is done for each: listening, letting go. One thread changes it, any thread may look.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "intercept/cgroup_tree.h"
#include "intercept/listeners.h"
#include "intercept/namespaces.h"
#include "intercept/network_namespace.h"
#include "intercept/workload_scan.h"

namespace kveil::intercept {

class NamespaceTable {
 public:
  // `watch` is called with each new witness: its descriptor is to be waited for, until it is closed.
  NamespaceTable(Redirect& redirect, SocketMaker& sockets, CgroupTree cgroups, Namespaces::Callbacks callbacks,
                 std::function<void(uint64_t cookie, int pidFd)> watch);

  // The table's own thread.
  absl::Status AddOwn();  // the agent's namespace
  // Compares with the kernel's facts: adds, retries, lets go.
  void Scan();
  void RefreshSources();
  void OnRefused(const RefusedConnect& refused);
  void OnWitnessEnded(uint64_t cookie);
  void OnReleased(uint64_t cookie);
  // What an earlier agent noted of namespaces that nobody lives in any more.
  void ForgetOthers();
  bool scanWanted() const { return scanWanted_; }
  // Serves again where a connect is held and serving failed.
  void RetryHeld();
  // How long to wait for events before RetryHeld is due: milliseconds, -1 for ever.
  int MillisecondsToRetry() const;

  // Any thread.
  std::shared_ptr<const UniqueFd> Find(uint64_t cookie) const;  // nullptr when it is not served
  std::vector<Namespaces::NamespaceStatus> Status() const;
  absl::Status Health() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    Namespaces::NamespaceStatus status;
    std::shared_ptr<const UniqueFd> fd;
    Witness witness;
    bool isOwn = false;
    bool handedOut = false;  // the owner was given listeners
    Clock::time_point nextAttempt = {};
    Clock::time_point heldUntil = {};  // a connect waits for this namespace to be served
  };

  Entry* FindByInode(uint64_t inode);
  absl::StatusOr<uint64_t> CookieOf(int namespaceFd);
  // Opens the namespace and serves it, if it is not known. `cookie` 0: whichever it is. Returns whether it is known
  // now.
  bool Add(const std::string& file, pid_t pid, uint64_t cookie);
  bool AddByProcess(pid_t pid, uint64_t cookie);
  void Keep(Entry& entry, pid_t pid, std::string file);  // gives it a witness
  bool IsInUse(const Entry& entry) const;
  void Serve(Entry& entry);
  void ServeV6(Entry& entry);
  absl::Status Prepare(Entry& entry, const Listeners& listeners);
  bool IsHeldAndFailed(const Entry& entry) const;
  absl::Status NoteSources(const Entry& entry);
  absl::Status ResetExisting(Entry& entry);
  void HandOut(Entry& entry, Listeners listeners);
  void SetProblem(Entry& entry, Namespaces::NamespaceStatus::State state, absl::Status problem);
  void LetGo(Entry& entry);
  void Erase(uint64_t cookie);

  Redirect& redirect_;
  SocketMaker& sockets_;
  const CgroupTree cgroups_;
  const Namespaces::Callbacks callbacks_;
  const std::function<void(uint64_t, int)> watch_;
  mutable std::mutex mutex_;  // held to change entries_ and to look at it from another thread, never during a callback
  std::map<uint64_t, Entry> entries_;           // by cookie
  std::map<uint64_t, absl::Status> notOpened_;  // by inode: namespaces that are there and cannot be entered
  bool scanWanted_ = false;
};

}  // namespace kveil::intercept
