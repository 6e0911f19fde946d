#include "proxy/server.h"

#include <latch>
#include <utility>

#include "base/text.h"
#include "proxy/worker.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

Server::Server(Options options, ConnectionSetup& setup, Hooks hooks, observe::Metrics& metrics)
    : options_(options), setup_(setup), hooks_(std::move(hooks)), metrics_(metrics) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Options options, ConnectionSetup& setup, Hooks hooks,
                                                      observe::Metrics& metrics) {
  std::unique_ptr<Server> server(new Server(options, setup, std::move(hooks), metrics));
  for (size_t index = 0; index < options.workers; ++index) {
    io::Loop::Options loopOptions;
    loopOptions.receiveBufferCount = options.receiveBuffers;
    absl::StatusOr<std::unique_ptr<io::Loop>> loop = io::Loop::Create(loopOptions);
    if (!loop.ok()) return loop.status();
    server->workers_.push_back(std::make_unique<Worker>(*server, index, *std::move(loop)));
  }
  for (const std::unique_ptr<Worker>& worker : server->workers_) worker->StartThread();
  return server;
}

Server::~Server() { Stop(); }

void Server::Serve(uint64_t netnsCookie, std::vector<UniqueFd> listeners) {
  // A namespace's listeners stay with one worker; what they accept goes to all in turn.
  Worker& worker = *workers_[netnsCookie % workers_.size()];
  for (const std::unique_ptr<Worker>& other : workers_) {
    if (other.get() != &worker) other->Post([other = other.get(), netnsCookie] { other->Readmit(netnsCookie); });
  }
  worker.Post([&worker, netnsCookie, listeners = std::move(listeners)]() mutable {
    for (UniqueFd& listener : listeners) worker.AddListener(netnsCookie, std::move(listener));
  });
}

void Server::Dispatch(uint64_t netnsCookie, UniqueFd accepted) {
  Worker& worker = *workers_[nextWorker_.fetch_add(1, std::memory_order_relaxed) % workers_.size()];
  worker.Post([&worker, netnsCookie, accepted = std::move(accepted)]() mutable {
    worker.Accept(netnsCookie, std::move(accepted));
  });
}

std::string Server::TakePlace(const std::string& shareName) {
  const MutexLock lock(placesMutex_);
  const size_t all = connectionCount_.load(std::memory_order_relaxed);
  if (all >= options_.connections) return StrCat("limits.connections is reached: ", options_.connections);
  size_t& own = places_[shareName];
  if (!IsWithinShare(own, 1, options_.connections - all)) {
    return StrCat("this workload has ", own, " connections, its share of limits.connections (", options_.connections,
                  ")");
  }
  ++own;
  connectionCount_.store(all + 1, std::memory_order_relaxed);
  return "";
}

void Server::LeavePlace(const std::string& shareName) {
  const MutexLock lock(placesMutex_);
  connectionCount_.fetch_sub(1, std::memory_order_relaxed);
  const auto own = places_.find(shareName);
  if (--own->second == 0) places_.erase(own);
}

void Server::Release(uint64_t netnsCookie) {
  auto left = std::make_shared<std::atomic<size_t>>(workers_.size());
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->Post([this, worker = worker.get(), netnsCookie, left] {
      worker->Release(netnsCookie, [this, netnsCookie, left] {
        if (left->fetch_sub(1) == 1 && hooks_.released) hooks_.released(netnsCookie);
      });
    });
  }
}

absl::Status Server::CheckWorkers(std::chrono::milliseconds limit) {
  const MutexLock lock(checkMutex_);
  std::string stuck;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    const auto silent = worker->SilentFor(std::chrono::steady_clock::now());
    if (silent <= limit) continue;
    StrAppend(&stuck, stuck.empty() ? "" : ", ", "worker ", worker->index(), " has not gone on for ",
              std::chrono::duration_cast<std::chrono::seconds>(silent).count(), " s");
  }
  return stuck.empty() ? absl::OkStatus() : absl::UnavailableError(stuck);
}

ConnectionList Server::ListConnections(const ConnectionQuery& query, std::chrono::milliseconds patience) const {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const auto listing = std::make_shared<ConnectionListing>(query, workers_.size());
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->Post([worker = worker.get(), listing] { worker->List(listing); });
  }
  return listing->Await(deadline);
}

void Server::Drain() {
  std::latch left(static_cast<std::ptrdiff_t>(workers_.size()));
  // All are told before any is waited for: each takes up to a tick.
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->Post([worker = worker.get(), &left] { worker->ReleaseAll([&left] { left.count_down(); }); });
  }
  left.wait();
  Stop();
}

void Server::Stop() {
  if (stopped_) return;
  stopped_ = true;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    worker->Post([worker = worker.get()] { worker->AbortAll(); });
  }
  for (const std::unique_ptr<Worker>& worker : workers_) worker->StopAndJoin();
}

}  // namespace kveil::proxy
