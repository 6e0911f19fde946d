// Cgroups, namespaces, workload processes, the echo broker.
#include "support/node.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/text.h"

namespace kveil::nettest {
namespace {

std::string CgroupMount() {
  std::ifstream mounts("/proc/self/mounts");
  std::string line;
  while (std::getline(mounts, line)) {
    std::istringstream fields(line);
    std::string device, path, type;
    fields >> device >> path >> type;
    if (type == "cgroup2") return path;
  }
  Require(false, "a cgroup v2 mount is needed");
  return "";
}

// Process ids come again, and what a killed test left behind with them: so the time, too.
std::string UniqueName() {
  static std::atomic<int> count{0};
  static const int64_t start = std::chrono::system_clock::now().time_since_epoch().count();
  return StrCat("kveil-net-test-", ::getpid(), "-", start, "-", ++count);
}

void RemoveTree(const std::string& path) {
  if (DIR* directory = ::opendir(path.c_str())) {
    while (const dirent* entry = ::readdir(directory)) {
      const std::string name = entry->d_name;
      if (entry->d_type == DT_DIR && name != "." && name != "..") RemoveTree(path + "/" + name);
    }
    ::closedir(directory);
  }
  // A process that was killed stays in its cgroup for a moment.
  Eventually([&] { return ::rmdir(path.c_str()) == 0 || errno != EBUSY; }, std::chrono::seconds(5));
}

// A child process has copies of all our descriptors, and a copy of a socket or of a namespace's file would keep alive
// what a test wants to see end. Leaves standard streams and `keep`, which becomes kKept.
constexpr int kKept = 3;
void CloseInherited(int keep) {
  Require(::dup2(keep, kKept) == kKept && ::close_range(kKept + 1, ~0u, 0) == 0, "closing descriptors");
}

UniqueFd Listen(UniqueFd fd, const SocketAddress& address) {
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  Require(::bind(fd.get(), address.get(), address.size()) == 0 && ::listen(fd.get(), 1024) == 0,
          "listening on " + address.Text());
  return fd;
}

void BringLoopbackUp() {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM, 0));
  ifreq request = {};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  Require(::ioctl(fd.get(), SIOCSIFFLAGS, &request) == 0, "lo up");
}

}  // namespace

void Require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: cannot set the test up: %s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(1);
}

double Slowdown() {
  const char* const slowdown = std::getenv("KVEIL_TEST_SLOWDOWN");
  return slowdown == nullptr ? 1 : std::atof(slowdown);
}

bool Eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + Slowed(limit);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

void Shell(const std::string& command) { Require(std::system(command.c_str()) == 0, command); }

Cgroup::Cgroup() : path_(CgroupMount() + "/" + UniqueName()) { Require(::mkdir(path_.c_str(), 0755) == 0, path_); }

Cgroup::Cgroup(const Cgroup& parent, const std::string& name) : path_(parent.path() + "/" + name) {
  Require(::mkdir(path_.c_str(), 0755) == 0, path_);
}

Cgroup::~Cgroup() { RemoveTree(path_); }

uint64_t Cgroup::id() const {
  struct stat info = {};
  Require(::stat(path_.c_str(), &info) == 0, path_);
  return info.st_ino;
}

Netns::Netns() {
  int ready[2];
  Require(::pipe2(ready, O_CLOEXEC) == 0, "pipe");
  holder_ = ::fork();
  Require(holder_ >= 0, "fork");
  if (holder_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    CloseInherited(ready[1]);
    Require(::unshare(CLONE_NEWNET) == 0, "unshare");
    BringLoopbackUp();
    (void)!::write(kKept, "r", 1);
    for (;;) ::pause();
  }
  ::close(ready[1]);
  char byte;
  Require(::read(ready[0], &byte, 1) == 1, "a namespace");
  ::close(ready[0]);
  fd_ = UniqueFd(::open(intercept::NamespaceFile(holder_).c_str(), O_RDONLY | O_CLOEXEC));
  Require(fd_.valid(), "the namespace's file");
  cookie_ = intercept::NamespaceCookie(Socket(AF_UNIX, SOCK_DGRAM).get()).value_or(0);
}

