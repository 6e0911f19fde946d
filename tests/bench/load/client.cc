#include "load/client.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "base/status_macros.h"
#include "base/text.h"
#include "batches.h"
#include "kafka/big_endian.h"
#include "kafka/frame.h"
#include "load/requests.h"

namespace kveil::load {
namespace {

constexpr auto kPatience = std::chrono::seconds(30);

absl::Status SystemError(std::string_view what) {
  return absl::UnavailableError(StrCat(what, ": ", std::strerror(errno)));
}

// The leaders of partitions 0 to `partitions` - 1. kUnavailable: some have none yet.
absl::StatusOr<std::vector<SocketAddress>> Leaders(Client& client, const std::string& topic, int32_t partitions) {
  ASSIGN_OR_RETURN(const Bytes answer, client.Call(MetadataRequest(topic)));
  ASSIGN_OR_RETURN(const auto metadata, ReadAnswer<kafka::MetadataResponse>(answer, kMetadataVersion));
  std::vector<SocketAddress> leaders;
  for (int32_t index = 0; index < partitions && metadata.topics.size() == 1; ++index) {
    for (const auto& partition : metadata.topics[0].partitions) {
      if (partition.partitionIndex != index || partition.errorCode != kafka::ErrorCode::kNone) continue;
      for (const auto& broker : metadata.brokers) {
        if (broker.nodeId != partition.leaderId) continue;
        ASSIGN_OR_RETURN(leaders.emplace_back(), Resolve(StrCat("[", broker.host, "]:", broker.port)));
      }
    }
  }
  if (leaders.size() == static_cast<size_t>(partitions)) return leaders;
  return absl::UnavailableError(StrCat(leaders.size(), " of ", partitions, " partitions of ", topic, " have a leader"));
}

// Calls it until it returns something else than kUnavailable, or the time is over.
template <typename Attempt>
auto Patiently(Attempt&& attempt) {
  const auto limit = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    auto result = attempt();
    if (!absl::IsUnavailable(result.status()) || std::chrono::steady_clock::now() > limit) return result;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

absl::StatusOr<int64_t> ProduceOne(const SocketAddress& leader, const std::string& topic, int32_t partition,
                                   std::string_view value) {
  ASSIGN_OR_RETURN(Client client, Client::Connect(leader));
  const ByteBuffer batch = kafka::MakeBatch(1, [&](int32_t) { return value; });
  ASSIGN_OR_RETURN(const Bytes answer, client.Call(ProduceRequest(topic, partition, -1, batch)));
  return ProducedOffset(answer);
}

}  // namespace

absl::StatusOr<SocketAddress> Resolve(std::string_view hostAndPort) {
  const size_t colon = hostAndPort.rfind(':');
  if (colon == std::string_view::npos) return absl::InvalidArgumentError(StrCat(hostAndPort, " is not HOST:PORT"));
  std::string host(hostAndPort.substr(0, colon));
  const std::string port(hostAndPort.substr(colon + 1));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int problem = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found); problem != 0) {
    return absl::NotFoundError(StrCat(hostAndPort, ": ", ::gai_strerror(problem)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  return SocketAddress::From(found->ai_addr, found->ai_addrlen);
}

absl::StatusOr<Client> Client::Connect(const SocketAddress& broker) {
  UniqueFd fd(::socket(broker.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  const timeval patience{.tv_sec = kPatience.count()};
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  if (::connect(fd.get(), broker.get(), broker.size()) != 0) return SystemError(StrCat("connect to ", broker.Text()));
  return Client(std::move(fd));
}

absl::StatusOr<Bytes> Client::Call(Bytes request) {
  while (!request.empty()) {
    const ssize_t sent = ::send(fd_.get(), request.data(), request.size(), MSG_NOSIGNAL);
    if (sent < 0) return SystemError("send");
    request.remove_prefix(static_cast<size_t>(sent));
  }
  uint8_t length[sizeof(int32_t)];
  RETURN_IF_ERROR(Receive(MutableBytes(length, sizeof(length))));
  const auto size = kafka::LoadBigEndian<uint32_t>(length);
  if (size > kafka::kMaxRequestSize) return absl::InternalError("an answer is too long");
  answer_.resize(size);
  RETURN_IF_ERROR(Receive(absl::MakeSpan(answer_)));
  return Bytes(answer_);
}

absl::Status Client::Receive(MutableBytes all) {
  while (!all.empty()) {
    const ssize_t size = ::recv(fd_.get(), all.data(), all.size(), 0);
    if (size < 0) return SystemError("receive");
    if (size == 0) return absl::UnavailableError("the broker closed the connection");
    all.remove_prefix(static_cast<size_t>(size));
  }
  return absl::OkStatus();
}

absl::StatusOr<Topic> PrepareTopic(const SocketAddress& bootstrap, const std::string& name, int32_t partitions,
                                   std::string_view value) {
  ASSIGN_OR_RETURN(Client client, Client::Connect(bootstrap));
  ASSIGN_OR_RETURN(const Bytes created, client.Call(CreateTopicRequest(name, partitions)));
  RETURN_IF_ERROR(CheckCreated(created));
  Topic topic{.name = name};
  ASSIGN_OR_RETURN(topic.leaders, Patiently([&] { return Leaders(client, name, partitions); }));
  for (int32_t i = 0; i < partitions; ++i) {
    const SocketAddress& leader = topic.leaders[static_cast<size_t>(i)];
    ASSIGN_OR_RETURN(const int64_t offset, Patiently([&] { return ProduceOne(leader, name, i, value); }));
    topic.ends.push_back(offset + 1);
  }
  return topic;
}

}  // namespace kveil::load
