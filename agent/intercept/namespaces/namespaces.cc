// The thread that handles refused connects, processes that end, releases and the timer.
#include "intercept/namespaces/namespaces.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "intercept/namespaces/namespace_table.h"
#include "intercept/namespaces/refusal_notes.h"

namespace kveil::intercept {
namespace {

// What an epoll event is about: one of these, or the cookie of the namespace whose witness has ended. Cookies count up
// from 1.
enum Source : uint64_t { kRefusedConnects = UINT64_MAX - 2, kWake, kTimer };

// Then everything else has its turn.
constexpr size_t kMostEventsAtOnce = 64;

absl::Status BindAsApplication(int fd, const identity::Origin& origin) {
  const auto fail = [](std::string_view to) {
    return absl::UnavailableError(
        StrCat("cannot bind the socket to the broker to the application's ", to, ": ", std::strerror(errno)));
  };
  const int device = static_cast<int>(origin.boundDevice);
  if (device != 0 && ::setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device)) < 0) return fail("device");
  // A socket that was not bound has an address of loopback towards the agent.
  if (origin.source.IsLoopback() || origin.source.family() != origin.destination.family()) return absl::OkStatus();
  SocketAddress source = origin.source;
  source.setPort(0);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
  return ::bind(fd, source.get(), source.size()) < 0 ? fail("address") : absl::OkStatus();
}

}  // namespace

struct Namespaces::State {
  State(Redirect& redirect, std::unique_ptr<SocketMaker> sockets, CgroupTree cgroups, Callbacks callbacks,
        DescriptorStore* store)
      : redirect(redirect),
        sockets(std::move(sockets)),
        table(
            redirect, *this->sockets, std::move(cgroups), std::move(callbacks),
            [this](uint64_t cookie, int pidFd) { Wait(pidFd, cookie); }, store) {}

  absl::Status Prepare(const Options& options);
  void Wait(int fd, uint64_t about) const;
  void Run(std::promise<absl::Status> started);
  void Handle(uint64_t about);
  std::vector<uint64_t> TakeReleased();
  void Wake() const;

  Redirect& redirect;
  const std::unique_ptr<SocketMaker> sockets;
  UniqueFd epoll, wake, timer;
  NamespaceTable table;
  RefusalNotes refusals;
  Mutex mutex;
  std::vector<uint64_t> released ABSL_GUARDED_BY(mutex);
  bool stop ABSL_GUARDED_BY(mutex) = false;
  std::atomic<bool> hasAnswered{true};
  std::chrono::steady_clock::time_point askedAt;  // CheckThread's
  std::thread thread;
};

absl::Status Namespaces::State::Prepare(const Options& options) {
  epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  wake = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  timer = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  const auto nanoseconds = std::chrono::nanoseconds(options.reconcileInterval).count();
  const timespec interval = {.tv_sec = nanoseconds / 1'000'000'000, .tv_nsec = nanoseconds % 1'000'000'000};
  const itimerspec every = {.it_interval = interval, .it_value = interval};
  if (!epoll.valid() || !wake.valid() || !timer.valid() || ::timerfd_settime(timer.get(), 0, &every, nullptr) < 0) {
    return absl::ResourceExhaustedError(StrCat("cannot wait for namespaces: ", std::strerror(errno)));
  }
  Wait(redirect.eventFd(), kRefusedConnects);
  Wait(wake.get(), kWake);
  Wait(timer.get(), kTimer);
  return absl::OkStatus();
}

void Namespaces::State::Wait(int fd, uint64_t about) const {
  epoll_event event = {.events = EPOLLIN, .data = {.u64 = about}};
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
}

void Namespaces::State::Run(std::promise<absl::Status> started) {
  const absl::Status own = table.AddOwn();
  if (own.ok()) {
    table.Scan();
    table.ForgetOthers();
  }
  started.set_value(own);
  if (!own.ok()) return;
  for (;;) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll.get(), events.data(), events.size(), table.MillisecondsToWait());
    for (int i = 0; i < count; ++i) Handle(events[i].data.u64);
    table.ScanIfDue();
    table.RetryHeld();
    hasAnswered = true;
    const MutexLock lock(mutex);
    if (stop) return;
  }
}

void Namespaces::State::Handle(uint64_t about) {
  uint64_t value;
  switch (about) {
    case kRefusedConnects:
      redirect.ReadEvents(
          [this](const RefusedConnect& refused) {
            refusals.Note(refused, std::chrono::steady_clock::now());
            table.OnRefused(refused);
          },
          kMostEventsAtOnce);
      break;
    case kWake:
      (void)!::read(wake.get(), &value, sizeof(value));
      for (const uint64_t cookie : TakeReleased()) table.OnReleased(cookie);
      break;
    case kTimer:
      (void)!::read(timer.get(), &value, sizeof(value));
      table.WantScan();
      table.RefreshAddresses();
      break;
    default:
      table.OnWitnessEnded(about);
  }
}

