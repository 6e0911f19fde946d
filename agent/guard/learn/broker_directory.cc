#include "guard/learn/broker_directory.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/host_name.h"
#include "base/log.h"
#include "base/text.h"
#include "io/completion.h"
#include "io/turn.h"

namespace kveil::guard {
namespace {

// What is kept at most of each kind for a cluster, and for how many names of one address: responses can be made up.
constexpr size_t kMostKept = 10'000;
constexpr size_t kMostNamesOfAddress = 16;
// Different brokers of one response, the others are left out: no cluster has as many.
constexpr size_t kMostBrokersOfAResponse = 1'000;

// How often the log says of the same broker that it is refused or left out, and how long `kveil status` does.
constexpr std::chrono::minutes kRefusalIsNews{1};

// A host name as certificates and greetings have it: without the dot that a name may end with, in small letters.
std::string WithoutDot(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  return absl::AsciiStrToLower(ToAbsl(host));
}

}  // namespace

// One broker of a response, however often that names it.
struct BrokerDirectory::Asked {
  std::string_view host;
  int32_t port = 0;
  std::string endpoint;      // what it is known by, with the view of the workload if it is a name
  bool needsLookup = false;  // once it has been judged
  bool isCovered = false;    // whatever it resolves to is a target
  bool mayBeHeard = true;
};

BrokerDirectory::OfCluster::OfCluster(Clock::duration lifetime)
    : learned(kMostKept, lifetime), names(kMostKept, lifetime) {}

BrokerDirectory::BrokerDirectory(Options options) : options_(std::move(options)), told_(kMostKept, options_.lifetime) {}

BrokerDirectory::OfCluster& BrokerDirectory::Of(const std::string& cluster) {
  std::unique_ptr<OfCluster>& of = clusters_[cluster];
  if (of == nullptr) of = std::make_unique<OfCluster>(options_.lifetime);
  return *of;
}

// What was learned of an endpoint no longer ago than that.
std::optional<BrokerDirectory::Addresses> BrokerDirectory::LearnedWithin(const std::string& cluster,
                                                                         const std::string& endpoint,
                                                                         Clock::duration age) {
  const MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  const Learned* const learned = Of(cluster).learned.Find(endpoint, now);
  if (learned == nullptr || now - learned->at >= age) return std::nullopt;
  return learned->addresses;
}

void BrokerDirectory::NoteLearned(const std::string& cluster, const std::string& endpoint, Addresses addresses) {
  const MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  Of(cluster).learned.Put(endpoint, Learned{now, std::move(addresses)}, now);
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
  const MutexLock lock(mutex_);
  const auto ofCluster = clusters_.find(ToAbsl(cluster));
  if (ofCluster == clusters_.end()) return names;
  const Names* const found = ofCluster->second->names.Find(address.Text(), Clock::now());
  if (found == nullptr) return names;
  for (const Name& name : *found) {
    if (!isOld(name.advertisedAt)) names.push_back(name.text);
  }
  return names;
}

void BrokerDirectory::NoteName(const SocketAddress& address, std::string_view host, uint16_t targetIndex) {
  if (!options_.hasTls(targetIndex)) return;
  const std::string name = WithoutDot(host), cluster = options_.clusterOf(targetIndex);
  std::string other;
  {
    const MutexLock lock(mutex_);
    const Clock::time_point now = Clock::now();
    OfCluster& of = Of(cluster);
    Names names;
    if (Names* const known = of.names.Find(address.Text(), now); known != nullptr) names = std::move(*known);
    std::erase_if(names, [&](const Name& known) { return known.text == name || isOld(known.advertisedAt); });
    if (!names.empty()) other = names.front().text;
    if (names.size() == kMostNamesOfAddress) names.pop_back();
    names.insert(names.begin(), Name{name, now});
    of.names.Put(address.Text(), std::move(names), now);
  }
  if (!other.empty() && IsNews(StrCat("names ", cluster, " ", address.Text()), options_.lifetime)) {
    log::Warning("broker.severalNames",
                 {{"broker", address.Text()}, {"cluster", cluster}, {"advertisedAs", name}, {"before", other}});
  }
}

void BrokerDirectory::ForgetNames(const SocketAddress& address, uint16_t targetIndex) {
  const MutexLock lock(mutex_);
  Of(options_.clusterOf(targetIndex)).names.Erase(address.Text());
}

bool BrokerDirectory::IsNews(const std::string& what, Clock::duration age) {
  const MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  const Clock::time_point* const told = told_.Find(what, now);
  if (told != nullptr && now - *told < age) return false;
  told_.Put(what, now, now);
  return true;
}

void BrokerDirectory::NoteLeftOut(std::string_view host, int32_t port, const std::string& cluster,
                                  const absl::Status& reason) {
  const std::string broker = StrCat(absl::CEscape(ToAbsl(host.substr(0, 300))), ":", port);
  {
    const MutexLock lock(mutex_);
    leftOutAt_ = Clock::now();
    leftOut_ = StrCat("broker ", broker, " of cluster ", cluster,
                      " is left out of what clients are told: ", ToStd(reason.message()));
  }
  if (IsNews(StrCat("left out ", cluster, " ", broker), kRefusalIsNews)) {
    log::Error("broker.leftOut", {{"advertisedAs", broker}, {"cluster", cluster}, {"reason", reason}});
  }
}

absl::Status BrokerDirectory::Health() const {
  const MutexLock lock(mutex_);
  const bool isNews = leftOutAt_.has_value() && Clock::now() - *leftOutAt_ < kRefusalIsNews;
  return isNews ? absl::UnavailableError(leftOut_) : absl::OkStatus();
}

io::Task<BrokerDirectory::Answers> BrokerDirectory::LookUp(io::Loop& loop, const proxy::ConnectionInfo& connection,
                                                           std::vector<std::string> names) {
  auto start = [&](absl::AnyInvocable<void(Answers)> done) {
    options_.lookUp(connection, std::move(names), std::move(done));
  };
  auto waiting = io::AwaitCallback<Answers>(loop, std::move(start));
  co_return co_await std::move(waiting);
}

absl::Status BrokerDirectory::LearnNumeric(Asked& asked, SocketAddress address, uint16_t targetIndex) {
  ForgetNames(address, targetIndex);
  const std::string cluster = options_.clusterOf(targetIndex);
  const auto again = std::min<Clock::duration>(options_.lookAgain, options_.lifetime / 2);
  if (LearnedWithin(cluster, asked.endpoint, again).has_value()) return absl::OkStatus();
  absl::Status learned = LearnAddress(address, asked.host, targetIndex);
  if (learned.ok()) NoteLearned(cluster, asked.endpoint, {});
  return learned;
}

// What can be said without looking anything up.
std::optional<absl::Status> BrokerDirectory::Judge(Asked& asked, const proxy::ConnectionInfo& connection,
                                                   Covered& covered) {
  // A broker without an address is one that the sender does not know either (port -1 or an empty host).
  if (asked.host.empty() || asked.port <= 0 || asked.port > 65535) return absl::OkStatus();
  const auto port = static_cast<uint16_t>(asked.port);
  const uint16_t target = connection.origin.targetIndex;
  asked.endpoint = StrCat(WithoutDot(asked.host), " ", asked.port);
  const absl::StatusOr<SocketAddress> numeric = SocketAddress::Parse(asked.host, port);
  if (numeric.ok()) return LearnNumeric(asked, *numeric, target);
  if (!IsHostName(WithoutDot(asked.host))) {
    return absl::InvalidArgumentError("what it is advertised as is neither an address nor a host name");
  }
  const auto [answer, isNew] = covered.try_emplace(port, false);
  if (isNew) answer->second = options_.coversAll(port, target);
  asked.isCovered = answer->second;
  // Certificates are compared with names, for which the addresses have to be known.
  if (asked.isCovered && !options_.hasTls(target)) return absl::OkStatus();
  asked.endpoint += StrCat(" ", options_.viewOf(connection));
  const auto again = std::min<Clock::duration>(options_.lookAgain, options_.lifetime / 2);
  const std::optional<Addresses> learned = LearnedWithin(options_.clusterOf(target), asked.endpoint, again);
  if (!learned.has_value()) return std::nullopt;
  for (const SocketAddress& address : *learned) NoteName(address, asked.host, target);
  return absl::OkStatus();
}

absl::Status BrokerDirectory::LearnNamed(Asked& asked, absl::StatusOr<Addresses> resolved, uint16_t targetIndex) {
  const std::string cluster = options_.clusterOf(targetIndex);
  if (!resolved.ok()) {
    // What was learned before is still in force; a name server that is away for a moment costs nobody anything.
    const bool isHarmless =
        asked.isCovered || options_.reportOnly || LearnedWithin(cluster, asked.endpoint, options_.lifetime).has_value();
    if (!isHarmless) return resolved.status();
    if (IsNews(StrCat("unresolved ", cluster, " ", asked.host), kRefusalIsNews)) {
      log::Warning("broker.unresolved", {{"advertisedAs", asked.host}, {"reason", resolved.status()}});
    }
    return absl::OkStatus();
  }
  absl::Status learned;
  for (SocketAddress& address : *resolved) {
    address.setPort(static_cast<uint16_t>(asked.port));
    const absl::Status status = LearnAddress(address, asked.host, targetIndex);
    if (status.ok()) NoteName(address, asked.host, targetIndex);
    learned.Update(status);
  }
  if (learned.ok()) NoteLearned(cluster, asked.endpoint, *std::move(resolved));
  return learned;
}

io::Task<std::vector<bool>> BrokerDirectory::Learn(io::Loop& loop, const proxy::ConnectionInfo& connection,
                                                   std::vector<Advertised> brokers) {
  constexpr uint32_t kTooMany = kMostBrokersOfAResponse;
  std::vector<Asked> asked;        // each broker once
  std::vector<uint32_t> indexes;   // of each broker among them, or kTooMany
  std::vector<std::string> names;  // to be looked up, each once
  absl::flat_hash_map<std::pair<std::string_view, int32_t>, uint32_t> known;
  absl::flat_hash_map<std::string_view, size_t> nameIndexes;
  Covered covered;
  io::Turn turn(loop);
  const auto refuse = [&](Asked& one, const absl::Status& reason) {
    one.mayBeHeard = false;
    NoteLeftOut(one.host, one.port, options_.clusterOf(connection.origin.targetIndex), reason);
  };
  std::optional<Advertised> firstTooMany;
  for (const Advertised& broker : brokers) {
    co_await turn.Pause();
    const std::pair key(broker.host, broker.port);
    if (const auto found = known.find(key); found != known.end()) {
      indexes.push_back(found->second);
      continue;
    }
    if (known.size() == kMostBrokersOfAResponse) {
      indexes.push_back(kTooMany);
      if (!firstTooMany.has_value()) firstTooMany = broker;
      continue;
    }
    known[key] = static_cast<uint32_t>(asked.size());
    indexes.push_back(known[key]);
    Asked& one = asked.emplace_back();
    one.host = broker.host;
    one.port = broker.port;
    const std::optional<absl::Status> judged = Judge(one, connection, covered);
    if (judged.has_value() && !judged->ok()) refuse(one, *judged);
    if (judged.has_value()) continue;
    one.needsLookup = true;
    if (nameIndexes.try_emplace(one.host, names.size()).second) names.emplace_back(one.host);
  }
  if (!names.empty()) {
    auto lookingUp = LookUp(loop, connection, std::move(names));
    const Answers answers = co_await std::move(lookingUp);
    for (Asked& one : asked) {
      co_await turn.Pause();
      if (!one.needsLookup) continue;
      const absl::Status learned = LearnNamed(one, answers[nameIndexes[one.host]], connection.origin.targetIndex);
      if (!learned.ok()) refuse(one, learned);
    }
  }
  if (firstTooMany.has_value()) {
    NoteLeftOut(firstTooMany->host, firstTooMany->port, options_.clusterOf(connection.origin.targetIndex),
                absl::ResourceExhaustedError(StrCat("one response names more than ", kMostBrokersOfAResponse,
                                                    " brokers; so are those after it")));
  }
  std::vector<bool> mayBeHeard;
  mayBeHeard.reserve(indexes.size());
  for (const uint32_t index : indexes) mayBeHeard.push_back(index < asked.size() && asked[index].mayBeHeard);
  co_return mayBeHeard;
}

}  // namespace kveil::guard
