#include "guard/broker_directory.h"

#include <netdb.h>

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "io/completion.h"

namespace kveil::guard {
namespace {

// A name's addresses move (a pod that restarts) and rotate, so a response that names it has it looked up again after
// this long; what was learned before stays for its lifetime.
constexpr std::chrono::seconds kResolveAgain{5};

absl::StatusOr<std::vector<SocketAddress>> Resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error != 0) {
    return absl::UnavailableError(StrCat("broker name '", host, "' does not resolve: ", ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    absl::StatusOr<SocketAddress> address = SocketAddress::From(entry->ai_addr, entry->ai_addrlen);
    if (!address.ok()) continue;
    address->setPort(port);
    addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace

bool BrokerDirectory::IsKnown(const std::string& endpoint, Clock::time_point now) {
  absl::MutexLock lock(&mutex_);
  const auto found = knownUntil_.find(endpoint);
  return found != knownUntil_.end() && found->second > now;
}

absl::Status BrokerDirectory::ResolveAndLearn(const std::string& host, uint16_t port, uint16_t targetIndex) {
  const absl::StatusOr<std::vector<SocketAddress>> addresses = Resolve(host, port);
  if (!addresses.ok() && options_.reportOnly) {
    log::Warning("broker.unresolved", {{"advertisedAs", host}, {"reason", addresses.status()}});
    return absl::OkStatus();
  }
  if (!addresses.ok()) return addresses.status();
  for (const SocketAddress& address : *addresses) {
    if (options_.isTarget(address)) continue;
    if (options_.reportOnly) {
      log::Warning("broker.outsideTargets", {{"broker", address.Text()}, {"advertisedAs", host}});
      continue;
    }
    const absl::Status learned = options_.learn(address, targetIndex, options_.lifetime);
    if (!learned.ok()) return learned;
    log::Info("broker.learned", {{"broker", address.Text()}, {"advertisedAs", host}});
  }
  return absl::OkStatus();
}

io::Task<absl::Status> BrokerDirectory::Learn(io::Loop& loop, std::string_view host, int32_t port,
                                              uint16_t targetIndex) {
  // A broker without an address is one that the sender does not know either (port -1 or an empty host).
  if (host.empty() || port <= 0 || port > 65535) co_return absl::OkStatus();
  const std::string endpoint = StrCat(targetIndex, " ", host, " ", port);
  if (IsKnown(endpoint, Clock::now())) co_return absl::OkStatus();
  const std::string ownedHost(host);
  const auto ownedPort = static_cast<uint16_t>(port);

  // Name resolution blocks, so it has a thread of its own; it happens once for each broker in kResolveAgain.
  auto start = [&](absl::AnyInvocable<void(absl::Status)> done) {
    std::thread([this, ownedHost, ownedPort, targetIndex, done = std::move(done)]() mutable {
      done(ResolveAndLearn(ownedHost, ownedPort, targetIndex));
    }).detach();
  };
  auto waiting = io::AwaitCallback<absl::Status>(loop, std::move(start));
  absl::Status learned = co_await std::move(waiting);
  if (learned.ok()) {
    absl::MutexLock lock(&mutex_);
    knownUntil_[endpoint] = Clock::now() + std::min<Clock::duration>(kResolveAgain, options_.lifetime / 2);
  }
  co_return learned;
}

}  // namespace kveil::guard
