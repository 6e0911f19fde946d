// One server after the other, one address after the other.
#include "keys/registry/postgres_connector.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <condition_variable>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_join.h"
#include "base/mutex.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;

// How long one address may take in the first round; twice as long in each further one. connect_timeout overrides it.
constexpr milliseconds kFirstPatience{1000};
constexpr milliseconds kMostPatience{8000};
// Between rounds.
constexpr milliseconds kFirstPause{100};
constexpr milliseconds kMostPause{2000};
// A call with as much time for each server shares it among them, so that the last one is reached within it.
constexpr milliseconds kLeastShare{250};

// What a parameter is when the connection string does not say. A connection on which the other end is gone is noticed
// within seconds.
constexpr std::pair<const char*, const char*> kDefaults[] = {
    {"application_name", "kveil"}, {"gssencmode", "disable"}, {"keepalives_idle", "5"},
    {"keepalives_interval", "2"},  {"keepalives_count", "3"}, {"tcp_user_timeout", "10000"},
};

bool IsAddress(const std::string& host) {
  in6_addr address;
  return inet_pton(AF_INET, host.c_str(), &address) == 1 || inet_pton(AF_INET6, host.c_str(), &address) == 1;
}

bool IsFolder(const std::string& host) { return host.starts_with('/') || host.starts_with('@'); }

const std::string* Find(const std::vector<PostgresConnection::Parameter>& parameters, std::string_view keyword) {
  for (const auto& [name, value] : parameters) {
    if (name == keyword) return &value;
  }
  return nullptr;
}

std::string NameOf(const PostgresOptions& options) {
  std::vector<std::string> servers;
  for (const PostgresOptions::Server& server : options.servers)
    servers.push_back(StrCat(server.host, ":", server.port));
  const std::string* database = Find(options.parameters, "dbname");
  return StrCat("registry postgresql://", absl::StrJoin(servers, ","), "/", database == nullptr ? "" : *database);
}

}  // namespace

// getaddrinfo blocks for as long as the name servers let it. So a thread of its own waits for it, which may outlive the
// connector.
class PostgresConnector::Lookup {
 public:
  using Addresses = absl::StatusOr<std::vector<std::string>>;

  static std::shared_ptr<Lookup> Start(const std::string& host) {
    auto lookup = std::make_shared<Lookup>();
    std::thread([lookup, host] { lookup->Set(Resolve(host)); }).detach();
    return lookup;
  }

  // nullopt: the deadline came first.
  std::optional<Addresses> Wait(Deadline deadline) {
    const MutexLock lock(mutex_);
    while (!addresses_.has_value()) {
      if (wake_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
    }
    return addresses_;
  }

 private:
  void Set(Addresses addresses) {
    {
      const MutexLock lock(mutex_);
      addresses_ = std::move(addresses);
    }
    wake_.notify_one();
  }

  static Addresses Resolve(const std::string& host) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    const int error = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    if (error != 0) return absl::UnavailableError(gai_strerror(error));
    std::vector<std::string> addresses;
    for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
      char text[NI_MAXHOST];
      if (getnameinfo(each->ai_addr, each->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0) {
        addresses.emplace_back(text);
      }
    }
    freeaddrinfo(list);
    return addresses;
  }

  Mutex mutex_;
  std::condition_variable_any wake_;
  std::optional<Addresses> addresses_ ABSL_GUARDED_BY(mutex_);
};

PostgresConnector::PostgresConnector(PostgresOptions options) : options_(std::move(options)), name_(NameOf(options_)) {}

absl::StatusOr<std::unique_ptr<PostgresConnection>> PostgresConnector::Connect(Deadline deadline) {
  if (std::chrono::steady_clock::now() < notBefore_) return lastRound_;
  while (server_ < options_.servers.size()) {
    if (attempt_ == nullptr && addresses_.empty()) {
      absl::StatusOr<std::optional<std::vector<std::string>>> addresses = Addresses(deadline);
      if (addresses.ok() && !addresses->has_value()) {
        return absl::UnavailableError(StrCat(name_, " cannot be reached: the name ", options_.servers[server_].host,
                                             " is still being looked up"));
      }
      if (!addresses.ok()) {
        NoteFailure(addresses.status());
        continue;
      }
      addresses_ = **std::move(addresses);
    }
    if (attempt_ == nullptr) Begin(addresses_.front(), deadline);
    absl::StatusOr<bool> connected = attempt_->Connect(std::min(deadline, attemptEnd_));
    if (connected.ok() && *connected) {
      addresses_.clear();
      server_ = 0;
      errors_.clear();
      return std::move(attempt_);
    }
    if (connected.ok() && std::chrono::steady_clock::now() < attemptEnd_) {
      return absl::UnavailableError(
          StrCat(name_, " cannot be reached: ", options_.servers[server_].host, " has not answered yet"));
    }
    NoteFailure(connected.ok() ? absl::UnavailableError(StrCat(options_.servers[server_].host, " does not answer"))
                               : connected.status());
  }
  return EndRound();
}

