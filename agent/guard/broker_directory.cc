#include "guard/broker_directory.h"

#include <netdb.h>

#include <algorithm>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/host_name.h"
#include "base/log.h"
#include "base/text.h"
#include "io/completion.h"

namespace kveil::guard {
namespace {

// What is kept at most of each kind, and for how many names of one address: responses can be made up.
constexpr size_t kMostKept = 10'000;
constexpr size_t kMostNamesOfAddress = 16;

// How often the log says of the same address that it is refused; each connection that ends for it says so, too.
constexpr std::chrono::minutes kRefusalIsNews{1};

// A host name as certificates and greetings have it: without the dot that a name may end with, in small letters.
std::string WithoutDot(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  return absl::AsciiStrToLower(ToAbsl(host));
}

std::string Endpoint(std::string_view cluster, std::string_view host, int32_t port) {
  return StrCat(cluster, " ", host, " ", port);
}

}  // namespace

absl::StatusOr<std::vector<SocketAddress>> BrokerDirectory::Resolve(const std::string& host) {
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
    if (address.ok()) addresses.push_back(*address);
  }
  return addresses;
}

bool BrokerDirectory::LearnedWithin(const std::string& endpoint, Clock::duration age) {
  const std::lock_guard lock(mutex_);
  const auto found = learnedAt_.find(endpoint);
  return found != learnedAt_.end() && Clock::now() - found->second < age;
}

void BrokerDirectory::NoteLearned(const std::string& endpoint) {
  const std::lock_guard lock(mutex_);
  MakeRoom(learnedAt_);
  learnedAt_[endpoint] = Clock::now();
}

// What goes is learned, or said, once more.
void BrokerDirectory::MakeRoom(Times& times) {
  if (times.size() < kMostKept) return;
  absl::erase_if(times, [this](const auto& entry) { return isOld(entry.second); });
  if (times.size() >= kMostKept) times.clear();
}

// What is a target by configuration is that cluster's, whoever advertises it. But a cluster that is to be reached over
// TLS must not be left in the clear for that.
absl::Status BrokerDirectory::CheckConfigured(const SocketAddress& address, uint16_t configured,
                                              uint16_t targetIndex) const {
  const std::string cluster = options_.clusterOf(targetIndex), owner = options_.clusterOf(configured);
  if (cluster == owner || !options_.hasTls(targetIndex) || options_.hasTls(configured)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat("broker ", address.Text(), ", which cluster ", cluster, " (with tls) advertises, is a target of cluster ",
             owner, " (without) by configuration: add it to /intercept/targets as cluster ", cluster));
}

absl::Status BrokerDirectory::LearnAddress(const SocketAddress& address, std::string_view host, uint16_t targetIndex) {
  const std::optional<uint16_t> configured = options_.targetOf(address);
  absl::Status status;
  if (configured.has_value()) {
    status = CheckConfigured(address, *configured, targetIndex);
  } else if (options_.reportOnly) {
    if (IsNews(address.Text(), options_.lifetime)) {
      log::Warning("broker.outsideTargets", {{"broker", address.Text()}, {"advertisedAs", host}});
    }
  } else {
    status = options_.learn(address, targetIndex, options_.lifetime);
    if (status.ok() && IsNews(address.Text(), options_.lifetime)) {
      log::Info("broker.learned", {{"broker", address.Text()}, {"advertisedAs", host}});
    }
  }
  const std::string cluster = options_.clusterOf(targetIndex);
  if (!status.ok() && IsNews(StrCat("refused ", address.Text(), " ", cluster), kRefusalIsNews)) {
    log::Error("broker.refused",
               {{"broker", address.Text()}, {"advertisedAs", host}, {"cluster", cluster}, {"reason", status}});
  }
  return status;
}

std::vector<std::string> BrokerDirectory::NamesOf(const SocketAddress& address, std::string_view cluster) const {
  std::vector<std::string> names;
  const std::lock_guard lock(mutex_);
  const auto ofCluster = names_.find(ToAbsl(cluster));
  if (ofCluster == names_.end()) return names;
  const auto found = ofCluster->second.find(address.Text());
  if (found == ofCluster->second.end()) return names;
  for (const Name& name : found->second) {
    if (!isOld(name.advertisedAt)) names.push_back(name.text);
  }
  return names;
}

