#include "cli/screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace kveil::cli {
namespace {

// Of a terminal since the VT100: another page, without a cursor and without a new line where one is too long.
constexpr std::string_view kBegin = "\x1b[?1049h\x1b[?25l\x1b[?7l";
constexpr std::string_view kEnd = "\x1b[?7h\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H";
constexpr std::string_view kRestOfLine = "\x1b[K";
constexpr std::string_view kRestOfPage = "\x1b[J";
constexpr size_t kUsualHeight = 24;

// As far as it goes: who has gone does not read it.
void Write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count <= 0 && errno != EINTR) return;
    if (count > 0) text.remove_prefix(static_cast<size_t>(count));
  }
}

sigset_t Endings() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

}  // namespace

bool Screen::IsThere() { return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1; }

Screen::Screen() {
  const sigset_t endings = Endings();
  ::sigprocmask(SIG_BLOCK, &endings, &blockedBefore_);
  signals_ = UniqueFd(::signalfd(-1, &endings, SFD_CLOEXEC | SFD_NONBLOCK));
  ::tcgetattr(STDIN_FILENO, &before_);
  termios keys = before_;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  keys.c_cc[VMIN] = 1;
  keys.c_cc[VTIME] = 0;
  keys.c_cc[VSUSP] = _POSIX_VDISABLE;  // it would leave the page to the shell
  ::tcsetattr(STDIN_FILENO, TCSANOW, &keys);
  Write(kBegin);
}

Screen::~Screen() {
  Write(kEnd);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  // Those that have been waited for are done with.
  signalfd_siginfo taken;
  while (::read(signals_.get(), &taken, sizeof(taken)) > 0) {
  }
  ::sigprocmask(SIG_SETMASK, &blockedBefore_, nullptr);
}

size_t Screen::height() const {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 ? size.ws_row : kUsualHeight;
}

void Screen::Show(const std::vector<std::string>& lines) const {
  std::string page(kHome);
  const size_t shown = std::min(lines.size(), height());
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) page += "\r\n";
    page += lines[i];
    page += kRestOfLine;
  }
  page += kRestOfPage;
  Write(page);
}

bool Screen::AwaitEnd(std::chrono::milliseconds time) const {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point end = Clock::now() + time;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    pollfd waited[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    if (::poll(waited, 2, static_cast<int>(left.count())) <= 0) continue;
    if (waited[1].revents != 0) return true;
    if (waited[0].revents == 0) continue;
    char key = 0;
    if (::read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q' || key == '\x03') return true;
  }
}

}  // namespace kveil::cli