absl::StatusOr<std::optional<std::vector<std::string>>> PostgresConnector::Addresses(Deadline deadline) {
  const PostgresOptions::Server& server = options_.servers[server_];
  if (!server.address.empty()) return std::vector<std::string>{server.address};
  if (IsFolder(server.host) || IsAddress(server.host)) return std::vector<std::string>{""};
  if (lookup_ == nullptr) lookup_ = Lookup::Start(server.host);
  std::optional<Lookup::Addresses> found = lookup_->Wait(deadline);
  if (!found.has_value()) return std::nullopt;
  lookup_.reset();
  if (found->ok() && !(*found)->empty()) return **std::move(found);
  return absl::UnavailableError(StrCat("the name ", server.host, " cannot be resolved: ",
                                       ToStd(found->ok() ? "no address" : found->status().message())));
}

void PostgresConnector::Begin(const std::string& address, Deadline deadline) {
  const PostgresOptions::Server& server = options_.servers[server_];
  std::vector<PostgresConnection::Parameter> parameters = options_.parameters;
  parameters.emplace_back("host", server.host);
  if (!address.empty()) parameters.emplace_back("hostaddr", address);
  parameters.emplace_back("port", server.port);
  parameters.emplace_back("target_session_attrs", "read-write");
  parameters.emplace_back("client_encoding", "UTF8");
  for (const auto& [keyword, value] : kDefaults) {
    if (Find(parameters, keyword) == nullptr) parameters.emplace_back(keyword, value);
  }
  const Deadline now = std::chrono::steady_clock::now();
  Deadline::duration patience = std::min(kFirstPatience * (1 << std::min(failedRounds_, 3)), kMostPatience);
  if (const std::string* given = Find(parameters, "connect_timeout")) {
    patience = std::chrono::seconds(std::max(1, atoi(given->c_str())));
  }
  const Deadline::duration share = (deadline - now) / (options_.servers.size() - server_ + addresses_.size() - 1);
  if (share >= kLeastShare) patience = std::min(patience, share);
  attemptEnd_ = now + patience;
  attempt_ = PostgresConnection::Start(name_, parameters);
}

// The next address of the server, or the next server.
void PostgresConnector::NoteFailure(const absl::Status& error) {
  errors_.emplace_back(ToStd(error.message()));
  if (errors_.back().find("no password supplied") != std::string::npos) {
    // libpq says nothing of a file that it passed over.
    errors_.back() += " (passfile must be of mode 0600, with a line that fits host, port, database and user)";
  }
  attempt_.reset();
  if (!addresses_.empty()) addresses_.erase(addresses_.begin());
  if (addresses_.empty()) ++server_;
}

absl::Status PostgresConnector::EndRound() {
  server_ = 0;
  // Each error of a connection begins with the name.
  for (std::string& error : errors_) {
    for (const std::string& prefix : {StrCat(name_, " cannot be reached: "), name_ + " "}) {
      if (error.starts_with(prefix)) error.erase(0, prefix.size());
    }
  }
  lastRound_ =
      absl::UnavailableError(StrCat(name_, " cannot be reached: ", absl::StrJoin(std::exchange(errors_, {}), "; ")));
  const milliseconds pause = std::min(kFirstPause * (1 << std::min(failedRounds_, 5)), kMostPause);
  const milliseconds drawn(std::uniform_int_distribution<int64_t>(pause.count() / 2, pause.count())(random_));
  notBefore_ = std::chrono::steady_clock::now() + drawn;
  ++failedRounds_;
  return lastRound_;
}

}  // namespace kveil::keys
