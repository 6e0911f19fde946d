// One SASL exchange as it passes by: whom the client claims to be, and when the broker has taken that for true.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kveil::guard {

// PLAIN (RFC 4616), SCRAM-SHA-256 and -512 (RFC 5802, 7677), OAUTHBEARER (RFC 7628); of other mechanisms no principal
// is ever known. Nothing secret is kept: of each token only the name in it.
class SaslExchange {
 public:
  SaslExchange() = default;
  explicit SaslExchange(std::string_view mechanism);

  // How many tokens a client of this mechanism sends, each of which is answered; 0: not known beforehand.
  int tokensOfClient() const;

  // Returns the token's number in the exchange, from 1.
  int OnClientToken(Bytes token);
  // The answer, without an error, to the client's token of that number. True when it is the one that accepts the
  // client.
  bool IsAcceptance(int clientToken, Bytes token) const;

  // The name claimed; empty where the mechanism or the token tells none (a delegation token names its owner to the
  // broker only).
  const std::string& name() const { return name_; }
  const std::string& mechanism() const { return mechanism_; }
  // Memory that it takes beyond itself.
  size_t bytes() const { return mechanism_.size() + name_.size(); }

 private:
  enum class Kind { kUnknown, kPlain, kScram, kOauthBearer };

  std::string mechanism_;  // its beginning, if it is none of these
  Kind kind_ = Kind::kUnknown;
  int clientTokens_ = 0;
  std::string name_;
};

}  // namespace kveil::guard