Netns::~Netns() {
  ::kill(holder_, SIGKILL);
  ::waitpid(holder_, nullptr, 0);
}

UniqueFd Netns::Socket(int family, int type, int protocol) const {
  UniqueFd fd;
  std::thread([&] {
    if (::setns(fd_.get(), CLONE_NEWNET) == 0) fd = UniqueFd(::socket(family, type | SOCK_CLOEXEC, protocol));
  }).join();
  Require(fd.valid(), "a socket in a namespace");
  return fd;
}

void Netns::Ip(const std::string& arguments) const {
  Shell(StrCat("nsenter --net=/proc/", holder_, "/ns/net ip ", arguments));
}

void BringUp(const Netns& netns, int host) {
  // At once: three programs for each command take most of a test's time where all is emulated.
  Shell(StrCat("printf 'addr add 192.0.2.", host, "/24 dev eth0\\naddr add 2001:db8:77::", host,
               "/64 dev eth0 nodad\\nlink set eth0 up\\n' | nsenter --net=/proc/", netns.holder(),
               "/ns/net ip -batch -"));
}

void Connect(const Netns& a, const Netns& b) {
  Shell(StrCat("ip link add eth0 netns ", a.holder(), " type veth peer name eth0 netns ", b.holder()));
  BringUp(a, 1);
  BringUp(b, 2);
}

Workload::Workload(const Cgroup& cgroup, const Netns* netns, const std::function<std::string()>& body, uint32_t uid) {
  int result[2];
  Require(::pipe2(result, O_CLOEXEC) == 0, "pipe");
  pid_ = ::fork();
  Require(pid_ >= 0, "fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(static_cast<unsigned>(Slowed(std::chrono::seconds(100)) / std::chrono::seconds(1)));
    {
      const UniqueFd procs(::open((cgroup.path() + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
      Require(::write(procs.get(), "0", 1) == 1, "moving into " + cgroup.path());
    }
    if (netns) Require(::setns(netns->fd(), CLONE_NEWNET) == 0, "entering a namespace");
    if (uid != 0) Require(::setuid(uid) == 0, "setuid");
    CloseInherited(result[1]);
    (void)!::write(kKept, "r", 1);
    const std::string text = body();
    (void)!::write(kKept, text.data(), text.size());
    ::_exit(0);
  }
  ::close(result[1]);
  result_ = UniqueFd(result[0]);
  char inPlace;
  (void)!::read(result_.get(), &inPlace, 1);  // or it could not start, which Join says
}

Workload::~Workload() { Kill(); }

void Workload::Kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string Workload::Join() {
  std::string text;
  char buffer[4096];
  ssize_t size;
  while ((size = ::read(result_.get(), buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(size));
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  if (WIFSIGNALED(status)) return StrCat("died: ", strsignal(WTERMSIG(status)));
  return WEXITSTATUS(status) == 0 ? text : "died: could not start";
}

std::string RunWorkload(const Cgroup& cgroup, const Netns* netns, const std::function<std::string()>& body,
                        uint32_t uid) {
  return Workload(cgroup, netns, body, uid).Join();
}

EchoBroker::EchoBroker(std::vector<UniqueFd> listeners, Manner manner)
    : listeners_(std::move(listeners)), manner_(manner) {
  for (const UniqueFd& listener : listeners_) {
    accepting_.emplace_back([this, fd = listener.get()] {
      while (!stop_) {
        pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
        if (::poll(&wait, 1, 50) <= 0) continue;
        sockaddr_storage peer;
        socklen_t size = sizeof(peer);
        UniqueFd connection(::accept4(fd, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC));
        if (!connection.valid()) continue;
        const std::lock_guard lock(mutex_);
        clients_.push_back(SocketAddress::From(reinterpret_cast<sockaddr*>(&peer), size)->AddressText());
        ++open_;
        threads_.emplace_back([this, connection = std::move(connection)]() mutable { Serve(std::move(connection)); });
      }
    });
  }
}

EchoBroker::~EchoBroker() {
  stop_ = true;
  for (std::thread& thread : accepting_) thread.join();
  for (std::thread& thread : threads_) thread.join();
}

void EchoBroker::Serve(UniqueFd connection) {
  char buffer[16384];
  while (!stop_) {
    pollfd wait = {.fd = connection.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 50) <= 0) continue;
    const ssize_t size = ::recv(connection.get(), buffer, sizeof(buffer), 0);
    if (size == 0 && manner_ == Manner::kStubborn) {
      Eventually([this] { return stop_.load(); }, std::chrono::minutes(5));
    }
    if (size <= 0) break;
    (void)!::send(connection.get(), buffer, static_cast<size_t>(size), MSG_NOSIGNAL);
    if (manner_ == Manner::kHalfCloses) ::shutdown(connection.get(), SHUT_WR);
  }
  --open_;
}

std::vector<std::string> EchoBroker::Clients() const {
  const std::lock_guard lock(mutex_);
  return clients_;
}

Pod::Pod(const Cgroup& node, const std::string& name)
    : cgroup(node, name), resident_(std::in_place, cgroup, &netns, [] { return PauseForEver(); }) {}

std::string Pod::Run(const std::function<std::string()>& body, uint32_t uid) const {
  return RunWorkload(cgroup, &netns, body, uid);
}

std::string PauseForEver() {
  ::alarm(0);
  for (;;) ::pause();
}

std::string MakeNamespaces(size_t count, uint32_t users, const std::function<void()>& live) {
  constexpr uint32_t kFirstUser = 60000;
  for (size_t i = 0; i < count; ++i) {
    if (::fork() != 0) continue;
    if (users != 0 && ::setuid(kFirstUser + static_cast<uint32_t>(i % users)) != 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) ::_exit(1);
    const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM, 0));
    ifreq lo = {};
    std::strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP;
    ::ioctl(fd.get(), SIOCSIFFLAGS, &lo);
    live();
    ::_exit(0);
  }
  return PauseForEver();
}

UniqueFd ListenIn(const Netns& netns, const SocketAddress& address) {
  return Listen(netns.Socket(address.family(), SOCK_STREAM), address);
}

UniqueFd ListenHere(const SocketAddress& address) {
  return Listen(UniqueFd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)), address);
}

