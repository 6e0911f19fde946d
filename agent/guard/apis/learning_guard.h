// Metadata, FindCoordinator, DescribeCluster, CreateTopics, DescribeTopicPartitions and whatever else
// is read for no more than this: topic ids and brokers are learned before the client hears of them. Responses stay
// unchanged, except for brokers that cannot be learned.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "guard/apis/api_guard.h"
#include "guard/apis/decoded.h"
#include "guard/apis/message_output.h"
#include "guard/learn/advertised_brokers.h"
#include "io/turn.h"

namespace kveil::guard {

// A response that tells which name belongs to which topic id (KIP-516).
template <class Response>
concept NamesTopicIds = requires(const Response& response) {
  response.topics.front().topicId;
  response.topics.front().name;
};

// To read one more API for its brokers or topic ids, describe its response in kafka/messages and add a row in
// guarded_apis.cc.
template <class Response>
class LearningGuard : public ApiGuard<Response> {
 public:
  static constexpr bool kLearnsBrokers = NamesBrokers<Response>;
  static constexpr bool kLearnsTopicIds = NamesTopicIds<Response>;
  static_assert(kLearnsBrokers || kLearnsTopicIds, "nothing in the response that the guard would know how to learn");

  using ApiGuard<Response>::ApiGuard;

  io::Task<proxy::RequestVerdict> OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                            proxy::FrameOutput&) override {
    if (!Response::kVersions.Contains(request.header.version)) {
      co_return CloseOnVersion(request.header, this->shared_.metrics);
    }
    co_return proxy::RequestVerdict::Forward().WantResponse();
  }

  io::Task<proxy::ResponseVerdict> OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                              proxy::FrameOutput& output) override {
    Decoded<Response> decoded(response, output, this->shared_.metrics);
    if (!decoded.ok()) co_return decoded.Close();
    if constexpr (kLearnsTopicIds) {
      auto learningTopics = LearnTopics(*decoded);
      co_await std::move(learningTopics);
    }
    if constexpr (kLearnsBrokers) {
      auto learningBrokers = LearnBrokers(this->shared_.brokers, this->loop_, this->connection_, *decoded);
      const bool changed = co_await std::move(learningBrokers);
      if (changed) co_return RewriteResponse(response, *decoded, output);
    }
    co_return proxy::ResponseVerdict::Forward();
  }

 private:
  io::Task<void> LearnTopics(const Response& response) {
    io::Turn turn(this->loop_);
    for (const auto& topic : response.topics) {
      co_await turn.Pause();
      const std::optional<std::string_view> name = topic.name;
      if (name.has_value()) this->shared_.topicNames.Learn(topic.topicId, *name, this->connection_);
    }
  }
};

}  // namespace kveil::guard
