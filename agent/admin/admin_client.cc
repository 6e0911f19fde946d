// One request, one answer, one deadline.
#include "admin/admin_client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "admin/admin_message.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"

namespace kveil::admin {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLongestAnswer = 16 << 20;
constexpr std::chrono::milliseconds kPause{10};

absl::Status LateError() { return absl::DeadlineExceededError("the agent did not answer in time"); }

absl::Status ConnectError(int error, const std::string& path) {
  switch (error) {
    case ENOENT:
    case ECONNREFUSED:
      return absl::UnavailableError(StrCat("no agent is running (nobody listens at ", path, ")"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(StrCat("not allowed to use the admin socket ", path,
                                                "; be root or in the group that the agent's admin.group names"));
    case EAGAIN:
      return absl::UnavailableError(StrCat("the agent at ", path, " is too busy"));
    default:
      return absl::UnavailableError(StrCat("cannot reach the agent at ", path, ": ", std::strerror(error)));
  }
}

// Waits until `deadline` for a place among those that the agent has not accepted yet. Nothing says when there is one.
absl::StatusOr<UniqueFd> Connect(const std::string& path, Clock::time_point deadline) {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(path);
  if (!address.ok()) return address.status();
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return absl::ErrnoToStatus(errno, "socket");
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    if (errno != EAGAIN || Clock::now() >= deadline) return ConnectError(errno, path);
    std::this_thread::sleep_for(kPause);
  }
  return socket;
}

// False after the deadline.
bool AwaitEvent(int socket, short events, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd waited = {socket, events, 0};
  ::poll(&waited, 1, static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX)));
  return waited.revents != 0 || Clock::now() < deadline;
}

absl::Status SendLine(int socket, std::string line, Clock::time_point deadline) {
  line.push_back('\n');
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::send(socket, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count > 0) {
      sent += count;
    } else if (errno != EAGAIN && errno != EINTR) {
      return absl::OkStatus();  // the agent may have refused already: its answer says why
    } else if (!AwaitEvent(socket, POLLOUT, deadline)) {
      return LateError();
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveLine(int socket, Clock::time_point deadline) {
  std::string answer;
  char chunk[16384];
  while (answer.size() < kLongestAnswer) {
    const ssize_t count = ::recv(socket, chunk, sizeof(chunk), 0);
    if (count > 0) {
      answer.append(chunk, count);
      if (const size_t end = answer.find('\n'); end != std::string::npos) return answer.substr(0, end);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
      return absl::UnavailableError("the agent closed the connection without an answer");
    } else if (!AwaitEvent(socket, POLLIN, deadline)) {
      return LateError();
    }
  }
  return absl::InternalError("the agent's answer is too long");
}

}  // namespace

absl::StatusOr<std::string> AdminCall(const std::string& socketPath, std::string_view requestJson,
                                      std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  const absl::StatusOr<UniqueFd> socket = Connect(socketPath, deadline);
  if (!socket.ok()) return socket.status();
  if (absl::Status status = SendLine(socket->get(), std::string(requestJson), deadline); !status.ok()) return status;
  absl::StatusOr<std::string> answer = ReceiveLine(socket->get(), deadline);
  if (!answer.ok()) return answer;
  if (absl::Status status = StatusOfAnswer(*answer); !status.ok()) return status;
  return answer;
}

}  // namespace kveil::admin
