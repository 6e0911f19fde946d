// The smallest proxy: threads and poll.
#include "support/test_agent.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "base/text.h"

namespace kveil::nettest {
namespace {

constexpr int kPollMilliseconds = 50;

bool ConnectTo(int fd, const SocketAddress& destination) {
  if (::connect(fd, destination.get(), destination.size()) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd wait = {.fd = fd, .events = POLLOUT, .revents = 0};
  int error = ETIMEDOUT;
  socklen_t size = sizeof(error);
  return ::poll(&wait, 1, static_cast<int>(Slowed(std::chrono::seconds(5)).count())) == 1 &&
         ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

// Moves what is there; false at the end of the stream or an error.
bool Move(int from, int to) {
  char buffer[16384];
  const ssize_t size = ::recv(from, buffer, sizeof(buffer), MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN;
  for (ssize_t sent = 0; sent < size;) {
    const ssize_t now = ::send(to, buffer + sent, static_cast<size_t>(size - sent), MSG_NOSIGNAL);
    if (now < 0 && errno != EAGAIN) return false;
    if (now > 0) sent += now;
  }
  return size > 0;
}

bool IsFree(uint16_t port) {
  for (const char* address : {"127.0.0.1", "::1"}) {
    const SocketAddress own = Address(address, port);
    const UniqueFd fd(::socket(own.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(fd.get(), own.get(), own.size()) < 0 || ::listen(fd.get(), 1) < 0) return false;
  }
  return true;
}

// Not the default: another test's or a real agent may listen in the node's own namespace. Below the ports that the
// kernel hands out.
uint16_t FreePort() {
  constexpr int kFirst = 20000, kCount = 10000;
  for (int i = 0; i < kCount; ++i) {
    const auto port = static_cast<uint16_t>(kFirst + (::getpid() * 7 + i) % kCount);
    if (IsFree(port)) return port;
  }
  Require(false, "a free port");
  return 0;
}

}  // namespace

config::Target MakeTarget(const std::string& network, uint8_t prefixLength, uint16_t first, uint16_t last,
                          const std::string& cluster) {
  return {.cluster = cluster,
          .network = Address(network, 0),
          .prefixLength = prefixLength,
          .ports = {config::PortRange{.first = first, .last = last}}};
}

std::string UniquePinDirectory() {
  static std::atomic<int> count{0};
  return StrCat("/sys/fs/bpf/kveil-net-test-", ::getpid(), "-", ++count);
}

config::InterceptConfig MakeConfig(const Cgroup& cgroup) {
  config::InterceptConfig config;
  config.cgroup = cgroup.path();
  config.targets = {MakeTarget("192.0.2.0", 24, 9092, 9094), MakeTarget("2001:db8:77::", 64, 9092, 9094, "six")};
  config.listenPort = FreePort();
  config.pinDirectory = UniquePinDirectory();
  return config;
}

TestAgent::TestAgent(const config::InterceptConfig& config, const intercept::RedirectOptions& options,
                     intercept::Namespaces::Options namespacesOptions) {
  intercept::RedirectOptions patient = options;
  patient.holdTime = Slowed(options.holdTime);
  patient.longestWait = Slowed(options.longestWait);
  auto redirect = intercept::Redirect::Start(config, patient);
  Require(redirect.ok(), std::string(ToStd(redirect.status().ToString())));
  redirect_ = *std::move(redirect);
  intercept::Namespaces::Callbacks callbacks;
  callbacks.serve = [this](uint64_t cookie, std::vector<UniqueFd> listeners) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Served>& served = served_[cookie];
    if (!served) served = std::make_unique<Served>();
    for (UniqueFd& listener : listeners) {
      served->listeners.push_back(std::move(listener));
      served->threads.emplace_back(
          [this, &owner = *served, fd = served->listeners.back().get()] { Accept(owner, fd); });
    }
  };
  callbacks.release = [this](uint64_t cookie) {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<Served> served = std::move(served_.extract(cookie).mapped());
    closing_.emplace_back([this, cookie, served] {
      Close(*served);
      ++released_;
      namespaces_->Released(cookie);
    });
  };
  auto namespaces = intercept::Namespaces::Start(*redirect_, callbacks, namespacesOptions);
  Require(namespaces.ok(), std::string(ToStd(namespaces.status().ToString())));
  namespaces_ = *std::move(namespaces);
}

TestAgent::~TestAgent() {
  namespaces_->Stop();
  for (std::thread& thread : closing_) thread.join();
  for (auto& [cookie, served] : served_) Close(*served);
}

void TestAgent::Close(Served& served) {
  served.stop = true;
  for (std::thread& thread : served.threads) thread.join();
  for (std::thread& thread : served.connections) thread.join();
  served.listeners.clear();
}

void TestAgent::Accept(Served& served, int listener) {
  while (!served.stop) {
    pollfd wait = {.fd = listener, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, kPollMilliseconds) <= 0) continue;
    UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) continue;
    const std::lock_guard lock(served.mutex);
    served.connections.emplace_back(
        [this, &served, client = std::move(client)]() mutable { Relay(served, std::move(client)); });
  }
}

void TestAgent::Relay(Served& served, UniqueFd client) {
  const absl::StatusOr<identity::Origin> origin = redirect_->OriginOf(client.get());
  if (!origin.ok()) {
    if (absl::IsNotFound(origin.status())) ++strangers_;
    return;
  }
  if (origin->isProbe) return;
  {
    const std::lock_guard lock(mutex_);
    origins_.push_back(*origin);
  }
  // Found late: the namespace may be served before Start has returned.
  Require(Eventually([this] { return namespaces_ != nullptr; }), "namespaces");
  absl::StatusOr<UniqueFd> upstream = namespaces_->UpstreamSocket(*origin);
  if (!upstream.ok() || !ConnectTo(upstream->get(), origin->destination)) return;
  ++open_;
  bool clientOpen = true, upstreamOpen = true;
  while (!served.stop && (clientOpen || upstreamOpen)) {
    pollfd waits[2] = {{.fd = clientOpen ? client.get() : -1, .events = POLLIN, .revents = 0},
                       {.fd = upstreamOpen ? upstream->get() : -1, .events = POLLIN, .revents = 0}};
    if (::poll(waits, 2, kPollMilliseconds) <= 0) continue;
    if (waits[0].revents && !Move(client.get(), upstream->get())) {
      clientOpen = false;
      ::shutdown(upstream->get(), SHUT_WR);
    }
    if (waits[1].revents && !Move(upstream->get(), client.get())) {
      upstreamOpen = false;
      ::shutdown(client.get(), SHUT_WR);
    }
  }
  --open_;
}

std::vector<identity::Origin> TestAgent::Origins() const {
  const std::lock_guard lock(mutex_);
  return origins_;
}

identity::Origin TestAgent::LastOrigin() const {
  const std::lock_guard lock(mutex_);
  return origins_.empty() ? identity::Origin{} : origins_.back();
}

bool TestAgent::IsServed(uint64_t cookie) const {
  const std::lock_guard lock(mutex_);
  return served_.contains(cookie);
}

}  // namespace kveil::nettest
