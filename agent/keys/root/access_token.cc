#include "keys/root/access_token.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/secret_json.h"

namespace kveil::keys {
namespace {

using crypto::SecretText;

constexpr int64_t kLongestLife = 7 * 24 * 3600;  // seconds; a longer one is no life that anybody gives

// Some endpoints write the number as a string.
std::optional<int64_t> Seconds(JsonBody::Object& object, std::string_view name) {
  int64_t seconds = 0;
  const std::string text = PlainString(object, name);
  const bool isText = !text.empty() && absl::SimpleAtoi(text, &seconds);
  if (!isText && object.find_field_unordered(name).get_int64().get(seconds)) return std::nullopt;
  if (seconds < 0) return std::nullopt;
  return std::min(seconds, kLongestLife);
}

// RFC 6749, section 5.2, and the further words of Microsoft and Google.
absl::StatusCode CodeOf(std::string_view error) {
  for (const std::string_view denied : {"invalid_client", "invalid_grant", "unauthorized_client", "access_denied"}) {
    if (error == denied) return absl::StatusCode::kPermissionDenied;
  }
  for (const std::string_view wrong :
       {"invalid_request", "invalid_scope", "invalid_resource", "invalid_target", "unsupported_grant_type"}) {
    if (error == wrong) return absl::StatusCode::kFailedPrecondition;
  }
  return absl::StatusCode::kUnavailable;
}

// An assertion of the wrong time is refused in the words of one that is wrong.
bool IsAboutTime(std::string_view text) {
  return absl::StrContains(ToAbsl(text), "reasonable timeframe") ||
         absl::StrContains(ToAbsl(text), "not within its valid time range");
}

// Google could not ask the issuer whether its token is good, and says invalid_grant.
bool IsAboutIssuer(std::string_view text) {
  return absl::StrContains(ToAbsl(text), "Error connecting to the given credential's issuer");
}

absl::Status RefusalOf(std::string_view who, const http::Response& response) {
  JsonBody json(response.body);
  const std::string error = json.root() == nullptr ? "" : PlainString(*json.root(), "error");
  const std::string reason = json.root() == nullptr ? "" : PlainString(*json.root(), "error_description");
  std::string text = StrCat(who, " answers with HTTP ", response.status);
  if (!error.empty()) StrAppend(&text, " ", http::Printable(error));
  if (!reason.empty()) StrAppend(&text, ": ", http::Printable(reason));
  if (IsAboutTime(reason)) return absl::UnavailableError(StrCat(text, " (is this node's clock right?)"));
  const bool passes =
      response.status >= 500 || response.status == 429 || response.status / 100 != 4 || IsAboutIssuer(reason);
  return absl::Status(passes ? absl::StatusCode::kUnavailable : CodeOf(error), text);
}

}  // namespace

absl::StatusOr<AccessToken> AskForToken(const http::Client& client, std::string_view who, const http::Request& request,
                                        std::chrono::steady_clock::time_point deadline) {
  const auto soon = std::min(deadline, std::chrono::steady_clock::now() + kTokenPatience);
  const absl::StatusOr<http::Response> response = client.Send(request, soon);
  if (!response.ok()) {
    return absl::Status(response.status().code(),
                        StrCat(who, " does not answer: ", ToStd(response.status().message())));
  }
  if (response->status != 200) return RefusalOf(who, *response);
  JsonBody json(response->body);
  if (json.root() == nullptr) return MakeToken(who, std::nullopt, std::nullopt);
  std::optional<SecretText> text = SecretString(*json.root(), "access_token");
  const std::optional<int64_t> life = Seconds(*json.root(), "expires_in");
  std::optional<absl::Time> endsAt;
  if (life.has_value()) endsAt = absl::Now() + absl::Seconds(*life);
  return MakeToken(who, std::move(text), endsAt);
}

absl::StatusOr<AccessToken> MakeToken(std::string_view who, std::optional<SecretText> text,
                                      std::optional<absl::Time> endsAt) {
  const bool isToken = text.has_value() && endsAt.has_value() && !text->empty() &&
                       std::all_of(text->begin(), text->end(),
                                   [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
  if (!isToken) return absl::UnavailableError(StrCat(who, " answers with what is no token"));
  return AccessToken{*std::move(text), endsAt};
}

SecretText BearerHeader(const AccessToken& token) {
  SecretText header = crypto::MakeSecretText("authorization: Bearer ");
  crypto::Append(header, crypto::AsText(token.text));
  return header;
}

}  // namespace kveil::keys
