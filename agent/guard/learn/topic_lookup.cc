#include "guard/learn/topic_lookup.h"

#include <utility>

#include "kafka/messages/metadata.h"

namespace kveil::guard {
namespace {

constexpr int16_t kVersion = kafka::MetadataRequest::kFirstVersionByTopicId;
constexpr std::chrono::seconds kAskAgain{1};  // for what the broker did not know

}  // namespace

io::Task<void> TopicLookup::Learn(std::vector<kafka::TopicId> ids, proxy::Upstream& upstream) {
  const auto now = std::chrono::steady_clock::now();
  if (now - since_ >= kAskAgain) unknown_.clear();
  kafka::MetadataRequest ask;
  ask.allowAutoTopicCreation = false;
  absl::flat_hash_set<kafka::TopicId> asked;
  for (const kafka::TopicId& id : ids) {
    if (ask.topics->size() == kMostAskedAtOnce) break;
    if (id.IsZero() || asked.contains(id) || unknown_.contains(id) || names_.Find(id, connection_, now).has_value())
      continue;
    if (unknown_.empty()) since_ = now;
    if (unknown_.size() < kMostUnknown) unknown_.insert(id);
    asked.insert(id);
    ask.topics->emplace_back().topicId = id;
  }
  if (ask.topics->empty()) co_return;
  std::function<void(kafka::FrameWriter&)> write = [&ask](kafka::FrameWriter& writer) {
    kafka::Encode(ask, kVersion, writer);
  };
  auto asking = upstream.Ask(kafka::ApiKey::kMetadata, kVersion, "kveil", std::move(write));
  const absl::StatusOr<Bytes> answer = co_await std::move(asking);
  if (!answer.ok()) co_return;
  const absl::StatusOr<kafka::MetadataResponse> metadata = kafka::Decode<kafka::MetadataResponse>(*answer, kVersion);
  if (!metadata.ok()) co_return;
  // What was not asked for is not looked at, however much there is of it.
  if (metadata->topics.size() > ask.topics->size()) co_return;
  for (const kafka::MetadataResponse::Topic& topic : metadata->topics) {
    if (!topic.name.has_value()) continue;
    names_.Learn(topic.topicId, *topic.name, connection_, now);
    unknown_.erase(topic.topicId);
  }
}

}  // namespace kveil::guard
