// What a node has: cgroups, network namespaces, workloads in them, and a broker that echoes.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "intercept/system/network_namespace.h"

namespace kveil::nettest {

// Ends the test program when something that a test is built on cannot be made: such a test has failed.
void Require(bool condition, const std::string& what);

// How many times as long as on a machine of its own things may take here: what KVEIL_TEST_SLOWDOWN says, as
// tests/kernels/run does for emulation, else 1. What a test waits for at most grows by it.
double Slowdown();
inline std::chrono::milliseconds Slowed(std::chrono::milliseconds time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time * Slowdown());
}

// Calls `condition` until it is true or `limit`, slowed, is over; returns whether it came true.
bool Eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit = std::chrono::seconds(10));

// Runs a command line, which must succeed.
void Shell(const std::string& command);

// A cgroup of its own below the cgroup v2 mount; removed with those made in it.
class Cgroup {
 public:
  Cgroup();
  Cgroup(const Cgroup& parent, const std::string& name);
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  const std::string& path() const { return path_; }
  uint64_t id() const;

 private:
  std::string path_;
};

// A network namespace with lo up. A process holds it that is in no cgroup of a test.
class Netns {
 public:
  Netns();
  ~Netns();
  Netns(const Netns&) = delete;
  Netns& operator=(const Netns&) = delete;
  pid_t holder() const { return holder_; }
  int fd() const { return fd_.get(); }
  uint64_t cookie() const { return cookie_; }
  UniqueFd Socket(int family, int type, int protocol = 0) const;  // made inside, by a thread of this program
  void Ip(const std::string& arguments) const;                    // runs `ip ARGUMENTS` inside

 private:
  pid_t holder_ = -1;
  UniqueFd fd_;
  uint64_t cookie_ = 0;
};

// Gives eth0 of a namespace 192.0.2.HOST/24 and 2001:db8:77::HOST/64. Host 1 to 254.
void BringUp(const Netns& netns, int host);

// Joins two namespaces by a cable: 192.0.2.1 and 2001:db8:77::1 at `a`'s eth0, 192.0.2.2 and 2001:db8:77::2 at `b`'s.
void Connect(const Netns& a, const Netns& b);

// Runs `body`, which finds no descriptors of ours but the standard streams, in a process of its own in the cgroup and
// namespace (nullptr: ours) and returns what it returns. "died: ..." when the process does not return within 100 s,
// slowed.
std::string RunWorkload(const Cgroup& cgroup, const Netns* netns, const std::function<std::string()>& body,
                        uint32_t uid = 0);

// The same without waiting for its end: only until it is in its cgroup and namespace.
class Workload {
 public:
  Workload(const Cgroup& cgroup, const Netns* netns, const std::function<std::string()>& body, uint32_t uid = 0);
  ~Workload();  // kills it
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;
  std::string Join();
  void Kill();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  UniqueFd result_;
};

// The body of a workload that only lives.
std::string PauseForEver();

inline constexpr uint32_t kNobody = 65534;  // a user without any right

// For use inside of a workload: makes network namespaces as a user without any right may, each with a process in it and
// lo up, which runs `live`. With `users`, as so many users in turn, which needs root.
std::string MakeNamespaces(
    size_t count, uint32_t users = 0, const std::function<void()>& live = [] { ::pause(); });

// A namespace and a cgroup with a process that lives in both as long as the pod does, as every pod has one.
class Pod {
 public:
  Pod(const Cgroup& node, const std::string& name);
  std::string Run(const std::function<std::string()>& body, uint32_t uid = 0) const;
  void End() { resident_.reset(); }  // the process; the objects stay

  Cgroup cgroup;
  Netns netns;

 private:
  std::optional<Workload> resident_;
};

// What a broker does when there is nothing to echo any more.
enum class Manner {
  kEcho,        // closes when its client does
  kStubborn,    // keeps its end open when its client has closed
  kHalfCloses,  // closes its direction after the first echo, and goes on reading
};

// Accepts at each given listening socket and sends back what it gets.
class EchoBroker {
 public:
  explicit EchoBroker(std::vector<UniqueFd> listeners, Manner manner = Manner::kEcho);
  ~EchoBroker();
  std::vector<std::string> Clients() const;  // addresses that connected, in order
  size_t open() const { return open_; }

 private:
  void Serve(UniqueFd connection);
  std::vector<UniqueFd> listeners_;
  const Manner manner_;
  mutable std::mutex mutex_;
  std::vector<std::string> clients_;
  std::atomic<size_t> open_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;  // guarded by mutex_ for the connections
  std::vector<std::thread> accepting_;
};

UniqueFd ListenIn(const Netns& netns, const SocketAddress& address);
UniqueFd ListenHere(const SocketAddress& address);  // in the test's own namespace

// Small client pieces, for use inside of RunWorkload.
std::string ErrnoName(int error);
std::string PeerName(int fd);    // "192.0.2.1:9092", or the error's name
std::string SocketName(int fd);  // address without port
// Sends a line and expects it back: "echoed", or what happened.
std::string Exchange(int fd);
inline constexpr std::string_view kMessage = "hello, broker\n";
std::string AwaitEcho(int fd);  // when kMessage was sent otherwise
// "echoed by PEER as OWN", the addresses as the application sees them.
std::string Describe(int fd);
// Connects and describes; the error's name when it is refused.
std::string Dial(const SocketAddress& address);
SocketAddress Address(const std::string& address, uint16_t port);

}  // namespace kveil::nettest
