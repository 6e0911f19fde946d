// Namespace files, cookies, and sockets made inside namespaces.
#include "intercept/system/network_namespace.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/mutex.h"
#include "base/text.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace kveil::intercept {
namespace {

constexpr int kLoopbackIndex = 1;  // of lo, whatever its name, in every namespace

constexpr uint64_t kUserNamespace = uint64_t{1} << 63;  // an owner that is one, by its inode, and no user

}  // namespace

std::string NamespaceFile(pid_t pid) { return StrCat("/proc/", pid, "/ns/net"); }

std::vector<std::string> NamespaceFilesOfThreads(pid_t pid, size_t most) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator(StrCat("/proc/", pid, "/task"), error)) {
    if (files.size() == most) break;
    files.push_back(thread.path().string() + "/ns/net");
  }
  return files;
}

uint64_t NamespaceInode(const std::string& file) {
  struct stat info;
  return ::stat(file.c_str(), &info) == 0 ? info.st_ino : 0;
}

absl::StatusOr<UniqueFd> OpenNamespace(const std::string& file) {
  UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.valid()) return fd;
  const std::string message = StrCat("cannot open ", file, ": ", std::strerror(errno));
  return errno == ENOENT || errno == ESRCH ? absl::NotFoundError(message) : absl::InternalError(message);
}

uint64_t NamespaceOwner(int namespaceFd) {
  constexpr int kDeepest = 33;  // the kernel nests 32 user namespaces
  const uint64_t hosts = NamespaceInode("/proc/self/ns/user");
  UniqueFd user(::ioctl(namespaceFd, NS_GET_USERNS));
  struct stat info;
  for (int i = 0; i < kDeepest && user.valid() && ::fstat(user.get(), &info) == 0 && info.st_ino != hosts; ++i) {
    UniqueFd parent(::ioctl(user.get(), NS_GET_PARENT));
    struct stat above;
    const bool isOutermost = !parent.valid() || (::fstat(parent.get(), &above) == 0 && above.st_ino == hosts);
    if (isOutermost) {
      uid_t uid = 0;
      return ::ioctl(user.get(), NS_GET_OWNER_UID, &uid) == 0 && uid != 0 ? uid : kUserNamespace | info.st_ino;
    }
    user = std::move(parent);
  }
  return kHostOwnsNamespace;
}

std::string OwnerText(uint64_t owner) {
  if (owner & kUserNamespace) return StrCat("user namespace ", owner & ~kUserNamespace);
  return StrCat("user ", owner);
}

absl::StatusOr<uint64_t> NamespaceCookie(int socketFd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (::getsockopt(socketFd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0) return cookie;
  return absl::InternalError(StrCat("cannot read a namespace's cookie: ", std::strerror(errno)));
}

absl::Status CheckLoopback(int socketFd) {
  ifreq lo = {};
  lo.ifr_ifindex = kLoopbackIndex;
  if (::ioctl(socketFd, SIOCGIFNAME, &lo) < 0 || ::ioctl(socketFd, SIOCGIFFLAGS, &lo) < 0) {
    return absl::InternalError(StrCat("cannot look at lo: ", std::strerror(errno)));
  }
  if ((lo.ifr_flags & IFF_UP) == 0) return absl::UnavailableError("lo is down ('ip link set lo up')");
  sockaddr_in loopback = {};
  loopback.sin_family = AF_INET;
  loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool isThere = ::bind(socketFd, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)) == 0 ||
                       errno != EADDRNOTAVAIL;  // all ports taken, say
  if (isThere) return absl::OkStatus();
  return absl::UnavailableError("127.0.0.1 is not there ('ip addr add 127.0.0.1/8 dev lo')");
}

absl::StatusOr<std::unique_ptr<SocketMaker>> SocketMaker::Start() {
  absl::StatusOr<UniqueFd> home = OpenNamespace("/proc/self/ns/net");
  if (!home.ok()) return home.status();
  std::unique_ptr<SocketMaker> maker(new SocketMaker(*std::move(home)));
  maker->thread_ = std::thread([self = maker.get()] { self->Run(); });
  return maker;
}

SocketMaker::~SocketMaker() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  requested_.notify_all();
  thread_.join();
}

absl::StatusOr<UniqueFd> SocketMaker::Make(int namespaceFd, int family, int type, int protocol) {
  Request request{.namespaceFd = namespaceFd, .family = family, .type = type, .protocol = protocol};
  {
    const MutexLock lock(mutex_);
    requests_.push_back(&request);
    requested_.notify_one();
    while (!request.done) done_.wait(mutex_);
  }
  if (request.fd >= 0) return UniqueFd(request.fd);
  return absl::UnavailableError(StrCat("cannot make a socket in the namespace: ", std::strerror(request.error)));
}

void SocketMaker::Run() {
  const MutexLock lock(mutex_);
  for (;;) {
    while (!stop_ && requests_.empty()) requested_.wait(mutex_);
    if (requests_.empty()) return;
    const std::vector<Request*> batch = std::exchange(requests_, {});
    mutex_.unlock();
    for (Request* request : batch) Serve(*request);
    mutex_.lock();
    for (Request* request : batch) request->done = true;
    done_.notify_all();
  }
}

void SocketMaker::Serve(Request& request) const {
  if (::setns(request.namespaceFd, CLONE_NEWNET) < 0) {
    request.error = errno;
    return;
  }
  request.fd = ::socket(request.family, request.type | SOCK_CLOEXEC, request.protocol);
  request.error = errno;
  if (::setns(home_.get(), CLONE_NEWNET) < 0) {
    std::perror("kveil: cannot return to the agent's network namespace");
    std::abort();
  }
}

}  // namespace kveil::intercept
