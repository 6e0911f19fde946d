// Which request each response of a connection belongs to. Kafka answers in the order of the requests, so this is a
// queue.
#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "io/event.h"
#include "kafka/api.h"
#include "proxy/interceptor.h"

namespace kveil::proxy {

// The broker's answer to a request of the agent, for the coroutine that waits for it.
struct OwnAnswer {
  ByteBuffer frame;
  bool failed = false;
  io::Event arrived;
};

struct PendingResponse {
  enum class Kind {
    kRelay,      // the bytes go on as they come
    kIntercept,  // an interceptor sees it first
    kLocal,      // the agent's own answer to the application: nothing comes from the broker
    kOwn,        // the broker's answer to the agent itself: nothing goes to the application
  };
  PendingResponse(Kind kind, kafka::ApiKey apiKey, int16_t version, int32_t correlationId)
      : kind(kind), apiKey(apiKey), version(version), correlationId(correlationId) {}

  // Memory that it takes now.
  size_t bytes() const { return sizeof(*this) + answer.size() + (state == nullptr ? 0 : state->bytes()); }

  // It has no header, so also no correlation id.
  bool isBareToken() const { return version == kBareToken && apiKey == kafka::ApiKey::kSaslAuthenticate; }

  Kind kind;
  kafka::ApiKey apiKey;
  int16_t version;
  int32_t correlationId;
  Interceptor* interceptor = nullptr;   // kIntercept
  std::unique_ptr<RequestState> state;  // kIntercept
  ByteBuffer answer;                    // kLocal: the whole frame
  OwnAnswer* own = nullptr;             // kOwn
  size_t counted = 0;                   // bytes(), when it was put into the queue
};

using PendingResponses = std::deque<PendingResponse>;

}  // namespace kveil::proxy
