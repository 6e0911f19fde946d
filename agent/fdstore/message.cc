#include "fdstore/message.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "base/unix_socket.h"

namespace kveil::fdstore {
namespace {

absl::Status Gone(int error) { return absl::UnavailableError(error == 0 ? "it has gone" : std::strerror(error)); }

UniqueFd Attached(msghdr& header) {
  const cmsghdr* const control = CMSG_FIRSTHDR(&header);
  int fd = -1;
  if (control != nullptr && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
      control->cmsg_len == CMSG_LEN(sizeof(fd))) {
    std::memcpy(&fd, CMSG_DATA(control), sizeof(fd));
  }
  return UniqueFd(fd);
}

}  // namespace

absl::StatusOr<bool> Send(int socket, Verb verb, std::string_view name, int fd) {
  std::string text(1, static_cast<char>(verb));
  text += name.substr(0, kLongestName);
  if (SendMessage(socket, text, fd)) return true;
  // ETOOMANYREFS: too many descriptors are on their way (unix(7)).
  if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ETOOMANYREFS) return false;
  return Gone(errno);
}

absl::StatusOr<std::optional<Message>> Receive(int socket) {
  std::array<char, 1 + kLongestName> text = {};
  iovec part = {text.data(), text.size()};
  msghdr header = {};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space = {};
  header.msg_control = space.data();
  header.msg_controllen = CMSG_LEN(sizeof(int));  // less than CMSG_SPACE, into which two descriptors would fit
  const ssize_t size = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (size <= 0) return Gone(size == 0 ? 0 : errno);
  Message message;
  message.fd = Attached(header);
  if ((header.msg_flags & MSG_TRUNC) != 0) return absl::InvalidArgumentError("it says too much at once");
  message.verb = static_cast<Verb>(text[0]);
  message.name.assign(text.data() + 1, static_cast<size_t>(size) - 1);
  return message;
}

absl::StatusOr<bool> SendHello(int socket, const Hello& hello) {
  return Send(socket, Verb::kHello, StrCat(hello.version, " ", hello.most));
}

absl::StatusOr<Hello> ReadHello(const Message& message) {
  const std::vector<std::string> words = absl::StrSplit(message.name, ' ');
  Hello hello;
  if (message.verb != Verb::kHello || !absl::SimpleAtoi(words[0], &hello.version)) {
    return absl::InvalidArgumentError("it does not say which version it has");
  }
  if (hello.version != kVersion) {
    return absl::FailedPreconditionError(
        StrCat("it speaks version ", hello.version, " of the protocol, and this process version ", kVersion));
  }
  if (words.size() < 2 || !absl::SimpleAtoi(words[1], &hello.most)) {
    return absl::InvalidArgumentError("it does not say how much it keeps");
  }
  return hello;
}

}  // namespace kveil::fdstore
