// Network namespaces as descriptors, and the thread that makes sockets inside them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

// The file of a process's network namespace, "/proc/PID/ns/net".
std::string NamespaceFile(pid_t pid);
// The same for the threads of a process, at most `most` of them; a thread may live in another namespace.
std::vector<std::string> NamespaceFilesOfThreads(pid_t pid, size_t most);
// The namespace's inode number, unique as long as it lives. 0: the process is gone.
uint64_t NamespaceInode(const std::string& file);
// kNotFound: the process is gone.
absl::StatusOr<UniqueFd> OpenNamespace(const std::string& file);
// The owner of a network namespace. Without privileges on the host, a namespace can only be made together with a user
// namespace. Then the owner is the user who made the outermost user namespace or, if that was root (for a container),
// that user namespace itself.
inline constexpr uint64_t kHostOwnsNamespace = UINT64_MAX;
uint64_t NamespaceOwner(int namespaceFd);
std::string OwnerText(uint64_t owner);  // "user 1000"
// The cookie of a socket's namespace. The kernel does not reuse cookies until the next boot.
absl::StatusOr<uint64_t> NamespaceCookie(int socketFd);
// Whether lo is up and has 127.0.0.1 in the namespace of an unbound IPv4 datagram socket. kUnavailable says what is
// missing.
absl::Status CheckLoopback(int socketFd);

// Makes sockets in any namespace, on its own thread: a thread that has entered a namespace must leave it again,
// whatever happens. If it cannot, the process aborts, because it would go on in a stranger's network.
class SocketMaker {
 public:
  static absl::StatusOr<std::unique_ptr<SocketMaker>> Start();
  ~SocketMaker();
  SocketMaker(const SocketMaker&) = delete;
  SocketMaker& operator=(const SocketMaker&) = delete;

  // socket(family, type, protocol) in the namespace, close-on-exec. Any thread; blocks for some microseconds.
  // kUnavailable.
  absl::StatusOr<UniqueFd> Make(int namespaceFd, int family, int type, int protocol);

 private:
  struct Request {
    int namespaceFd, family, type, protocol;
    int fd = -1;
    int error = 0;
    bool done = false;
  };
  explicit SocketMaker(UniqueFd home) : home_(std::move(home)) {}
  void Run();
  void Serve(Request& request) const;

  const UniqueFd home_;  // the namespace to return to
  Mutex mutex_;
  std::condition_variable_any requested_, done_;
  std::vector<Request*> requests_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace kveil::intercept
