// The worker threads: listeners of namespaces in, connections out, and an orderly end of all of them.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "observe/metrics.h"
#include "proxy/connection.h"
#include "proxy/interceptor.h"

namespace kveil::proxy {

class Server {
 public:
  struct Options {
    unsigned workers = 1;
    size_t receiveBuffers = 256;     // a worker, of 1 MiB each
    size_t frameMemory = 256 << 20;  // bytes a worker, for frames that do not fit a receive buffer
    size_t connections = 10'000;     // at once, over all workers; one workload gets four fifths of them at most
    ConnectionLimits limits;
    std::chrono::milliseconds drainTimeout{10'000};
  };
  // What the server asks of the rest of the agent; all are called on worker threads.
  struct Hooks {
    // Whose connection an accepted socket is, and where it was going; `id` is set by the server. kCancelled: nothing to
    // serve, close it without a word (the agent's own probe). Other errors reset it with a line in the log.
    std::function<absl::StatusOr<ConnectionInfo>(int acceptedFd)> identify;
    // A socket to the broker, not connected yet, made in the workload's namespace.
    std::function<absl::StatusOr<UniqueFd>(const ConnectionInfo&)> makeUpstream;
    // TLS over that socket; nullptr where the way to the broker is plain TCP. May be empty: always plain.
    std::function<absl::StatusOr<std::unique_ptr<io::TlsSession>>(const ConnectionInfo&)> makeTls;
    InterceptorFactory makeInterceptors;
    // Several times a second on each worker.
    std::function<void(size_t worker)> tick;
    // Everything of this namespace is closed.
    std::function<void(uint64_t netnsCookie)> released;
  };

  // Starts the worker threads. An error: io_uring is not to be had here, and why.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options, Hooks hooks, observe::Metrics& metrics);
  // Ends everything at once unless Drain() has been called.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Accepts the connections of a namespace, on these listeners too. Any thread.
  void Serve(uint64_t netnsCookie, std::vector<UniqueFd> listeners);
  // Closes the namespace's listeners, lets its connections finish for at most drainTimeout, and calls `released`. Any
  // thread.
  void Release(uint64_t netnsCookie);
  // Takes nothing new, waits for what is owed, for at most drainTimeout, and stops the workers. Not a worker's thread.
  void Drain();

  // Asks every worker for a sign of life and says which has not given one for `limit` since it was asked. To be called
  // once a second or so, on any thread but a worker's.
  absl::Status CheckWorkers(std::chrono::milliseconds limit);

  size_t connectionCount() const { return connectionCount_.load(std::memory_order_relaxed); }

 private:
  class Worker;

  Server(Options options, Hooks hooks, observe::Metrics& metrics);
  void Stop();
  void Dispatch(uint64_t netnsCookie, UniqueFd accepted);
  // Workers' threads. Says why not where there is no place for another connection of this workload.
  std::string TakePlace(const std::string& shareName);
  void LeavePlace(const std::string& shareName);

  const Options options_;
  const Hooks hooks_;
  observe::Metrics& metrics_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::atomic<size_t> nextWorker_{0};
  std::mutex checkMutex_;
  std::mutex placesMutex_;
  absl::flat_hash_map<std::string, size_t> places_;  // connections by Workload::share; guarded by placesMutex_
  std::atomic<size_t> connectionCount_{0};           // their sum
  std::atomic<uint64_t> nextConnectionId_{1};
  bool stopped_ = false;
};

}  // namespace kveil::proxy