void BrokerDirectory::NoteName(const SocketAddress& address, std::string_view host, uint16_t targetIndex) {
  if (!options_.hasTls(targetIndex)) return;
  const std::string name = WithoutDot(host), cluster = options_.clusterOf(targetIndex);
  std::string other;
  {
    const std::lock_guard lock(mutex_);
    auto& ofCluster = names_[cluster];
    if (ofCluster.size() >= kMostKept) {
      absl::erase_if(ofCluster, [this](const auto& entry) { return isOld(entry.second.front().advertisedAt); });
      if (ofCluster.size() >= kMostKept) ofCluster.clear();
    }
    Names& names = ofCluster[address.Text()];
    std::erase_if(names, [&](const Name& known) { return known.text == name || isOld(known.advertisedAt); });
    if (!names.empty()) other = names.front().text;
    if (names.size() == kMostNamesOfAddress) names.pop_back();
    names.insert(names.begin(), Name{name, Clock::now()});
  }
  if (!other.empty() && IsNews(StrCat("names ", cluster, " ", address.Text()), options_.lifetime)) {
    log::Warning("broker.severalNames",
                 {{"broker", address.Text()}, {"cluster", cluster}, {"advertisedAs", name}, {"before", other}});
  }
}

void BrokerDirectory::ForgetNames(const SocketAddress& address, uint16_t targetIndex) {
  const std::string cluster = options_.clusterOf(targetIndex);
  const std::lock_guard lock(mutex_);
  const auto ofCluster = names_.find(cluster);
  if (ofCluster == names_.end()) return;
  const auto found = ofCluster->second.find(address.Text());
  if (found == ofCluster->second.end()) return;
  // Were one of them advertised again at once, it would be noted again.
  for (const Name& name : found->second) learnedAt_.erase(Endpoint(cluster, name.text, address.port()));
  ofCluster->second.erase(found);
}

bool BrokerDirectory::IsNews(const std::string& what, Clock::duration age) {
  const std::lock_guard lock(mutex_);
  MakeRoom(toldAt_);
  const Clock::time_point now = Clock::now();
  const auto [told, isNew] = toldAt_.try_emplace(what, now);
  const bool isNews = isNew || now - told->second >= age;
  if (isNews) told->second = now;
  return isNews;
}

// Name resolution blocks, so it has a thread of its own.
io::Task<absl::StatusOr<std::vector<SocketAddress>>> BrokerDirectory::Resolved(io::Loop& loop, std::string host) {
  using Addresses = absl::StatusOr<std::vector<SocketAddress>>;
  auto start = [&](absl::AnyInvocable<void(Addresses)> done) {
    // Shared, because a thread that does not start takes what was moved into it with it.
    const auto shared = std::make_shared<absl::AnyInvocable<void(Addresses)>>(std::move(done));
    try {
      std::thread([this, host, shared] { (*shared)(options_.resolve(host)); }).detach();
    } catch (const std::system_error& error) {
      (*shared)(absl::ResourceExhaustedError(StrCat("no thread to look a broker's name up: ", error.what())));
    }
  };
  auto waiting = io::AwaitCallback<Addresses>(loop, std::move(start));
  co_return co_await std::move(waiting);
}

io::Task<absl::Status> BrokerDirectory::Learn(io::Loop& loop, std::string_view host, int32_t port,
                                              uint16_t targetIndex) {
  // A broker without an address is one that the sender does not know either (port -1 or an empty host).
  if (host.empty() || port <= 0 || port > 65535) co_return absl::OkStatus();
  const absl::StatusOr<SocketAddress> numeric = SocketAddress::Parse(host, static_cast<uint16_t>(port));
  if (numeric.ok()) {
    ForgetNames(*numeric, targetIndex);
  } else if (!IsHostName(WithoutDot(host))) {
    co_return absl::InvalidArgumentError(StrCat("a broker is advertised as \"",
                                                absl::CEscape(ToAbsl(host.substr(0, 300))),
                                                "\", which is neither an address nor a host name"));
  }
  const std::string endpoint = Endpoint(options_.clusterOf(targetIndex), WithoutDot(host), port);
  if (LearnedWithin(endpoint, std::min<Clock::duration>(options_.lookAgain, options_.lifetime / 2))) {
    co_return absl::OkStatus();
  }
  std::vector<SocketAddress> addresses;
  if (numeric.ok()) {
    addresses.push_back(*numeric);
  } else {
    auto resolving = Resolved(loop, std::string(host));
    absl::StatusOr<std::vector<SocketAddress>> resolved = co_await std::move(resolving);
    if (!resolved.ok()) {
      // What was learned before is still in force; a name server that is away for a moment ends no connection.
      if (!options_.reportOnly && !LearnedWithin(endpoint, options_.lifetime)) co_return resolved.status();
      log::Warning("broker.unresolved", {{"advertisedAs", host}, {"reason", resolved.status()}});
      co_return absl::OkStatus();
    }
    addresses = *std::move(resolved);
  }
  absl::Status learned;
  for (SocketAddress& address : addresses) {
    address.setPort(static_cast<uint16_t>(port));
    const absl::Status status = LearnAddress(address, host, targetIndex);
    if (status.ok() && !numeric.ok()) NoteName(address, host, targetIndex);
    learned.Update(status);
  }
  if (learned.ok()) NoteLearned(endpoint);
  co_return learned;
}

}  // namespace kveil::guard
