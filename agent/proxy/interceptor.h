// The only interface between proxy/ and guard/: how the proxy sees what reads and changes messages.
//
// An interceptor belongs to one connection and names the API keys it wants. The proxy gives it each such request whole
// and does what the verdict says. The interceptor gets the response to that request if it asks for it. Messages that no
// interceptor wants are relayed as bytes and never held whole. If their API or version is not one of Kafka up to 4.4,
// they end the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "io/loop.h"
#include "io/task.h"
#include "kafka/api.h"
#include "kafka/frame.h"
#include "kafka/frame_writer.h"
#include "proxy/arena.h"
#include "proxy/connection_info.h"

namespace kveil::proxy {

// The version of what follows SaslHandshake version 0: SASL tokens instead of SaslAuthenticate messages. A token has a
// length but no header. An interceptor of SaslAuthenticate gets it with an empty header.
inline constexpr int16_t kBareToken = -1;
// The largest SASL token, bare or not. Brokers take no more before they know the client
// (sasl.server.max.receive.size).
inline constexpr size_t kMostTokenBytes = 512 << 10;

// A request or response as it came: `frame` is everything after the int32 length, `body` what follows the header.
struct RequestFrame {
  kafka::RequestHeader header;
  Bytes frame;
  Bytes body;
};
struct ResponseFrame {
  kafka::ApiKey apiKey;
  int16_t version = 0;
  int32_t correlationId = 0;
  Bytes frame;
  Bytes body;

  Bytes header() const { return frame.first(frame.size() - body.size()); }
};

// Where a changed message is written. `writer` is empty; buffers of `arena` live until the frame has been sent.
struct FrameOutput {
  FrameOutput(kafka::FrameWriter& writer, Arena& arena) : writer(writer), arena(arena) {}
  kafka::FrameWriter& writer;
  Arena& arena;
};

// What an interceptor remembers between a request and its response.
class RequestState {
 public:
  virtual ~RequestState() = default;

  // Asked while the response arrives. When it is not wanted any more, it is relayed as bytes.
  virtual bool WantsResponse() { return true; }
  // About how much memory this takes. It counts towards what a connection may owe.
  virtual size_t bytes() const { return 256; }
};

class RequestVerdict {
 public:
  enum class Action {
    kForward,  // as it came
    kRewrite,  // forward what was written to the output: a whole frame, length included
    kAnswer,   // do not forward; the output holds the whole response frame
    kClose,    // close the connection; `reason` says why
  };
  static RequestVerdict Forward() { return RequestVerdict(Action::kForward); }
  static RequestVerdict Rewrite() { return RequestVerdict(Action::kRewrite); }
  static RequestVerdict Answer() { return RequestVerdict(Action::kAnswer); }
  static RequestVerdict Close(std::string reason) {
    RequestVerdict verdict(Action::kClose);
    verdict.reason = std::move(reason);
    return verdict;
  }

  // Asks for the response to this request, with this memory of it.
  RequestVerdict&& WantResponse(std::unique_ptr<RequestState> kept = nullptr) && {
    wantResponse = true;
    state = std::move(kept);
    return std::move(*this);
  }
  // The broker does not answer this request (Produce with acks=0).
  RequestVerdict&& NoResponse() && {
    expectResponse = false;
    return std::move(*this);
  }

  // The next `count` requests are bare SASL tokens, each answered by another token. The proxy takes each only when
  // every request before it has been answered, because it never looks into a token: the interceptor must first see that
  // the broker accepted the handshake, and close the connection otherwise. It also wants SaslAuthenticate.
  RequestVerdict&& ThenBareTokens(int count) && {
    bareTokens = count;
    return std::move(*this);
  }

  Action action;
  bool wantResponse = false;
  bool expectResponse = true;
  int bareTokens = 0;
  std::unique_ptr<RequestState> state;
  std::string reason;

 private:
  explicit RequestVerdict(Action action) : action(action) {}
};

class ResponseVerdict {
 public:
  enum class Action { kForward, kRewrite, kClose };
  static ResponseVerdict Forward() { return ResponseVerdict(Action::kForward); }
  static ResponseVerdict Rewrite() { return ResponseVerdict(Action::kRewrite); }
  static ResponseVerdict Close(std::string reason) {
    ResponseVerdict verdict(Action::kClose);
    verdict.reason = std::move(reason);
    return verdict;
  }

  Action action;
  std::string reason;

 private:
  explicit ResponseVerdict(Action action) : action(action) {}
};

// What an interceptor may ask of its connection while it handles a request.
class Upstream {
 public:
  virtual ~Upstream() = default;

  // Sends a request of the agent's own ahead of the one being handled and returns the response's body, whose bytes stay
  // valid until the next Ask. The broker counts it for `clientId`; `write` writes the request's body.
  virtual io::Task<absl::StatusOr<Bytes>> Ask(kafka::ApiKey apiKey, int16_t version,
                                              std::optional<std::string_view> clientId,
                                              std::function<void(kafka::FrameWriter&)> write) = 0;

  // Whether the application has closed its connection. It will then repeat on another what was not answered.
  virtual bool IsApplicationGone() = 0;
};

class Interceptor {
 public:
  virtual ~Interceptor() = default;

  // The API keys whose requests this interceptor handles; each belongs to at most one interceptor of a connection.
  virtual std::vector<kafka::ApiKey> Wants() const = 0;

  // Called in the order of the requests; the next request waits until this one has its verdict.
  virtual io::Task<RequestVerdict> OnRequest(const RequestFrame& request, Upstream& upstream, FrameOutput& output) = 0;

  // Called in the order of the responses, for requests whose verdict wanted it.
  virtual io::Task<ResponseVerdict> OnResponse(const ResponseFrame& response, RequestState* state,
                                               FrameOutput& output) = 0;
};

}  // namespace kveil::proxy
