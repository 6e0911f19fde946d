#include "proxy/worker.h"

#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "base/log.h"
#include "base/text.h"
#include "io/turn.h"

namespace kveil::proxy {
namespace {

constexpr std::chrono::milliseconds kTick{250};
// From the first to the longest pause between looks, each twice as long: thousands of connections may wait.
constexpr std::chrono::milliseconds kFirstLookForIdentity{10};
constexpr std::chrono::milliseconds kLastLookForIdentity{320};

}  // namespace

Server::Worker::Worker(Server& server, size_t index, std::unique_ptr<io::Loop> loop)
    : server_(server),
      index_(index),
      loop_(std::move(loop)),
      budget_(server.options_.frameMemory),
      parts_(*loop_, shelf_, budget_, server.options_.limits, server.metrics_) {}

Server::Worker::~Worker() { StopAndJoin(); }

void Server::Worker::StartThread() {
  thread_ = std::thread([this] {
    ::prctl(PR_SET_NAME, StrCat("kveil-worker-", index_).c_str());
    loop_->Spawn(Tick());
    loop_->Run();
  });
}

void Server::Worker::StopAndJoin() {
  if (!thread_.joinable()) return;
  loop_->Stop();
  thread_.join();
}

std::chrono::steady_clock::duration Server::Worker::SilentFor(std::chrono::steady_clock::time_point now) {
  if (!hasAnswered_) return now - askedAt_;
  hasAnswered_ = false;
  askedAt_ = now;
  Post([this] { hasAnswered_ = true; });
  return {};
}

io::Task<void> Server::Worker::Tick() {
  while (!loop_->stopping()) {
    co_await loop_->Sleep(kTick);
    if (server_.hooks_.tick) server_.hooks_.tick(index_);
    const auto now = std::chrono::steady_clock::now();
    for (const auto& [id, connection] : connections_) connection->Sweep(now);
    absl::erase_if(shares_, [](const auto& entry) { return entry.second.expired(); });
    for (const auto& [name, held] : shares_) {
      const std::shared_ptr<WorkloadShare> share = held.lock();
      if (share->waiting > 0) share->changed.Set();  // what others have given back makes its share larger
    }
    if (IsMemoryWaitedFor()) EndWorstHoarder(now);
  }
}

bool Server::Worker::IsMemoryWaitedFor() const {
  if (loop_->receiveBuffers().waiting() > 0 || budget_.isWaitedFor()) return true;
  return std::any_of(shares_.begin(), shares_.end(), [](const auto& entry) {
    const std::shared_ptr<WorkloadShare> share = entry.second.lock();
    return share != nullptr && share->waiting > 0;
  });
}

std::shared_ptr<WorkloadShare> Server::Worker::ShareOf(const identity::Workload& workload) {
  std::weak_ptr<WorkloadShare>& held = shares_[workload.share];
  std::shared_ptr<WorkloadShare> share = held.lock();
  if (share == nullptr) held = share = std::make_shared<WorkloadShare>();
  return share;
}

// Others wait for memory. One at a time, as each may be enough.
void Server::Worker::EndWorstHoarder(std::chrono::steady_clock::time_point now) {
  Connection* worst = nullptr;
  std::chrono::steady_clock::duration longest = server_.options_.limits.hoardTimeout;
  for (const auto& [id, connection] : connections_) {
    const auto time = connection->HoardsFor(now);
    if (time <= longest) continue;
    longest = time;
    worst = connection.get();
  }
  if (worst == nullptr) return;
  worst->Abort(observe::ConnectionResult::kStalled,
               "the application stood still in the middle of a message, and others waited for the memory it took");
}

// In turns, so that no connection waits for it: there may be ten thousand.
io::Task<void> Server::Worker::ListLater(std::shared_ptr<ConnectionListing> listing) {
  const ConnectionQuery& query = listing->query();
  std::vector<uint64_t> ids;
  ids.reserve(connections_.size());
  for (const auto& [id, connection] : connections_) ids.push_back(id);
  ConnectionList part;
  part.total = ids.size();
  struct Fitting {
    uint64_t traffic;
    uint64_t id;
  };
  std::vector<Fitting> fitting;
  io::Turn turn(*loop_);
  for (const uint64_t id : ids) {
    co_await turn.Pause();
    const auto found = connections_.find(id);  // it may have ended
    if (found == connections_.end() || !query.Fits(found->second->info())) continue;
    fitting.push_back({found->second->Traffic(query.recently), id});
  }
  part.fitting = fitting.size();
  KeepBusiest(fitting, query.most, [](const Fitting& one) { return one.traffic; });
  for (const Fitting& one : fitting) {
    co_await turn.Pause();
    const auto found = connections_.find(one.id);
    if (found != connections_.end()) part.connections.push_back(found->second->Report());
  }
  listing->Add(std::move(part));
}

void Server::Worker::AddListener(uint64_t netnsCookie, UniqueFd listener) {
  if (closing_) return;
  releasing_.erase(netnsCookie);
  auto* active = new ActiveListener(*loop_, std::move(listener), netnsCookie);
  listeners_.insert(active);
  loop_->Spawn(AcceptLoop(active));
}

// Owns `active`.
io::Task<void> Server::Worker::AcceptLoop(ActiveListener* active) {
  const std::unique_ptr<ActiveListener> owner(active);
  for (;;) {
    absl::StatusOr<UniqueFd> accepted = co_await active->listener.Accept();
    if (accepted.ok()) {
      server_.Dispatch(active->netnsCookie, *std::move(accepted));
      continue;
    }
    if (absl::IsCancelled(accepted.status())) break;
    log::Warning("accept.failed", {{"reason", accepted.status()}});
    co_await loop_->Sleep(kTick);
  }
  auto closing = active->listener.Close();
  co_await std::move(closing);
  listeners_.erase(active);
}

// `info` is nullptr while it is not known whose connection this is.
void Server::Worker::Reject(UniqueFd accepted, const Refusal& refusal, const ConnectionInfo* info) {
  server_.metrics_.ConnectionOpened();
  server_.metrics_.ConnectionClosed(refusal.result);
  if (info == nullptr) {
    log::Warning("connection.rejected", {{"reason", refusal.reason}});
  } else {
    const identity::Workload& workload = info->workload;
    log::Warning("connection.rejected", {{"id", info->id},
                                         {"client", info->origin.source.Text()},
                                         {"broker", info->origin.destination.Text()},
                                         {"workload", workload.name()},
                                         {"share", workload.share},
                                         {"reason", refusal.reason}});
  }
  const linger reset{1, 0};
  ::setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

void Server::Worker::Accept(uint64_t netnsCookie, UniqueFd accepted) {
  if (closing_ || releasing_.contains(netnsCookie)) return;
  absl::StatusOr<ConnectionInfo> identified = server_.setup_.Identify(accepted.get());
  if (absl::IsCancelled(identified.status())) return;
  if (!identified.ok()) {
    return Reject(std::move(accepted),
                  {observe::ConnectionResult::kNoOrigin, std::string(identified.status().message())});
  }
  auto info = std::make_unique<ConnectionInfo>(*std::move(identified));
  info->id = server_.nextConnectionId_.fetch_add(1, std::memory_order_relaxed);
  const std::string shareName = info->workload.share;
  if (std::string full = server_.TakePlace(shareName); !full.empty()) {
    return Reject(std::move(accepted), {observe::ConnectionResult::kLimit, std::move(full)}, info.get());
  }
  if (server_.setup_.IsWhole(*info)) {
    Begin(std::move(info), std::move(accepted));
  } else {
    loop_->Spawn(BeginLater(info.release(), accepted.Release()));
  }
}

// Owns both.
io::Task<void> Server::Worker::BeginLater(ConnectionInfo* raw, int fd) {
  std::unique_ptr<ConnectionInfo> info(raw);
  UniqueFd accepted(fd);
  const auto begun = std::chrono::steady_clock::now();
  const auto mayStay = [&] { return !closing_ && !releasing_.contains(info->origin.netnsCookie); };
  bool isWhole = false;
  std::chrono::milliseconds pause = kFirstLookForIdentity;
  while (!isWhole && mayStay() && std::chrono::steady_clock::now() - begun < server_.options_.identityTimeout) {
    co_await loop_->Sleep(pause);
    isWhole = server_.setup_.IsWhole(*info);
    pause = std::min(2 * pause, kLastLookForIdentity);
  }
  if (!mayStay()) {
    server_.LeavePlace(info->workload.share);
    co_return;
  }
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
  server_.metrics_.IdentityWaitedFor(isWhole, waited);
  if (!isWhole) {
    log::Warning("workload.unknown", {{"workload", info->workload.name()},
                                      {"share", info->workload.share},
                                      {"pod", info->workload.podUid},
                                      {"milliseconds", waited.count()}});
  }
  Begin(std::move(info), std::move(accepted));
}

void Server::Worker::Begin(std::unique_ptr<ConnectionInfo> info, UniqueFd accepted) {
  const std::string shareName = info->workload.share;
  absl::Cleanup leave = [&] { server_.LeavePlace(shareName); };
  std::variant<ConnectionParts, Refusal> made = server_.setup_.SetUp(*info, index_, *loop_);
  if (const Refusal* const refusal = std::get_if<Refusal>(&made)) {
    return Reject(std::move(accepted), *refusal, info.get());
  }
  server_.metrics_.ConnectionOpened();
  const uint64_t id = info->id;
  auto connection = std::make_unique<Connection>(parts_, ShareOf(info->workload), std::move(info), std::move(accepted),
                                                 std::get<ConnectionParts>(std::move(made)));
  Connection* const running = connection.get();
  connections_.emplace(id, std::move(connection));
  std::move(leave).Cancel();
  loop_->Spawn(RunConnection(running, id));
}

io::Task<void> Server::Worker::RunConnection(Connection* connection, uint64_t id) {
  auto run = connection->Run();
  co_await std::move(run);
  const std::string shareName = connection->info().workload.share;
  connections_.erase(id);
  server_.LeavePlace(shareName);
}

void Server::Worker::Release(uint64_t netnsCookie, std::function<void()> done) {
  releasing_.insert(netnsCookie);
  ReleaseMatching([netnsCookie](uint64_t cookie) { return cookie == netnsCookie; }, std::move(done));
}

void Server::Worker::ReleaseAll(std::function<void()> done) {
  closing_ = true;
  ReleaseMatching([](uint64_t) { return true; }, std::move(done));
}

void Server::Worker::AbortAll() {
  closing_ = true;
  CancelListeners([](uint64_t) { return true; });
  for (const auto& [id, connection] : connections_) {
    connection->Abort(observe::ConnectionResult::kServed, "the agent stops");
  }
  loop_->Stop();
}

void Server::Worker::CancelListeners(const Matches& matches) {
  for (ActiveListener* active : listeners_) {
    if (!matches(active->netnsCookie)) continue;
    active->closing = true;
    active->listener.Cancel();
  }
}

// Only what is there now: the namespace may come back at once, and what is new then stays.
void Server::Worker::ReleaseMatching(Matches matches, std::function<void()> done) {
  CancelListeners(matches);
  std::vector<uint64_t> draining;
  for (const auto& [id, connection] : connections_) {
    if (!matches(connection->info().origin.netnsCookie)) continue;
    draining.push_back(id);
    connection->Drain();
  }
  loop_->Spawn(WaitReleased(std::move(matches), std::move(draining), std::move(done)));
}

io::Task<void> Server::Worker::WaitReleased(Matches matches, std::vector<uint64_t> draining,
                                            std::function<void()> done) {
  const auto isClosing = [&matches](const ActiveListener* active) {
    return active->closing && matches(active->netnsCookie);
  };
  const auto patience = std::chrono::steady_clock::now() + server_.options_.drainTimeout;
  constexpr std::chrono::milliseconds kLook{10};
  for (;;) {
    std::erase_if(draining, [this](uint64_t id) { return !connections_.contains(id); });
    if (draining.empty() && std::none_of(listeners_.begin(), listeners_.end(), isClosing)) break;
    if (std::chrono::steady_clock::now() > patience) {
      for (const uint64_t id : draining) {
        connections_[id]->Abort(observe::ConnectionResult::kStalled, "not finished when the drain timeout passed");
      }
    }
    co_await loop_->Sleep(kLook);
  }
  done();
}

}  // namespace kveil::proxy