std::vector<uint64_t> Namespaces::State::TakeReleased() {
  const MutexLock lock(mutex);
  return std::exchange(released, {});
}

void Namespaces::State::Wake() const {
  const uint64_t one = 1;
  (void)!::write(wake.get(), &one, sizeof(one));
}

Namespaces::Namespaces(std::unique_ptr<State> state) : state_(std::move(state)) {}
Namespaces::~Namespaces() { Stop(); }

absl::StatusOr<std::unique_ptr<Namespaces>> Namespaces::Start(Redirect& redirect, Callbacks callbacks) {
  return Start(redirect, std::move(callbacks), Options());
}

absl::StatusOr<std::unique_ptr<Namespaces>> Namespaces::Start(Redirect& redirect, Callbacks callbacks,
                                                              Options options) {
  absl::StatusOr<CgroupTree> cgroups = CgroupTree::Open(redirect.config().cgroup);
  if (!cgroups.ok()) return cgroups.status();
  absl::StatusOr<std::unique_ptr<SocketMaker>> sockets = SocketMaker::Start();
  if (!sockets.ok()) return sockets.status();
  auto state =
      std::make_unique<State>(redirect, *std::move(sockets), *std::move(cgroups), std::move(callbacks), options.store);
  absl::Status status = state->Prepare(options);
  if (!status.ok()) return status;
  std::promise<absl::Status> promise;
  std::future<absl::Status> started = promise.get_future();
  State& running = *state;
  state->thread = std::thread([&running, promise = std::move(promise)]() mutable { running.Run(std::move(promise)); });
  std::unique_ptr<Namespaces> namespaces(new Namespaces(std::move(state)));
  status = started.get();
  if (!status.ok()) {
    return absl::Status(status.code(), StrCat("the agent's own network namespace: ", ToStd(status.message())));
  }
  return namespaces;
}

void Namespaces::Stop() {
  if (!state_->thread.joinable()) return;
  {
    const MutexLock lock(state_->mutex);
    state_->stop = true;
  }
  state_->Wake();
  state_->thread.join();
}

absl::Status Namespaces::CheckThread(std::chrono::milliseconds limit) {
  {
    const MutexLock lock(state_->mutex);
    if (state_->stop) return absl::OkStatus();
  }
  const auto now = std::chrono::steady_clock::now();
  if (state_->hasAnswered.exchange(false)) {
    state_->askedAt = now;
    state_->Wake();
    return absl::OkStatus();
  }
  const auto silent = now - state_->askedAt;
  if (silent <= limit) return absl::OkStatus();
  return absl::UnavailableError(StrCat("the thread that serves network namespaces has not gone on for ",
                                       std::chrono::duration_cast<std::chrono::seconds>(silent).count(), " s"));
}

absl::StatusOr<UniqueFd> Namespaces::SocketIn(uint64_t netnsCookie, int family, int type, int protocol) {
  const std::shared_ptr<const UniqueFd> fd = state_->table.Find(netnsCookie);
  if (!fd) return absl::NotFoundError(StrCat("network namespace ", netnsCookie, " is not served"));
  absl::StatusOr<UniqueFd> socket = state_->sockets->Make(fd->get(), family, type | SOCK_NONBLOCK, protocol);
  if (!socket.ok()) return socket;
  const absl::Status tagged = state_->redirect.TagAsOwn(socket->get());
  if (!tagged.ok()) return tagged;
  return socket;
}

absl::StatusOr<UniqueFd> Namespaces::UpstreamSocket(const identity::Origin& origin) {
  absl::StatusOr<UniqueFd> socket = SocketIn(origin.netnsCookie, origin.destination.family(), SOCK_STREAM, IPPROTO_TCP);
  if (!socket.ok()) return socket;
  const absl::Status bound = BindAsApplication(socket->get(), origin);
  if (!bound.ok()) return bound;
  return socket;
}

void Namespaces::Released(uint64_t netnsCookie) {
  {
    const MutexLock lock(state_->mutex);
    state_->released.push_back(netnsCookie);
  }
  state_->Wake();
}

std::vector<Namespaces::NamespaceStatus> Namespaces::Status() const { return state_->table.Status(); }
std::optional<Namespaces::NamespaceStatus> Namespaces::StatusOf(uint64_t netnsCookie) const {
  return state_->table.StatusOf(netnsCookie);
}
absl::Status Namespaces::Health() const { return state_->table.Health(); }
absl::Status Namespaces::WorkloadsNotServed() const { return state_->table.WorkloadsNotServed(); }
absl::Status Namespaces::SharesHealth() const {
  absl::Status status = state_->table.CrowdHealth();
  status.Update(state_->refusals.Health(std::chrono::steady_clock::now()));
  return status;
}
absl::Status Namespaces::Unserved() const { return state_->table.Unserved(); }
absl::Status Namespaces::SeesAllProcesses() const { return state_->table.SeesAllProcesses(); }
absl::Status Namespaces::NotReset() const { return state_->table.NotReset(); }

}  // namespace kveil::intercept
