// One SASL exchange as it passes: who the client claims to be, and when the broker has accepted that.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kveil::guard {

// PLAIN (RFC 4616), SCRAM-SHA-256 and -512 (RFC 5802, 7677), OAUTHBEARER (RFC 7628). With other mechanisms the
// principal stays unknown. Keeps nothing secret: only the name that is in the first token.
class SaslExchange {
 public:
  SaslExchange() = default;
  explicit SaslExchange(std::string_view mechanism);

  // How many tokens a client of this mechanism sends. The broker answers each. 0: not known beforehand.
  int tokensOfClient() const;

  // Returns the number of the token in the exchange, counted from 1.
  int OnClientToken(Bytes token);
  // `token` is the broker's answer, without an error, to the client's token of that number. Returns whether it accepts
  // the client.
  bool IsAcceptance(int clientToken, Bytes token) const;

  // The name that the client claims. Empty if the mechanism or the token does not tell it (a delegation token names its
  // owner to the broker only).
  const std::string& name() const { return name_; }
  const std::string& mechanism() const { return mechanism_; }
  // Memory in bytes, without the object itself.
  size_t bytes() const { return mechanism_.size() + name_.size(); }

 private:
  enum class Kind { kUnknown, kPlain, kScram, kOauthBearer };

  std::string mechanism_;  // its beginning, if it is none of these
  Kind kind_ = Kind::kUnknown;
  int clientTokens_ = 0;
  std::string name_;
};

}  // namespace kveil::guard
