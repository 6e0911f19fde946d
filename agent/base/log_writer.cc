#include "base/log_writer.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>
#include <utility>

#include "base/mutex.h"

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
  void TakeMore() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  std::string TakeLost() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  const Options options;
  Mutex mutex;
  std::condition_variable_any changed;
  std::string queue ABSL_GUARDED_BY(mutex);
  bool writing ABSL_GUARDED_BY(mutex) = false;  // what was in the queue before
  bool stop ABSL_GUARDED_BY(mutex) = false;
  uint64_t lost ABSL_GUARDED_BY(mutex) = 0;
  uint64_t lostTold ABSL_GUARDED_BY(mutex) = 0;
  bool moreDue ABSL_GUARDED_BY(mutex) = false;  // `more` is due at `moreAt`
  std::chrono::steady_clock::time_point moreAt ABSL_GUARDED_BY(mutex) = {};
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
  const MutexLock lock(state_->mutex);
  state_->stop = true;
  state_->changed.notify_all();
}

void LineWriter::Write(std::string_view line) {
  if (::getpid() != process_) return WriteAll(state_->options.fd, line);
  const MutexLock lock(state_->mutex);
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
  const MutexLock lock(state_->mutex);
  if (std::exchange(state_->moreDue, true)) return;
  state_->moreAt = std::chrono::steady_clock::now() + kMorePeriod;
  state_->changed.notify_all();
}

bool LineWriter::Flush(std::chrono::milliseconds limit) {
  if (::getpid() != process_) return true;
  const auto end = std::chrono::steady_clock::now() + limit;
  const MutexLock lock(state_->mutex);
  while (!state_->queue.empty() || state_->writing) {
    if (state_->changed.wait_until(state_->mutex, end) == std::cv_status::timeout) {
      return state_->queue.empty() && !state_->writing;
    }
  }
  return true;
}

uint64_t LineWriter::lost() const {
  const MutexLock lock(state_->mutex);
  return state_->lost;
}

// Asks for more when it is time for that.
void LineWriter::State::TakeMore() {
  if (!moreDue || std::chrono::steady_clock::now() < moreAt) return;
  moreDue = false;
  if (!options.more) return;
  mutex.unlock();
  const std::string more = options.more();
  mutex.lock();
  queue += more;
}

// The line about the lines lost since the last such line, or empty.
std::string LineWriter::State::TakeLost() {
  const uint64_t lines = lost - std::exchange(lostTold, lost);
  return lines == 0 || !options.lost ? "" : options.lost(lines);
}

void LineWriter::Run(std::shared_ptr<State> state) {
  const MutexLock lock(state->mutex);
  for (;;) {
    if (state->queue.empty() && !state->stop) {
      if (state->moreDue) {
        state->changed.wait_until(state->mutex, state->moreAt);
      } else {
        state->changed.wait(state->mutex);
      }
    }
    state->TakeMore();
    if (state->queue.empty()) {
      if (state->stop) return;
      continue;
    }
    const std::string lines = std::exchange(state->queue, {});
    state->writing = true;
    state->mutex.unlock();
    WriteAll(state->options.fd, lines);
    state->mutex.lock();
    state->queue += state->TakeLost();
    state->writing = false;
    state->changed.notify_all();
  }
}

}  // namespace kveil::log
