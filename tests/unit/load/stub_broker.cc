#include "stub_broker.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "kafka/big_endian.h"
#include "kafka/frame.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"

namespace kveil::load {
namespace {

using kafka::ApiKey;

constexpr int32_t kPartitions = 8;

template <class Message>
Message Decoded(Bytes request, const kafka::RequestHeader& header) {
  return *kafka::Decode<Message>(request.subspan(header.size), header.version);
}

template <class Message>
ByteBuffer Answer(const Message& message, const kafka::RequestHeader& header) {
  kafka::FrameWriter writer;
  writer.BeginFrame();
  kafka::WriteResponseHeader(header.apiKey, header.version, header.correlationId, writer);
  kafka::Encode(message, header.version, writer);
  writer.FinishFrame();
  return writer.ToBuffer();
}

struct Connection {
  UniqueFd fd;
  ByteBuffer received;
};

}  // namespace

StubBroker::StubBroker(Manner manner)
    : manner_(manner), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), stop_(::eventfd(0, EFD_CLOEXEC)) {
  const SocketAddress any = SocketAddress::V4(htonl(INADDR_LOOPBACK), 0);
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  if (::bind(listener_.get(), any.get(), any.size()) != 0 || ::listen(listener_.get(), 1024) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&bound), &length) != 0) {
    std::abort();
  }
  address_ = SocketAddress::V4(htonl(INADDR_LOOPBACK), ntohs(bound.sin_port));
  thread_ = std::thread([this] { Serve(); });
}

StubBroker::~StubBroker() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void StubBroker::Serve() {
  std::vector<Connection> connections;
  std::vector<uint8_t> buffer(1 << 20);
  for (;;) {
    std::vector<pollfd> polled{{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
    for (const Connection& each : connections) polled.push_back({each.fd.get(), POLLIN, 0});
    ::poll(polled.data(), polled.size(), -1);
    if (polled[0].revents != 0) return;
    for (size_t i = connections.size(); i-- > 0;) {
      if (polled[2 + i].revents == 0) continue;
      Connection& from = connections[i];
      const ssize_t size = ::recv(from.fd.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0) {
        connections.erase(connections.begin() + static_cast<ptrdiff_t>(i));
        continue;
      }
      Append(from.received, Bytes(buffer.data(), static_cast<size_t>(size)));
      Bytes left = from.received;
      while (left.size() >= 4 && left.size() - 4 >= kafka::LoadBigEndian<uint32_t>(left.data())) {
        const Bytes request = left.subspan(4, kafka::LoadBigEndian<uint32_t>(left.data()));
        const ByteBuffer answer = AnswerTo(request);
        ::send(from.fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
        left.remove_prefix(4 + request.size());
      }
      from.received = ByteBuffer(left.begin(), left.end());
    }
    if (polled[1].revents == 0) continue;
    UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (connections.size() < static_cast<size_t>(manner_.mostConnections)) {
      connections.push_back({std::move(accepted), {}});
    }
  }
}

ByteBuffer StubBroker::AnswerTo(Bytes request) {
  const kafka::RequestHeader header = *kafka::ReadRequestHeader(request);
  if (header.apiKey == ApiKey::kApiVersions) return Answer(kafka::ApiVersionsResponse(), header);
  if (header.apiKey == ApiKey::kCreateTopics) {
    kafka::CreateTopicsResponse response;
    response.topics.push_back({.name = "t"});
    return Answer(response, header);
  }
  if (header.apiKey == ApiKey::kMetadata) {
    kafka::MetadataResponse response;
    response.brokers.push_back({.nodeId = 7, .host = "127.0.0.1", .port = address_.port()});
    response.topics.resize(1);
    response.topics[0].name = "t";
    for (int32_t i = 0; i < kPartitions; ++i) {
      response.topics[0].partitions.push_back({.partitionIndex = i, .leaderId = 7});
    }
    return Answer(response, header);
  }
  const auto produce = Decoded<kafka::ProduceRequest>(request, header);
  if (produced_++ == manner_.stallsAfter) std::this_thread::sleep_for(manner_.stall);
  kafka::ProduceResponse response;
  response.responses.resize(1);
  response.responses[0].name = produce.topicData[0].name;
  response.responses[0].partitionResponses.resize(1);
  auto& partition = response.responses[0].partitionResponses[0];
  partition.index = produce.topicData[0].partitionData[0].index;
  partition.baseOffset = offset_++;
  if (manner_.failsAfter >= 0 && produced_ > manner_.failsAfter) partition.errorCode = manner_.error;
  return Answer(response, header);
}

}  // namespace kveil::load
