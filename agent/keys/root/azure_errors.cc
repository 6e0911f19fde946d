// https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
#include "keys/root/azure_errors.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "base/text.h"
#include "keys/root/azure_messages.h"

namespace kveil::keys::azure {
namespace {

struct Known {
  std::string_view code;  // the inner one, where there is one
  absl::StatusCode meaning;
  std::string_view advice;
};

constexpr absl::StatusCode kOperator = absl::StatusCode::kFailedPrecondition;
constexpr absl::StatusCode kDenied = absl::StatusCode::kPermissionDenied;

constexpr Known kKnown[] = {
    {"KeyDisabled", kOperator, "the key, or the version of it that wrapped this, is disabled; enable it"},
    {"KeyNotYetValid", kOperator, "the key may not be used yet: see its activation date"},
    {"KeyExpired", kOperator, "the key has expired: see its expiration date"},
    {"KeyOperationForbidden", kOperator, "the key does not permit this operation"},
    {"KeyNotFound", kOperator,
     "there is no such key or version: it was never made, or was deleted; a deleted one can be recovered for a while"},
    {"Forbidden", kDenied, ""},
    {"AccessDenied", kDenied, ""},
    {"ForbiddenByPolicy", kDenied, ""},
    {"ForbiddenByRbac", kDenied, ""},
    {"ForbiddenByFirewall", kDenied, "the vault's firewall does not let this node in"},
    {"ForbiddenByConnection", kDenied, "the vault lets in private endpoints only"},
};

// A refusal whose code says less than its text.
Known ByText(const Error& error) {
  if (absl::StrContains(error.message, "on a disabled key")) return kKnown[0];
  return {error.code, kDenied, ""};
}

Known KnownFrom(int httpStatus, const Error& error) {
  const std::string& code = error.inner.empty() ? error.code : error.inner;
  const Known passes{code, absl::StatusCode::kUnavailable, ""};
  if (httpStatus >= 500 || httpStatus == 429) return passes;
  if (httpStatus == 401) return {code, kDenied, ""};
  const auto* const found =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& known) { return known.code == code; });
  if (found != std::end(kKnown) && found->code != "Forbidden") return *found;
  if (httpStatus == 403) return ByText(error);
  if (httpStatus == 400 && (code == "BadParameter" || code == "InvalidParameter")) {
    // Also of an API version or an algorithm that it does not know. The agent's own checks have found damage before.
    return {code, kOperator, "Azure does not take the request: see the key's type and its size"};
  }
  return passes;
}

}  // namespace

Refusal RefusalOf(int httpStatus, const crypto::SecretText& body) {
  const std::string what = StrCat("answers with HTTP ", httpStatus);
  const std::optional<Error> error = ParseError(body);
  // A Managed HSM does not say why: WWW-Authenticate: Bearer, and no body.
  if (httpStatus == 401 && body.empty()) return {absl::PermissionDeniedError(what), /*isOfCredentials=*/true};
  if (!error.has_value()) {
    // A proxy or a load balancer in between refuses in words of its own, and says nothing about keys and rights.
    return {absl::UnavailableError(StrCat(what, httpStatus < 500 ? ", and not as Azure does" : "")), httpStatus == 401};
  }
  const Known known = KnownFrom(httpStatus, *error);
  std::string text = StrCat(what, " ", error->code);
  if (!error->inner.empty()) StrAppend(&text, " (", error->inner, ")");
  if (!error->message.empty()) StrAppend(&text, ": ", error->message);
  if (!known.advice.empty()) StrAppend(&text, " (", known.advice, ")");
  const bool isDenied = known.meaning == kDenied;
  return {absl::Status(known.meaning, text), isDenied, isDenied && httpStatus != 401};
}

}  // namespace kveil::keys::azure
