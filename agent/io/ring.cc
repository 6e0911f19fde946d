#include "io/ring.h"

#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "io/bug.h"
#include "io/ring_refusal.h"

namespace kveil::io {
namespace {

struct Named {
  unsigned value;
  const char* name;
};

// Waits with a time limit; completions beyond the queue's size are kept; arguments are copied at submission.
constexpr std::array<Named, 3> kNeededFeatures = {
    {{IORING_FEAT_EXT_ARG, "EXT_ARG"}, {IORING_FEAT_NODROP, "NODROP"}, {IORING_FEAT_SUBMIT_STABLE, "SUBMIT_STABLE"}}};
constexpr std::array<Named, 7> kNeededOperations = {{{IORING_OP_POLL_ADD, "POLL_ADD"},
                                                     {IORING_OP_RECV, "RECV"},
                                                     {IORING_OP_SENDMSG, "SENDMSG"},
                                                     {IORING_OP_ACCEPT, "ACCEPT"},
                                                     {IORING_OP_CONNECT, "CONNECT"},
                                                     {IORING_OP_READ, "READ"},
                                                     {IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL"}}};
constexpr size_t kProbedOperations = 256;

void LogOnce(const io_uring_params& params) {
  static std::once_flag logged;
  std::call_once(logged, [&params] {
    utsname system{};
    ::uname(&system);
    log::Info("io_uring.ready", {{"kernel", system.release},
                                 {"flags", "SINGLE_ISSUER,DEFER_TASKRUN,SUBMIT_ALL,CQSIZE"},
                                 {"features", StrCat("0x", absl::Hex(params.features))},
                                 {"submissionEntries", params.sq_entries},
                                 {"completionEntries", params.cq_entries}});
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Loop::Ring>> Loop::Ring::Create(const Loop::Options& options) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED;
  params.cq_entries = options.completionEntries;
  io_uring made{};
  const int error = io_uring_queue_init_params(options.submissionEntries, &made, &params);
  if (error < 0) return Explain(RingRefusal::Of(-error));
  std::unique_ptr<Ring> ring(new Ring());
  ring->ring = made;
  absl::Status usable = ring->CheckFeatures(params.features);
  if (!usable.ok()) return usable;
  LogOnce(params);
  return ring;
}

// Also finds a seccomp filter that lets a ring be made but not used.
absl::Status Loop::Ring::CheckFeatures(unsigned features) const {
  for (const Named& feature : kNeededFeatures) {
    if ((features & feature.value) != 0) continue;
    return absl::FailedPreconditionError(
        StrCat("this kernel's io_uring lacks the feature ", feature.name, "; kernel 6.1 or newer is needed"));
  }
  std::vector<uint64_t> memory((sizeof(io_uring_probe) + kProbedOperations * sizeof(io_uring_probe_op)) /
                               sizeof(uint64_t));
  auto* const probe = reinterpret_cast<io_uring_probe*>(memory.data());
  if (::syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, probe, kProbedOperations) < 0) {
    return Explain(RingRefusal::Of(errno));
  }
  for (const Named& operation : kNeededOperations) {
    if (io_uring_opcode_supported(probe, static_cast<int>(operation.value)) != 0) continue;
    return absl::FailedPreconditionError(
        StrCat("this kernel's io_uring lacks the operation ", operation.name, "; kernel 6.1 or newer is needed"));
  }
  // A ring that is still disabled answers EBADFD, where the call is allowed at all.
  if (::syscall(__NR_io_uring_enter, ring.ring_fd, 0, 0, 0, nullptr, 0) < 0 && errno != EBADFD) {
    return Explain(RingRefusal::Of(errno));
  }
  return absl::OkStatus();
}

// Debian's liburing 2.3 does not export io_uring_enable_rings.
void Loop::Ring::Enable() {
  const long enabled = ::syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  internal::Require(enabled == 0, "the io_uring could not be enabled; a loop runs once");
}

}  // namespace kveil::io