std::string ErrnoName(int error) { return ::strerrorname_np(error); }

std::string PeerName(int fd) {
  sockaddr_storage peer;
  socklen_t size = sizeof(peer);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) < 0) return ErrnoName(errno);
  return SocketAddress::From(reinterpret_cast<sockaddr*>(&peer), size)->Text();
}

std::string SocketName(int fd) {
  sockaddr_storage local;
  socklen_t size = sizeof(local);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &size) < 0) return ErrnoName(errno);
  return SocketAddress::From(reinterpret_cast<sockaddr*>(&local), size)->AddressText();
}

std::string Exchange(int fd) {
  if (::send(fd, kMessage.data(), kMessage.size(), MSG_NOSIGNAL) < 0) return "send: " + ErrnoName(errno);
  return AwaitEcho(fd);
}

std::string AwaitEcho(int fd) {
  std::string answer;
  char buffer[64];
  while (answer.size() < kMessage.size()) {
    pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, static_cast<int>(Slowed(std::chrono::seconds(10)).count())) <= 0) return "no answer";
    const ssize_t size = ::recv(fd, buffer, sizeof(buffer), 0);
    if (size < 0) return "recv: " + ErrnoName(errno);
    if (size == 0) return "closed";
    answer.append(buffer, static_cast<size_t>(size));
  }
  return answer == kMessage ? "echoed" : "garbled";
}

std::string Describe(int fd) {
  const std::string exchanged = Exchange(fd);
  return StrCat(exchanged, " by ", PeerName(fd), " as ", SocketName(fd));
}

std::string Dial(const SocketAddress& address) {
  const UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), address.get(), address.size()) == 0 ? Describe(fd.get()) : ErrnoName(errno);
}

SocketAddress Address(const std::string& address, uint16_t port) { return *SocketAddress::Parse(address, port); }

}  // namespace kveil::nettest
