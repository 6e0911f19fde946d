// The bound on how much of a worker's memory messages may take: the long frames that came in, and what they become.
//
// If there is no room, a connection waits; first come, first served. Frames get at most three quarters, so that there
// is always room for what they become: otherwise a frame could wait for room that it holds itself. For the same reason
// no connection may wait for output room while it holds some. It takes what is free (TryGrowOutput) or makes do with
// what it has.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "io/event.h"
#include "io/task.h"
#include "proxy/workload_share.h"

namespace kveil::proxy {

class MemoryBudget {
 public:
  explicit MemoryBudget(size_t limit) : limit_(limit) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // What came in.

  // Waits until `bytes` fit beside what is in use. A frame larger than the whole share gets it alone.
  io::Task<void> Acquire(size_t bytes) {
    if (frameWaiters_.empty() && FrameFits(bytes)) {
      frames_ += bytes;
      co_return;
    }
    Waiter waiter(bytes);
    frameWaiters_.push_back(&waiter);
    co_await waiter.granted.Wait();
  }
  // Returns false, and takes nothing, if they do not fit now or a connection waits.
  bool TryAcquire(size_t bytes) {
    if (isWaitedFor() || !FrameFits(bytes)) return false;
    frames_ += bytes;
    return true;
  }
  void Release(size_t bytes) {
    frames_ -= bytes;
    Serve();
  }

  // What messages become. An output larger than the whole share gets it alone.

  // Waits until `bytes` fit. Only for a connection that holds no output.
  io::Task<void> AcquireOutput(size_t bytes) {
    if (outputWaiters_.empty() && OutputFits(0, bytes)) {
      output_ += bytes;
      co_return;
    }
    Waiter waiter(bytes);
    outputWaiters_.push_back(&waiter);
    co_await waiter.granted.Wait();
  }
  // For a connection that holds `held` bytes of output and needs more. Returns false, and takes nothing, if they do not
  // fit now.
  bool TryGrowOutput(size_t held, size_t bytes) {
    if ((held == 0 && !outputWaiters_.empty()) || !OutputFits(held, bytes)) return false;
    output_ += bytes;
    return true;
  }
  // What turned out to be more than was asked for. There is no more of that at a time than of one batch.
  void CountOutput(size_t bytes) { output_ += bytes; }
  void ReleaseOutput(size_t bytes) {
    if (bytes == 0) return;
    output_ -= bytes;
    Serve();
  }

  // What connections have the agent remember between their messages: an eighth of the share, as nobody who waits for
  // room can know when it ends. Of that each workload, by the name of its share, has its part (IsWithinShare).
  enum class Kept {
    kUntilForgotten,
    // This has an end. So that everybody gets there, a workload may always have one such piece, whatever it takes.
    kUntilAnswered,
  };

  // Returns false, and takes nothing, if that is used up.
  bool TryKeep(const std::string& workload, size_t bytes, Kept kept) {
    const size_t room = limit_ / 8 - std::min(kept_, limit_ / 8);
    const auto found = keptBy_.find(workload);
    const KeptBytes has = found == keptBy_.end() ? KeptBytes() : found->second;
    const bool fits = bytes <= room && used() + bytes <= limit_ && IsWithinShare(has.all + bytes, 0, room - bytes);
    const bool isOnlyOne = kept == Kept::kUntilAnswered && has.untilAnswered == 0;
    if (!fits && !isOnlyOne) return false;
    kept_ += bytes;
    KeptBytes& of = keptBy_[workload];
    of.all += bytes;
    if (kept == Kept::kUntilAnswered) of.untilAnswered += bytes;
    return true;
  }
  void ReleaseKept(const std::string& workload, size_t bytes, Kept kept) {
    if (bytes == 0) return;
    kept_ -= bytes;
    const auto found = keptBy_.find(workload);
    found->second.all -= bytes;
    if (kept == Kept::kUntilAnswered) found->second.untilAnswered -= bytes;
    if (found->second.all == 0) keptBy_.erase(found);
    Serve();
  }

  // Memory that may be in use for as long as a peer likes, because it answers nothing: it counts like any other, but a
  // frame larger than the whole share does not wait for it. False, and nothing taken, when it does not fit now or
  // somebody waits.
  bool TryAcquireOwed(size_t bytes) {
    if (isWaitedFor() || used() + bytes > limit_) return false;
    AcquireOwedAnyway(bytes);
    return true;
  }
  // The same for what is in use already, also beyond the limit: then everybody else waits.
  void AcquireOwedAnyway(size_t bytes) { owed_ += bytes; }
  void ReleaseOwed(size_t bytes) {
    owed_ -= bytes;
    Serve();
  }

  size_t limit() const { return limit_; }
  size_t used() const { return frames_ + output_ + kept_ + owed_; }
  size_t free() const { return limit_ - std::min(used(), limit_); }
  bool isWaitedFor() const { return !frameWaiters_.empty() || !outputWaiters_.empty(); }
  // Time to let go of what can be let go of.
  bool scarce() const { return isWaitedFor() || used() > limit_ / 2; }

 private:
  struct KeptBytes {
    size_t all = 0;
    size_t untilAnswered = 0;
  };
  struct Waiter {
    explicit Waiter(size_t bytes) : bytes(bytes) {}
    size_t bytes;
    io::Event granted;
  };

  bool FrameFits(size_t bytes) const {
    return frames_ + output_ == 0 || (frames_ + bytes <= limit_ - limit_ / 4 && used() + bytes <= limit_);
  }
  bool OutputFits(size_t held, size_t bytes) const { return output_ == held || used() + bytes <= limit_; }

  // Output first: it is what lets frames go.
  void Serve() {
    while (!outputWaiters_.empty() && OutputFits(0, outputWaiters_.front()->bytes)) {
      Waiter* const next = outputWaiters_.front();
      outputWaiters_.pop_front();
      output_ += next->bytes;
      next->granted.Set();
    }
    while (!frameWaiters_.empty() && FrameFits(frameWaiters_.front()->bytes)) {
      Waiter* const next = frameWaiters_.front();
      frameWaiters_.pop_front();
      frames_ += next->bytes;
      next->granted.Set();
    }
  }

  const size_t limit_;
  size_t frames_ = 0;
  size_t output_ = 0;
  size_t kept_ = 0;
  absl::flat_hash_map<std::string, KeptBytes> keptBy_;  // by workload
  size_t owed_ = 0;
  std::deque<Waiter*> frameWaiters_;
  std::deque<Waiter*> outputWaiters_;
};

// Counts memory that is in use already for as long as this lives: what a message becomes when it is decoded. It never
// waits, because connections that wait for output hold such memory, too.
class MemoryInUse {
 public:
  MemoryInUse(MemoryBudget& budget, size_t bytes) : budget_(budget), bytes_(bytes) {
    budget_.AcquireOwedAnyway(bytes_);
  }
  MemoryInUse(const MemoryInUse&) = delete;
  MemoryInUse& operator=(const MemoryInUse&) = delete;
  ~MemoryInUse() { budget_.ReleaseOwed(bytes_); }

 private:
  MemoryBudget& budget_;
  const size_t bytes_;
};

}  // namespace kveil::proxy
