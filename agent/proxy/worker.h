// One worker thread: its loop, its buffers, its listeners and its connections. Methods run on the worker's own thread
// unless they say otherwise.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "io/listener.h"
#include "io/loop.h"
#include "proxy/buffer_shelf.h"
#include "proxy/connection.h"
#include "proxy/connection_list.h"
#include "proxy/connection_setup.h"
#include "proxy/memory_budget.h"
#include "proxy/server.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

class Server::Worker {
 public:
  Worker(Server& server, size_t index, std::unique_ptr<io::Loop> loop);
  ~Worker();

  // Any thread.
  void StartThread();
  void Post(absl::AnyInvocable<void()> work) { loop_->Post(std::move(work)); }
  // Any other thread. The loop ends when its last task has.
  void StopAndJoin();
  // Any one thread at a time: how long the loop has not done what it was asked to, by an earlier call of this. Asks
  // again when it has.
  std::chrono::steady_clock::duration SilentFor(std::chrono::steady_clock::time_point now);
  size_t index() const { return index_; }

  void AddListener(uint64_t netnsCookie, UniqueFd listener);
  void Accept(uint64_t netnsCookie, UniqueFd accepted);
  // The namespace has come back.
  void Readmit(uint64_t netnsCookie) { releasing_.erase(netnsCookie); }
  // Closes listeners, drains connections, calls `done` when nothing of the namespace is left.
  void Release(uint64_t netnsCookie, std::function<void()> done);
  // The same for everything, for good.
  void ReleaseAll(std::function<void()> done);
  // Answers a question about the connections, later.
  void List(std::shared_ptr<ConnectionListing> listing) { loop_->Spawn(ListLater(std::move(listing))); }
  // Closes listeners and connections at once, for good, and has the loop end when they have.
  void AbortAll();

 private:
  struct ActiveListener {
    ActiveListener(io::Loop& loop, UniqueFd fd, uint64_t cookie) : listener(loop, std::move(fd)), netnsCookie(cookie) {}
    io::Listener listener;
    uint64_t netnsCookie;
    bool closing = false;
  };

  io::Task<void> AcceptLoop(ActiveListener* active);
  // What follows when a connection has its place: first it waits for its identity.
  io::Task<void> BeginLater(ConnectionInfo* info, int accepted);
  void Begin(std::unique_ptr<ConnectionInfo> info, UniqueFd accepted);
  io::Task<void> RunConnection(Connection* connection, uint64_t id);
  using Matches = std::function<bool(uint64_t netnsCookie)>;
  void CancelListeners(const Matches& matches);
  void ReleaseMatching(Matches matches, std::function<void()> done);
  io::Task<void> WaitReleased(Matches matches, std::vector<uint64_t> draining, std::function<void()> done);
  io::Task<void> ListLater(std::shared_ptr<ConnectionListing> listing);
  io::Task<void> Tick();
  void EndWorstHoarder(std::chrono::steady_clock::time_point now);
  bool IsMemoryWaitedFor() const;
  std::shared_ptr<WorkloadShare> ShareOf(const identity::Workload& workload);
  void Reject(UniqueFd accepted, const Refusal& refusal, const ConnectionInfo* info = nullptr);

  Server& server_;
  const size_t index_;
  std::unique_ptr<io::Loop> loop_;
  BufferShelf shelf_;
  MemoryBudget budget_;
  WorkerParts parts_;
  absl::flat_hash_set<ActiveListener*> listeners_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> connections_;
  absl::flat_hash_map<std::string, std::weak_ptr<WorkloadShare>> shares_;  // by Workload::share
  absl::flat_hash_set<uint64_t> releasing_;  // namespaces whose late connections are not taken any more
  bool closing_ = false;
  std::atomic<bool> hasAnswered_{true};  // SilentFor
  std::chrono::steady_clock::time_point askedAt_;
  std::thread thread_;
};

}  // namespace kveil::proxy
