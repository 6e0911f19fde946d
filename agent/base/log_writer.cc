#include "base/log_writer.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>
#include <utility>

namespace kveil::log {
namespace {

constexpr std::chrono::seconds kMorePeriod{1};

// Returns when all is written or the descriptor is broken. A pipe that poll calls writable takes PIPE_BUF bytes without
// blocking.
void WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    pollfd writable{fd, POLLOUT, 0};
    if (::poll(&writable, 1, -1) < 0 && errno != EINTR) return;
    const ssize_t written = ::write(fd, bytes.data(), std::min<size_t>(bytes.size(), PIPE_BUF));
    if (written < 0 && errno != EINTR && errno != EAGAIN) return;
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

struct LineWriter::State {
  explicit State(Options made) : options(std::move(made)) {}
  void TakeMore(std::unique_lock<std::mutex>& lock);
  std::string TakeLost();

  const Options options;
  std::mutex mutex;
  std::condition_variable changed;
  std::string queue;     // guarded by mutex, like all that follows
  bool writing = false;  // what was in the queue before
  bool stop = false;
  uint64_t lost = 0;
  uint64_t lostTold = 0;
  bool moreDue = false;  // `more` is to be asked at `moreAt`
  std::chrono::steady_clock::time_point moreAt = {};
};

LineWriter::LineWriter(Options options) : process_(::getpid()), state_(std::make_shared<State>(std::move(options))) {
  // Signals are for those who handle them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([state = state_] { Run(state); }).detach();
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LineWriter::~LineWriter() {
  Flush(std::chrono::seconds(1));
  const std::lock_guard lock(state_->mutex);
  state_->stop = true;
  state_->changed.notify_all();
}

void LineWriter::Write(std::string_view line) {
  if (::getpid() != process_) return WriteAll(state_->options.fd, line);
  const std::lock_guard lock(state_->mutex);
  if (state_->queue.size() + line.size() > state_->options.queueSize) {
    ++state_->lost;
    return;
  }
  const bool wasEmpty = state_->queue.empty();
  state_->queue.append(line);
  if (wasEmpty) state_->changed.notify_all();
}

void LineWriter::AskForMore() {
  if (::getpid() != process_) return;
  const std::lock_guard lock(state_->mutex);
  if (std::exchange(state_->moreDue, true)) return;
  state_->moreAt = std::chrono::steady_clock::now() + kMorePeriod;
  state_->changed.notify_all();
}

bool LineWriter::Flush(std::chrono::milliseconds limit) {
  if (::getpid() != process_) return true;
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, limit, [this] { return state_->queue.empty() && !state_->writing; });
}

uint64_t LineWriter::lost() const {
  const std::lock_guard lock(state_->mutex);
  return state_->lost;
}

// Asks for more when it is time for that.
void LineWriter::State::TakeMore(std::unique_lock<std::mutex>& lock) {
  if (!moreDue || std::chrono::steady_clock::now() < moreAt) return;
  moreDue = false;
  if (!options.more) return;
  lock.unlock();
  const std::string more = options.more();
  lock.lock();
  queue += more;
}

// What tells of the lines that have been lost since it was told last.
std::string LineWriter::State::TakeLost() {
  const uint64_t lines = lost - std::exchange(lostTold, lost);
  return lines == 0 || !options.lost ? "" : options.lost(lines);
}

void LineWriter::Run(std::shared_ptr<State> state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    if (state->queue.empty() && !state->stop) {
      if (state->moreDue) {
        state->changed.wait_until(lock, state->moreAt);
      } else {
        state->changed.wait(lock);
      }
    }
    state->TakeMore(lock);
    if (state->queue.empty()) {
      if (state->stop) return;
      continue;
    }
    const std::string lines = std::exchange(state->queue, {});
    state->writing = true;
    lock.unlock();
    WriteAll(state->options.fd, lines);
    lock.lock();
    state->queue += state->TakeLost();
    state->writing = false;
    state->changed.notify_all();
  }
}

}  // namespace kveil::log
