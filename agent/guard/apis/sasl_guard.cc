#include "guard/apis/sasl_guard.h"

#include "base/log.h"
#include "base/text.h"
#include "kafka/messages/sasl.h"

namespace kveil::guard {

using proxy::RequestVerdict;
using proxy::ResponseVerdict;

namespace {

// The name in a token is kept with the connection. No broker has users with longer ones.
constexpr size_t kMostNameBytes = 1 << 10;

}  // namespace

struct SaslGuard::State : proxy::RequestState {
  // A later handshake of the connection begins another exchange, and leaves this one to the answers that it waits for.
  size_t bytes() const override { return sizeof(*this) + sizeof(*exchange) + exchange->bytes(); }

  std::shared_ptr<SaslExchange> exchange;
  int clientToken = 0;
};

io::Task<RequestVerdict> SaslGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                              proxy::FrameOutput&) {
  if (request.header.apiKey == kafka::ApiKey::kSaslHandshake) co_return OnHandshake(request);
  Bytes token = request.body;
  if (request.header.version != proxy::kBareToken) {
    const auto decoded = kafka::Decode<kafka::SaslAuthenticateRequest>(request.body, request.header.version);
    // The error names no byte of the message.
    if (!decoded.ok()) co_return RequestVerdict::Close(std::string(decoded.status().message()));
    token = decoded->authBytes;
  }
  if (token.size() > proxy::kMostTokenBytes)
    co_return RequestVerdict::Close(StrCat("a SASL token of ", token.size(), " bytes"));
  auto state = std::make_unique<State>();
  state->exchange = exchange_;
  state->clientToken = exchange_->OnClientToken(token);
  if (const size_t size = exchange_->name().size(); size > kMostNameBytes) {
    co_return RequestVerdict::Close(
        StrCat("a SASL token with a user's name of ", size, " bytes; at most ", kMostNameBytes, " are taken"));
  }
  co_return RequestVerdict::Forward().WantResponse(std::move(state));
}

RequestVerdict SaslGuard::OnHandshake(const proxy::RequestFrame& request) {
  const auto decoded = kafka::Decode<kafka::SaslHandshakeRequest>(request.body, request.header.version);
  if (!decoded.ok()) return RequestVerdict::Close(std::string(decoded.status().message()));
  exchange_ = std::make_shared<SaslExchange>(decoded->mechanism);
  if (request.header.version >= kafka::SaslHandshakeRequest::kFirstVersionWithAuthenticate) {
    return RequestVerdict::Forward();
  }
  // Bare tokens follow, and nothing in them says which is the last: that must be known beforehand.
  const int tokens = exchange_->tokensOfClient();
  if (tokens > 0) return RequestVerdict::Forward().WantResponse().ThenBareTokens(tokens);
  return RequestVerdict::Close(StrCat("SaslHandshake version 0 with the mechanism ", decoded->mechanism.substr(0, 40),
                                      ": that is supported with version 1 only"));
}

io::Task<ResponseVerdict> SaslGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState* state,
                                                proxy::FrameOutput&) {
  if (response.apiKey == kafka::ApiKey::kSaslHandshake) {
    // A broker that is not waiting for a handshake says so and goes on: what follows would be requests and no tokens.
    const auto decoded = kafka::Decode<kafka::SaslHandshakeResponse>(response.body, response.version);
    if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
    if (decoded->errorCode == kafka::ErrorCode::kNone) co_return ResponseVerdict::Forward();
    co_return ResponseVerdict::Close(
        StrCat("the broker refused SaslHandshake version 0 with error ", static_cast<int>(decoded->errorCode)));
  }
  const auto& asked = static_cast<const State&>(*state);
  Bytes token = response.body;
  if (response.version != proxy::kBareToken) {
    const auto decoded = kafka::Decode<kafka::SaslAuthenticateResponse>(response.body, response.version);
    if (!decoded.ok()) co_return ResponseVerdict::Close(std::string(decoded.status().message()));
    if (decoded->errorCode != kafka::ErrorCode::kNone) co_return ResponseVerdict::Forward();
    token = decoded->authBytes;
  }
  if (!asked.exchange->IsAcceptance(asked.clientToken, token)) co_return ResponseVerdict::Forward();
  const std::string& name = asked.exchange->name();
  if (name.empty() || name == client_->principal) co_return ResponseVerdict::Forward();
  client_->principal = name;
  log::Info("connection.authenticated", {{"id", connection_.id},
                                         {"share", connection_.workload.share},
                                         {"mechanism", asked.exchange->mechanism()},
                                         {"principal", name}});
  co_return ResponseVerdict::Forward();
}

}  // namespace kveil::guard
