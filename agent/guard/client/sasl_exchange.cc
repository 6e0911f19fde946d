#include "guard/client/sasl_exchange.h"

#include <simdjson.h>

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::guard {
namespace {

constexpr size_t kMostOfAMechanism = 40;  // bytes that are kept of its name

// The text between two marks, empty where they are not there.
std::string_view Between(std::string_view text, std::string_view before, char after) {
  const size_t start = text.find(before);
  if (start == std::string_view::npos) return {};
  const std::string_view rest = text.substr(start + before.size());
  return rest.substr(0, rest.find(after));
}

// [authorization id] NUL authentication id NUL password.
std::string NameInPlain(std::string_view token) {
  const size_t first = token.find('\0');
  if (first == std::string_view::npos) return {};
  const size_t second = token.find('\0', first + 1);
  if (second == std::string_view::npos) return {};
  return std::string(token.substr(first + 1, second - first - 1));
}

// client-first-message: "n,[a=...],n=name,r=nonce[,extensions]". In the name ',' and '=' are escaped.
std::string NameInScram(std::string_view token) {
  const size_t header = token.find(',', token.find(',') + 1);
  if (token.find(',') == std::string_view::npos || header == std::string_view::npos) return {};
  std::string_view name;
  for (const absl::string_view part : absl::StrSplit(ToAbsl(token.substr(header + 1)), ',')) {
    if (absl::EqualsIgnoreCase(part, "tokenauth=true")) return {};  // brokers take "TRUE", too
    if (name.empty() && part.substr(0, 2) == "n=") name = ToStd(part.substr(2));
  }
  return absl::StrReplaceAll(ToAbsl(name), {{"=2C", ","}, {"=3D", "="}});
}

// "n,[a=...],^Aauth=Bearer JWT^A...^A^A"; the name is the token's claim `sub`, which the broker uses unless it is told
// to take another.
std::string NameInOauthBearer(std::string_view token) {
  constexpr std::string_view kPair =
      "\x01"
      "auth=";
  // With two of them, only the broker knows which one counts.
  if (token.find(kPair) != token.rfind(kPair)) return {};
  const std::string_view jwt = Between(token,
                                       "\x01"
                                       "auth=Bearer ",
                                       '\x01');
  const std::vector<absl::string_view> parts = absl::StrSplit(ToAbsl(jwt), absl::MaxSplits('.', 3));
  std::string claims;
  if (parts.size() < 2 || !absl::WebSafeBase64Unescape(parts[1], &claims)) return {};
  simdjson::dom::parser parser;
  std::string_view subject;
  if (parser.parse(claims)["sub"].get(subject) != simdjson::SUCCESS) return {};
  return std::string(subject);
}

}  // namespace

SaslExchange::SaslExchange(std::string_view mechanism) : mechanism_(mechanism.substr(0, kMostOfAMechanism)) {
  if (mechanism == "PLAIN") kind_ = Kind::kPlain;
  if (mechanism == "SCRAM-SHA-256" || mechanism == "SCRAM-SHA-512") kind_ = Kind::kScram;
  if (mechanism == "OAUTHBEARER") kind_ = Kind::kOauthBearer;
}

int SaslExchange::tokensOfClient() const {
  switch (kind_) {
    case Kind::kPlain:
    case Kind::kOauthBearer:
      return 1;
    case Kind::kScram:
      return 2;
    case Kind::kUnknown:
      break;
  }
  return 0;
}

int SaslExchange::OnClientToken(Bytes token) {
  if (++clientTokens_ > 1) return clientTokens_;
  if (kind_ == Kind::kPlain) name_ = NameInPlain(AsText(token));
  if (kind_ == Kind::kScram) name_ = NameInScram(AsText(token));
  if (kind_ == Kind::kOauthBearer) name_ = NameInOauthBearer(AsText(token));
  return clientTokens_;
}

bool SaslExchange::IsAcceptance(int clientToken, Bytes token) const {
  if (kind_ == Kind::kUnknown || clientToken != tokensOfClient()) return false;
  // A broker refuses a bearer token with a text and no error yet; SCRAM ends with the broker's own proof.
  if (kind_ == Kind::kOauthBearer) return token.empty();
  if (kind_ == Kind::kScram) return AsText(token).substr(0, 2) == "v=";
  return true;
}

}  // namespace kveil::guard
