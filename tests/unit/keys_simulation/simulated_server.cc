#include "simulated_server.h"

#include <utility>

namespace kveil::keys {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

// How often what is held up by a cut wire tries again.
constexpr milliseconds kTryAgain{50};

}  // namespace

SimulatedServer::Time SimulatedServer::Delay() {
  if (random_.PerMille(faults_.verySlow)) return random_.Between(milliseconds(300), seconds(5));
  if (random_.PerMille(faults_.slow)) return random_.Between(milliseconds(3), milliseconds(300));
  return random_.Between(microseconds(50), milliseconds(2));
}

void SimulatedServer::Stop() {
  isUp_ = false;
  for (const std::weak_ptr<Connection>& one : std::exchange(connections_, {})) {
    const auto connection = one.lock();
    if (connection == nullptr) continue;
    connection->isBroken = true;
  }
}

void SimulatedServer::FailOver(RegistryTables other) {
  Stop();
  tables = std::move(other);
  newestNumber_ = tables.Poll(std::numeric_limits<int64_t>::max()).last;
  ++timeline_;
  isUp_ = true;
}

void SimulatedServer::Receive(const std::shared_ptr<Connection>& connection, const std::shared_ptr<Pending>& pending,
                              const RegistryWire::Request& request) {
  if (connection->process->link->isCut) {
    // Of what is under way when a wire is cut for a second, a third does not arrive any more.
    if (random_.PerMille(20)) connection->isBroken = true;
    return scheduler_.At(scheduler_.now() + kTryAgain, [=, this] { Receive(connection, pending, request); });
  }
  if (connection->isBroken) {
    pending->isBroken = true;
    return scheduler_.Notify(pending->arrived);
  }
  connection->process->timeline = timeline_;
  request(tables, WallNow());
  onDone();
  TellOfNews();
  scheduler_.At(scheduler_.now() + Delay() + connection->process->link->lag,
                [=, this] { Answer(connection, pending); });
}

void SimulatedServer::Answer(const std::shared_ptr<Connection>& connection, const std::shared_ptr<Pending>& pending) {
  if (connection->process->link->isCut) {
    return scheduler_.At(scheduler_.now() + kTryAgain, [=, this] { Answer(connection, pending); });
  }
  (connection->isBroken ? pending->isBroken : pending->isDone) = true;
  scheduler_.Notify(pending->arrived);
}

void SimulatedServer::TellOfNews() {
  const int64_t newest = tables.Poll(std::numeric_limits<int64_t>::max()).last;
  if (newest == newestNumber_) return;
  newestNumber_ = newest;
  std::erase_if(connections_, [](const auto& one) { return one.expired(); });
  for (const std::weak_ptr<Connection>& one : connections_) {
    if (random_.PerMille(faults_.lostNotifications)) continue;
    scheduler_.At(scheduler_.now() + Delay(), [this, one] {
      const auto connection = one.lock();
      if (connection == nullptr || connection->isBroken || connection->process->link->isCut) return;
      connection->isNotified = true;
      scheduler_.Notify(connection->process->wake);
    });
  }
}

Scheduler::Time SimulatedWire::TrueTime(Deadline deadline) const {
  return std::chrono::duration_cast<microseconds>(deadline.time_since_epoch()) - process_->steadyOffset;
}

bool SimulatedWire::Connect(Deadline deadline) {
  Scheduler& scheduler = server_.scheduler_;
  const Scheduler::Time end = TrueTime(deadline);
  while (process_->link->isCut) {
    if (process_->isDead || scheduler.now() >= end) return false;
    scheduler.SleepUntil(std::min<Scheduler::Time>(end, scheduler.now() + kTryAgain));
  }
  if (!process_->isDead)
    scheduler.SleepUntil(scheduler.now() + server_.random_.Between(microseconds(100), milliseconds(3)));
  if (process_->isDead || !server_.isUp_) return false;
  connection_ = std::make_shared<SimulatedServer::Connection>();
  connection_->process = process_;
  server_.connections_.push_back(connection_);
  return true;
}

RegistryWire::Answer SimulatedWire::Ask(Request request, Deadline deadline) {
  pending_ = std::make_shared<SimulatedServer::Pending>();
  if (process_->isDead) return Answer::kBroken;
  server_.scheduler_.At(server_.scheduler_.now() + server_.Delay() + process_->link->lag,
                        [server = &server_, connection = connection_, pending = pending_,
                         request = std::move(request)] { server->Receive(connection, pending, request); });
  return Await(deadline);
}

RegistryWire::Answer SimulatedWire::Await(Deadline deadline) {
  Scheduler& scheduler = server_.scheduler_;
  const Scheduler::Time end = TrueTime(deadline);
  for (;;) {
    if (process_->isDead || pending_->isBroken) return Answer::kBroken;
    if (pending_->isDone) return Answer::kHere;
    if (scheduler.now() >= end) return Answer::kLate;
    scheduler.Wait(pending_->arrived, end);
  }
}

void SimulatedWire::GiveUp() {
  connection_ = nullptr;
  pending_ = nullptr;
}

bool SimulatedWire::TakeNotification() {
  return connection_ != nullptr && std::exchange(connection_->isNotified, false);
}

}  // namespace kveil::keys
