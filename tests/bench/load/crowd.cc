#include "load/crowd.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "kafka/big_endian.h"
#include "kafka/frame.h"
#include "load/requests.h"

namespace kveil::load {
namespace {

// Connects that are not answered yet. The queue of a Kafka listener has 50 places (socket.listen.backlog.size), and
// whoever finds it full waits for a second.
constexpr size_t kAtOnce = 48;
constexpr auto kPatience = std::chrono::minutes(1);
constexpr size_t kBufferSize = 1 << 20;

}  // namespace

Crowd::Crowd(OnAnswer onAnswer)
    : onAnswer_(std::move(onAnswer)), poll_(::epoll_create1(EPOLL_CLOEXEC)), buffer_(kBufferSize) {}

void Crowd::Open(const std::vector<SocketAddress>& brokers) {
  const Clock::time_point limit = Clock::now() + kPatience;
  connections_.resize(brokers.size());
  size_t begun = 0;
  while (opened_ + failed_ < brokers.size() && Clock::now() < limit) {
    for (; begun < brokers.size() && begun < opened_ + failed_ + kAtOnce; ++begun) {
      Connect(connections_[begun], brokers[begun]);
      if (!connections_[begun].fd.valid()) {
        Fail(begun, StrCat("connect: ", std::strerror(errno)));
        continue;
      }
      Watch(begun, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
      connections_[begun].toSend = ApiVersionsRequest();
    }
    Turn(limit);
  }
  for (size_t i = 0; i < connections_.size(); ++i) {
    if (!connections_[i].isOpen && (i >= begun || connections_[i].fd.valid())) Fail(i, "no answer to ApiVersions");
  }
}

void Crowd::Connect(Connection& connection, const SocketAddress& broker) {
  UniqueFd fd(::socket(broker.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (::connect(fd.get(), broker.get(), broker.size()) == 0 || errno == EINPROGRESS) connection.fd = std::move(fd);
}

void Crowd::Send(size_t index, Bytes request) {
  Connection& connection = connections_[index];
  if (!connection.fd.valid()) return;
  const bool wasWaiting = !connection.toSend.empty();
  if (!wasWaiting) {
    const ssize_t sent = ::send(connection.fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return Fail(index, StrCat("send: ", std::strerror(errno)));
    request.remove_prefix(static_cast<size_t>(std::max<ssize_t>(sent, 0)));
  }
  if (request.empty()) return;
  Append(connection.toSend, request);
  if (!wasWaiting) Watch(index, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
}

void Crowd::Turn(Clock::time_point until) {
  const auto wait = std::max(until - Clock::now(), Clock::duration(0));
  const auto seconds = std::chrono::floor<std::chrono::seconds>(wait);
  const timespec timeout{.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(wait - seconds).count()};
  std::array<epoll_event, 256> ready;
  const int count = ::epoll_pwait2(poll_.get(), ready.data(), static_cast<int>(ready.size()), &timeout, nullptr);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = ready[static_cast<size_t>(i)];
    Serve(event.data.u64, event.events);
  }
}

void Crowd::Serve(size_t index, uint32_t events) {
  Connection& connection = connections_[index];
  if ((events & EPOLLOUT) != 0) {
    const ByteBuffer waiting = std::exchange(connection.toSend, {});
    Watch(index, EPOLL_CTL_MOD, EPOLLIN);
    Send(index, waiting);
  }
  if (connection.fd.valid() && (events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) Receive(index);
}

void Crowd::Receive(size_t index) {
  Connection& connection = connections_[index];
  const ssize_t size = ::recv(connection.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (size < 0 && errno == EAGAIN) return;
  if (size < 0) return Fail(index, StrCat("receive: ", std::strerror(errno)));
  if (size == 0) return Fail(index, "the broker closed a connection");
  ByteBuffer all = std::exchange(connection.received, {});
  Append(all, Bytes(buffer_.data(), static_cast<size_t>(size)));
  Append(connection.received, HandOver(index, all));
}

Bytes Crowd::HandOver(size_t index, Bytes received) {
  while (received.size() >= sizeof(int32_t)) {
    const auto size = kafka::LoadBigEndian<uint32_t>(received.data());
    if (size > kafka::kMaxRequestSize) {
      Fail(index, "an answer is too long");
      return {};
    }
    if (received.size() - sizeof(int32_t) < size) break;
    const Bytes answer = received.subspan(sizeof(int32_t), size);
    received.remove_prefix(sizeof(int32_t) + size);
    if (connections_[index].isOpen) {
      onAnswer_(index, answer);
    } else if (const absl::Status status = CheckApiVersions(answer); status.ok()) {
      connections_[index].isOpen = true;
      ++opened_;
    } else {
      Fail(index, std::string(ToStd(status.message())));
    }
    if (!connections_[index].fd.valid()) return {};
  }
  return received;
}

void Crowd::Watch(size_t index, int operation, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = index;
  ::epoll_ctl(poll_.get(), operation, connections_[index].fd.get(), &event);
}

void Crowd::Fail(size_t index, const std::string& problem) {
  connections_[index].fd.Reset();  // the kernel forgets it in the poll
  if (firstProblem_.empty()) firstProblem_ = problem;
  if (std::exchange(connections_[index].isOpen, false)) --opened_;
  ++failed_;
}

}  // namespace kveil::load
