// A child process in another cgroup. A socket always belongs to the cgroup of the process that made it, so a process in
// the right cgroup has to make it.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::intercept {

class ChildProcess {
 public:
  enum class Descriptors {
    kOurs,  // It shares our descriptor table: what it opens is ours, also when it is killed.
    kOwn,   // It has none of ours but the standard ones, and what it opens ends with it.
  };
  // Runs `body` in a child inside the cgroup; what it returns is the exit status. The child has a copy of our memory.
  // It is forked from a threaded process, so `body` may only make system calls.
  static absl::StatusOr<ChildProcess> Start(int cgroupFd, absl::FunctionRef<int()> body,
                                            Descriptors descriptors = Descriptors::kOurs);
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidFd_(std::move(other.pidFd_)) {}
  ~ChildProcess();  // kills the child if it still runs, and reaps it

  pid_t pid() const { return pid_; }
  int pidFd() const { return pidFd_.get(); }  // readable when the child has ended
  // Blocks until the child has ended; returns its exit status. kInternal: a signal ended it.
  absl::StatusOr<int> Wait();

 private:
  ChildProcess(pid_t pid, UniqueFd pidFd) : pid_(pid), pidFd_(std::move(pidFd)) {}
  pid_t pid_;
  UniqueFd pidFd_;
};

// Memory shared with a child process, zero at first. T must need no constructor.
template <typename T>
class SharedWithChild {
 public:
  SharedWithChild() : memory_(::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {}
  ~SharedWithChild() {
    if (valid()) ::munmap(memory_, sizeof(T));
  }
  SharedWithChild(const SharedWithChild&) = delete;
  SharedWithChild& operator=(const SharedWithChild&) = delete;
  bool valid() const { return memory_ != MAP_FAILED; }
  T* operator->() { return static_cast<T*>(memory_); }
  T& operator*() { return *static_cast<T*>(memory_); }

 private:
  void* memory_;
};

}  // namespace kveil::intercept
