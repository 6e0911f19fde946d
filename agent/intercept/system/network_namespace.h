// A network namespace as a descriptor, and the thread that makes sockets inside of one.
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
// The same for each thread of a process, which may live somewhere else; `most` of them.
std::vector<std::string> NamespaceFilesOfThreads(pid_t pid, size_t most);
// The namespace's inode number: its name for as long as it lives. 0 when the process is gone.
uint64_t NamespaceInode(const std::string& file);
absl::StatusOr<UniqueFd> OpenNamespace(const std::string& file);
// Who is behind a network namespace. Without a right on the host it can be made only together with a user namespace:
// then its owner is the user who made the outermost of these, or, where that was root for a container, that user
// namespace itself.
inline constexpr uint64_t kHostOwnsNamespace = UINT64_MAX;
uint64_t NamespaceOwner(int namespaceFd);
std::string OwnerText(uint64_t owner);  // "user 1000"
// The cookie of the namespace that a socket belongs to. Cookies are never given twice between two boots.
absl::StatusOr<uint64_t> NamespaceCookie(int socketFd);
// Whether lo is up, and has 127.0.0.1, in the namespace of an IPv4 datagram socket that is not bound yet. kUnavailable
// says what is not.
absl::Status CheckLoopback(int socketFd);

// Makes sockets in any namespace. A thread of its own, because a thread that has entered a namespace must leave it
// again whatever happens; when that fails the process is aborted, since it could go on in a stranger's network.
class SocketMaker {
 public:
  static absl::StatusOr<std::unique_ptr<SocketMaker>> Start();
  ~SocketMaker();
  SocketMaker(const SocketMaker&) = delete;
  SocketMaker& operator=(const SocketMaker&) = delete;

  // socket(family, type, protocol) in the namespace, CLOEXEC. Any thread; blocks for the few microseconds that it
  // takes.
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
