// The worker threads: listeners of namespaces in, connections out, and an orderly end of all of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "observe/metrics.h"
#include "proxy/connection.h"
#include "proxy/connection_list.h"
#include "proxy/connection_setup.h"

namespace kveil::proxy {

class Server {
 public:
  struct Options {
    unsigned workers = 1;
    size_t receiveBuffers = 256;     // per worker, of 1 MiB each
    size_t frameMemory = 256 << 20;  // bytes per worker, for frames that do not fit a receive buffer
    size_t connections = 10'000;     // at once, over all workers; one workload gets at most four fifths of them
    ConnectionLimits limits;
    std::chrono::milliseconds drainTimeout{10'000};
    // How long a connection waits until it is known whose it is. Then it is nobody's.
    std::chrono::milliseconds identityTimeout{3'000};
  };
  // What the server tells the rest of the agent, on worker threads. Either may be empty.
  struct Hooks {
    // Several times a second on each worker.
    std::function<void(size_t worker)> tick;
    // Everything of this namespace is closed.
    std::function<void(uint64_t netnsCookie)> released;
  };

  // Starts the worker threads. `setup` and `metrics` outlive the server. Fails with the reason where io_uring cannot be
  // used.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options, ConnectionSetup& setup, Hooks hooks,
                                                       observe::Metrics& metrics);
  // Ends everything at once unless Drain() has been called.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts the connections of a namespace on these listeners, beside those it has. Any thread.
  void Serve(uint64_t netnsCookie, std::vector<UniqueFd> listeners);
  // Closes the namespace's listeners, lets its connections finish for at most drainTimeout, and calls `released`. Any
  // thread.
  void Release(uint64_t netnsCookie);
  // Accepts nothing more, waits at most drainTimeout for outstanding responses, and stops the workers. Not on a
  // worker's thread.
  void Drain();

  // Asks every worker for a sign of life. The error names those that have not given one for `limit` since they were
  // asked. Call it about once a second, on any thread but a worker's.
  absl::Status CheckWorkers(std::chrono::milliseconds limit);

  // The connections that are open now. Waits for the workers, each of which answers when it has come to an end of what
  // it does, for `patience` at most. Any thread but a worker's.
  ConnectionList ListConnections(const ConnectionQuery& query, std::chrono::milliseconds patience) const;

  size_t connectionCount() const { return connectionCount_.load(std::memory_order_relaxed); }

 private:
  class Worker;

  Server(Options options, ConnectionSetup& setup, Hooks hooks, observe::Metrics& metrics);
  void Stop();
  void Dispatch(uint64_t netnsCookie, UniqueFd accepted);
  // Workers' threads. Returns why there is no place for another connection of this workload, or "".
  std::string TakePlace(const std::string& shareName);
  void LeavePlace(const std::string& shareName);

  const Options options_;
  ConnectionSetup& setup_;
  const Hooks hooks_;
  observe::Metrics& metrics_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<size_t> nextWorker_{0};
  Mutex checkMutex_;  // held by CheckWorkers
  Mutex placesMutex_;
  absl::flat_hash_map<std::string, size_t> places_ ABSL_GUARDED_BY(placesMutex_);  // connections by Workload::share
  std::atomic<size_t> connectionCount_{0};                                         // their sum
  std::atomic<uint64_t> nextConnectionId_{1};
  bool stopped_ = false;
};

}  // namespace kveil::proxy
