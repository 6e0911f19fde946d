// Every message that kveil reads, in every version: what is read and written again is read and written alike.
// The first byte picks the message, the second the version, the rest is the body.
#include <array>
#include <string>

#include "base/text.h"
#include "fuzz.h"
#include "kafka/frame_writer.h"
#include "kafka/messages/api_versions.h"
#include "kafka/messages/create_topics.h"
#include "kafka/messages/describe_cluster.h"
#include "kafka/messages/describe_configs.h"
#include "kafka/messages/describe_topic_partitions.h"
#include "kafka/messages/fetch.h"
#include "kafka/messages/find_coordinator.h"
#include "kafka/messages/metadata.h"
#include "kafka/messages/produce.h"
#include "kafka/messages/sasl.h"
#include "kafka/messages/share_acknowledge.h"
#include "kafka/messages/share_fetch.h"
#include "message_text.h"

namespace kveil::fuzz {
namespace {

template <class Message>
std::string TextOf(const Message& message, int16_t version) {
  MessageText text(version);
  Describe(text, message);
  return text.text();
}

template <class Message>
void CheckMessage(Input input) {
  const kafka::VersionRange versions = Message::kVersions;
  const auto version = static_cast<int16_t>(versions.min + input.Byte() % (versions.max - versions.min + 1));
  const auto message = kafka::Decode<Message>(input.rest(), version);
  if (!message.ok()) {
    Check(!message.status().message().empty(), "a message that is refused is refused with words");
    return;
  }
  kafka::FrameWriter writer;
  kafka::Encode(*message, version, writer);
  const ByteBuffer first = writer.ToBuffer();
  // A known tagged field with its default value is left out, and a varint may have been longer than it needed to be.
  Check(first.size() <= input.rest().size(), "a message does not grow by being written again");
  const auto again = kafka::Decode<Message>(first, version);
  Check(again.ok(), StrCat("a message that was written can be read: ", Message::kName));
  Check(TextOf(*again, version) == TextOf(*message, version),
        StrCat("a message that was written is read as the same: ", Message::kName));
  kafka::FrameWriter second;
  kafka::Encode(*again, version, second);
  Check(second.ToBuffer() == first, StrCat("a message is written alike the second time: ", Message::kName));
}

using CheckFunction = void (*)(Input);
// New ones at the end: the corpus knows them by number.
constexpr std::array<CheckFunction, 22> kMessages = {
    CheckMessage<kafka::ProduceRequest>,
    CheckMessage<kafka::ProduceResponse>,
    CheckMessage<kafka::FetchRequest>,
    CheckMessage<kafka::FetchResponse>,
    CheckMessage<kafka::MetadataRequest>,
    CheckMessage<kafka::MetadataResponse>,
    CheckMessage<kafka::ApiVersionsRequest>,
    CheckMessage<kafka::ApiVersionsResponse>,
    CheckMessage<kafka::FindCoordinatorResponse>,
    CheckMessage<kafka::DescribeClusterResponse>,
    CheckMessage<kafka::CreateTopicsResponse>,
    CheckMessage<kafka::DescribeConfigsRequest>,
    CheckMessage<kafka::DescribeConfigsResponse>,
    CheckMessage<kafka::DescribeTopicPartitionsResponse>,
    CheckMessage<kafka::SaslHandshakeRequest>,
    CheckMessage<kafka::SaslHandshakeResponse>,
    CheckMessage<kafka::SaslAuthenticateRequest>,
    CheckMessage<kafka::SaslAuthenticateResponse>,
    CheckMessage<kafka::ShareFetchRequest>,
    CheckMessage<kafka::ShareFetchResponse>,
    CheckMessage<kafka::ShareAcknowledgeResponse>,
    CheckMessage<kafka::ShareAcknowledgeRequest>,
};

}  // namespace

void Run(Bytes bytes) {
  Input input(bytes);
  const size_t message = input.Byte() % kMessages.size();
  kMessages[message](input);
}

}  // namespace kveil::fuzz
