// Lists and destroys sockets over sock_diag(7).
#include "intercept/namespaces/existing_connections.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/text.h"
#include "intercept/kernel/endpoint.h"

namespace kveil::intercept {
namespace {

// Of every state in which data may still pass.
constexpr uint32_t kStates =
    1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSE_WAIT;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

absl::Status Send(int fd, uint16_t type, uint16_t flags, const inet_diag_req_v2& body) {
  Request request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = NLM_F_REQUEST | flags;
  request.body = body;
  if (::send(fd, &request, sizeof(request), 0) == sizeof(request)) return absl::OkStatus();
  return absl::InternalError(StrCat("sock_diag: ", std::strerror(errno)));
}

// Calls `visit` for each message of an answer, until its end.
absl::Status Receive(int fd, const std::function<void(const nlmsghdr&)>& visit) {
  std::vector<char> buffer(1 << 16);
  for (;;) {
    const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return absl::InternalError(StrCat("sock_diag: ", std::strerror(errno)));
    auto left = static_cast<unsigned>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return absl::OkStatus();
      if (header->nlmsg_type == NLMSG_ERROR) {
        const int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        if (error == 0) return absl::OkStatus();
        const std::string message = StrCat("sock_diag: ", std::strerror(error));
        if (error == ENOENT) return absl::NotFoundError(message);
        return error == EOPNOTSUPP ? absl::UnimplementedError(message) : absl::InternalError(message);
      }
      visit(*header);
    }
  }
}

SocketAddress PeerOf(const inet_diag_msg& message) {
  kveil_endpoint endpoint = {};
  endpoint.family = message.idiag_family;
  endpoint.port = ntohs(message.id.idiag_dport);
  std::memcpy(endpoint.address, message.id.idiag_dst, sizeof(endpoint.address));
  return WithoutMapping(ToSocketAddress(endpoint));
}

uint64_t CgroupOf(const nlmsghdr& header) {
  const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(&header));
  int left = static_cast<int>(header.nlmsg_len) - static_cast<int>(NLMSG_LENGTH(sizeof(*message)));
  const char* at = reinterpret_cast<const char*>(message + 1);
  while (left >= static_cast<int>(sizeof(nlattr))) {
    nlattr attribute;
    std::memcpy(&attribute, at, sizeof(attribute));
    if (attribute.nla_len < sizeof(attribute) || attribute.nla_len > left) break;
    uint64_t id;
    if (attribute.nla_type == INET_DIAG_CGROUP_ID && attribute.nla_len >= NLA_HDRLEN + sizeof(id)) {
      std::memcpy(&id, at + NLA_HDRLEN, sizeof(id));
      return id;
    }
    at += NLA_ALIGN(attribute.nla_len);
    left -= NLA_ALIGN(attribute.nla_len);
  }
  return 0;
}

absl::StatusOr<std::vector<inet_diag_msg>> List(int fd, uint8_t family,
                                                const std::function<bool(const SocketAddress&)>& isTarget,
                                                const std::function<bool(uint64_t)>& isIntercepted) {
  inet_diag_req_v2 body = {};
  body.sdiag_family = family;
  body.sdiag_protocol = IPPROTO_TCP;
  body.idiag_states = kStates;
  absl::Status status = Send(fd, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body);
  if (!status.ok()) return status;
  std::vector<inet_diag_msg> found;
  status = Receive(fd, [&](const nlmsghdr& header) {
    const auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(&header));
    if (isTarget(PeerOf(*message)) && isIntercepted(CgroupOf(header))) found.push_back(*message);
  });
  if (!status.ok()) return status;
  return found;
}

}  // namespace

absl::StatusOr<size_t> ResetConnections(int diagSocketFd, const std::function<bool(const SocketAddress&)>& isTarget,
                                        const std::function<absl::StatusOr<bool>(uint64_t cgroupId)>& isIntercepted) {
  absl::flat_hash_map<uint64_t, bool> known;
  absl::Status unknown;
  const auto isOfWorkload = [&](uint64_t cgroupId) {
    const auto [found, isNew] = known.try_emplace(cgroupId);
    if (isNew) {
      const absl::StatusOr<bool> asked = isIntercepted(cgroupId);
      unknown.Update(asked.status());
      found->second = asked.ok() && *asked;
    }
    return found->second;
  };
  size_t count = 0;
  for (const uint8_t family : {AF_INET, AF_INET6}) {
    absl::StatusOr<std::vector<inet_diag_msg>> found = List(diagSocketFd, family, isTarget, isOfWorkload);
    if (!found.ok()) return found.status();
    for (const inet_diag_msg& message : *found) {
      inet_diag_req_v2 body = {};
      body.sdiag_family = family;
      body.sdiag_protocol = IPPROTO_TCP;
      body.idiag_states = kStates;
      body.id = message.id;
      absl::Status status = Send(diagSocketFd, SOCK_DESTROY, NLM_F_ACK, body);
      if (status.ok()) status = Receive(diagSocketFd, [](const nlmsghdr&) {});
      if (absl::IsNotFound(status)) continue;  // closed meanwhile
      if (!status.ok()) return status;
      ++count;
    }
  }
  if (!unknown.ok()) return unknown;
  return count;
}

}  // namespace kveil::intercept
