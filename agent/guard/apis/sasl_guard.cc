#include "guard/apis/sasl_guard.h"

#include <memory>
#include <utility>

#include "base/log.h"
#include "base/text.h"
#include "guard/apis/decoded.h"

namespace kveil::guard {

using kafka::SaslAuthenticateRequest;
using kafka::SaslAuthenticateResponse;
using kafka::SaslHandshakeRequest;
using kafka::SaslHandshakeResponse;
using proxy::RequestVerdict;
using proxy::ResponseVerdict;

namespace {

// The name in a token is kept with the connection. No broker has users with longer ones.
constexpr size_t kMostNameBytes = 1 << 10;

}  // namespace

io::Task<RequestVerdict> SaslHandshakeGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                       proxy::FrameOutput& output) {
  Decoded<SaslHandshakeRequest> decoded(request, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  client_->exchange = std::make_shared<SaslExchange>(decoded->mechanism);
  client_->principal.clear();  // it may be another (KIP-368), before its first answer
  connection_.tally->principal.clear();
  if (request.header.version >= SaslHandshakeRequest::kFirstVersionWithAuthenticate) {
    co_return RequestVerdict::Forward();
  }
  // Bare tokens follow, and nothing in them says which is the last: that must be known beforehand.
  const int tokens = client_->exchange->tokensOfClient();
  if (tokens > 0) co_return RequestVerdict::Forward().WantResponse().ThenBareTokens(tokens);
  co_return RequestVerdict::Close(StrCat("SaslHandshake version 0 with the mechanism ",
                                         decoded->mechanism.substr(0, 40), ": that is supported with version 1 only"));
}

io::Task<ResponseVerdict> SaslHandshakeGuard::OnResponse(const proxy::ResponseFrame& response, proxy::RequestState*,
                                                         proxy::FrameOutput& output) {
  // A broker that is not waiting for a handshake says so and goes on: what follows would be requests and no tokens.
  Decoded<SaslHandshakeResponse> decoded(response, output, shared_.metrics);
  if (!decoded.ok()) co_return decoded.Close();
  if (decoded->errorCode == kafka::ErrorCode::kNone) co_return ResponseVerdict::Forward();
  co_return ResponseVerdict::Close(
      StrCat("the broker refused SaslHandshake version 0 with error ", static_cast<int>(decoded->errorCode)));
}

struct SaslAuthenticateGuard::State : proxy::RequestState {
  // A later handshake of the connection begins another exchange, and leaves this one to the answers that it waits for.
  size_t bytes() const override { return sizeof(*this) + sizeof(*exchange) + exchange->bytes(); }

  std::shared_ptr<SaslExchange> exchange;
  int clientToken = 0;
};

io::Task<RequestVerdict> SaslAuthenticateGuard::OnRequest(const proxy::RequestFrame& request, proxy::Upstream&,
                                                          proxy::FrameOutput& output) {
  Bytes token = request.body;
  if (request.header.version != proxy::kBareToken) {
    // If it closes, the reason names no byte of the message.
    Decoded<SaslAuthenticateRequest> decoded(request, output, shared_.metrics);
    if (!decoded.ok()) co_return decoded.Close();
    token = decoded->authBytes;
  }
  if (token.size() > proxy::kMostTokenBytes)
    co_return RequestVerdict::Close(StrCat("a SASL token of ", token.size(), " bytes"));
  auto state = std::make_unique<State>();
  state->exchange = client_->exchange;
  state->clientToken = state->exchange->OnClientToken(token);
  if (const size_t size = state->exchange->name().size(); size > kMostNameBytes) {
    co_return RequestVerdict::Close(
        StrCat("a SASL token with a user's name of ", size, " bytes; at most ", kMostNameBytes, " are taken"));
  }
  co_return RequestVerdict::Forward().WantResponse(std::move(state));
}

io::Task<ResponseVerdict> SaslAuthenticateGuard::OnResponse(const proxy::ResponseFrame& response,
                                                            proxy::RequestState* state, proxy::FrameOutput& output) {
  const auto& asked = static_cast<const State&>(*state);
  Bytes token = response.body;
  if (response.version != proxy::kBareToken) {
    Decoded<SaslAuthenticateResponse> decoded(response, output, shared_.metrics);
    if (!decoded.ok()) co_return decoded.Close();
    if (decoded->errorCode != kafka::ErrorCode::kNone) co_return ResponseVerdict::Forward();
    token = decoded->authBytes;
  }
  // An earlier exchange than the one that the client is in says nothing of who it is.
  const bool isLatest = asked.exchange == client_->exchange;
  if (isLatest && asked.exchange->IsAcceptance(asked.clientToken, token)) LearnPrincipal(*asked.exchange);
  co_return ResponseVerdict::Forward();
}

void SaslAuthenticateGuard::LearnPrincipal(const SaslExchange& exchange) {
  const std::string& name = exchange.name();
  client_->principal = name;
  connection_.tally->principal = name;
  if (name.empty() || name == logged_) return;
  logged_ = name;
  log::Info("connection.authenticated", {{"id", connection_.id},
                                         {"share", connection_.workload.share},
                                         {"mechanism", exchange.mechanism()},
                                         {"principal", name}});
}

}  // namespace kveil::guard
