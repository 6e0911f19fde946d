#include "guard/broker_directory.h"

#include <netdb.h>

#include <algorithm>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "io/completion.h"

namespace kveil::guard {
namespace {

// A name's addresses move (a pod that restarts) and rotate, so a response that names it has it looked up again after
// this long; what was learned before stays for its lifetime.
constexpr std::chrono::seconds kLookAgain{5};
constexpr size_t kMostNames = 10'000;

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

bool BrokerDirectory::LearnedWithin(const std::string& endpoint, Clock::duration age) {
  const std::lock_guard lock(mutex_);
  const auto found = learnedAt_.find(endpoint);
  return found != learnedAt_.end() && Clock::now() - found->second < age;
}

void BrokerDirectory::NoteLearned(const std::string& endpoint) {
  const std::lock_guard lock(mutex_);
  learnedAt_[endpoint] = Clock::now();
}

absl::Status BrokerDirectory::LearnAddress(const SocketAddress& address, std::string_view host, uint16_t targetIndex) {
  if (options_.isTarget(address)) return absl::OkStatus();
  if (options_.reportOnly) {
    if (IsNews(address)) log::Warning("broker.outsideTargets", {{"broker", address.Text()}, {"advertisedAs", host}});
    return absl::OkStatus();
  }
  const absl::Status learned = options_.learn(address, targetIndex, options_.lifetime);
  if (learned.ok() && IsNews(address)) {
    log::Info("broker.learned", {{"broker", address.Text()}, {"advertisedAs", host}});
  }
  return learned;
}

std::string BrokerDirectory::NameOf(const SocketAddress& address, std::string_view cluster) const {
  const std::lock_guard lock(mutex_);
  const auto found = nameOf_.find(StrCat(cluster, " ", address.Text()));
  return found == nameOf_.end() ? std::string() : found->second;
}

bool BrokerDirectory::IsNews(const SocketAddress& address) {
  const std::lock_guard lock(mutex_);
  const Clock::time_point now = Clock::now();
  const auto [told, isNew] = toldAt_.try_emplace(address.Text(), now);
  const bool isNews = isNew || now - told->second >= options_.lifetime;
  if (isNews) told->second = now;
  return isNews;
}

absl::Status BrokerDirectory::ResolveAndLearn(const std::string& host, uint16_t port, uint16_t targetIndex) {
  const absl::StatusOr<std::vector<SocketAddress>> addresses = Resolve(host, port);
  if (!addresses.ok() && options_.reportOnly) {
    log::Warning("broker.unresolved", {{"advertisedAs", host}, {"reason", addresses.status()}});
    return absl::OkStatus();
  }
  if (!addresses.ok()) return addresses.status();
  {
    const std::lock_guard lock(mutex_);
    if (nameOf_.size() > kMostNames) nameOf_.clear();
    for (const SocketAddress& address : *addresses) {
      nameOf_[StrCat(options_.clusterOf(targetIndex), " ", address.Text())] = host;
    }
  }
  absl::Status status;
  for (const SocketAddress& address : *addresses) status.Update(LearnAddress(address, host, targetIndex));
  return status;
}

io::Task<absl::Status> BrokerDirectory::Learn(io::Loop& loop, std::string_view host, int32_t port,
                                              uint16_t targetIndex) {
  // A broker without an address is one that the sender does not know either (port -1 or an empty host).
  if (host.empty() || port <= 0 || port > 65535) co_return absl::OkStatus();
  const std::string endpoint = StrCat(targetIndex, " ", host, " ", port);
  if (LearnedWithin(endpoint, std::min<Clock::duration>(kLookAgain, options_.lifetime / 2))) co_return absl::OkStatus();
  const auto ownedPort = static_cast<uint16_t>(port);
  const absl::StatusOr<SocketAddress> numeric = SocketAddress::Parse(host, ownedPort);
  absl::Status learned;
  if (numeric.ok()) {
    learned = LearnAddress(*numeric, host, targetIndex);
  } else {
    // Name resolution blocks, so it has a thread of its own.
    std::string ownedHost(host);
    auto start = [&](absl::AnyInvocable<void(absl::Status)> done) {
      try {
        std::thread([this, ownedHost = std::move(ownedHost), ownedPort, targetIndex, done = std::move(done)]() mutable {
          done(ResolveAndLearn(ownedHost, ownedPort, targetIndex));
        }).detach();
      } catch (const std::system_error& error) {
        done(absl::ResourceExhaustedError(StrCat("no thread to look a broker's name up: ", error.what())));
      }
    };
    auto waiting = io::AwaitCallback<absl::Status>(loop, std::move(start));
    learned = co_await std::move(waiting);
  }
  if (learned.ok()) {
    NoteLearned(endpoint);
  } else if (LearnedWithin(endpoint, options_.lifetime)) {
    // What was learned before is still in force; a name server that is away for a moment ends no connection.
    log::Warning("broker.unresolved", {{"advertisedAs", host}, {"reason", learned}});
    co_return absl::OkStatus();
  }
  co_return learned;
}

}  // namespace kveil::guard
