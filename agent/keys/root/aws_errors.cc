// https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html and the errors of Decrypt, GenerateDataKey and
// DescribeKey there.
#include "keys/root/aws_errors.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "base/text.h"
#include "keys/root/aws_messages.h"

namespace kveil::keys::aws {
namespace {

enum class Meaning {
  kPasses,       // by itself
  kCredentials,  // have ended, were revoked, or are not known
  kDenied,       // a policy denies, or the session was revoked by one
  kOperator,     // has to do something about the key
  kDamage,       // of one ciphertext
  kClock,        // of this node
};

struct Known {
  std::string_view type;
  Meaning meaning;
  std::string_view advice;
};

constexpr Known kKnown[] = {
    {"ExpiredTokenException", Meaning::kCredentials, ""},
    {"ExpiredToken", Meaning::kCredentials, ""},
    {"UnrecognizedClientException", Meaning::kCredentials, ""},
    {"InvalidClientTokenId", Meaning::kCredentials, ""},
    {"MissingAuthenticationToken", Meaning::kCredentials, ""},
    {"MissingAuthenticationTokenException", Meaning::kCredentials, ""},
    {"IncompleteSignature", Meaning::kCredentials, ""},
    {"IncompleteSignatureException", Meaning::kCredentials, ""},
    {"InvalidSignatureException", Meaning::kCredentials, ""},
    {"SignatureDoesNotMatch", Meaning::kCredentials, ""},
    {"AccessDeniedException", Meaning::kDenied, ""},
    {"AccessDenied", Meaning::kDenied, ""},
    {"NotAuthorized", Meaning::kDenied, ""},
    {"OptInRequired", Meaning::kDenied, ""},
    {"SubscriptionRequiredException", Meaning::kDenied, ""},
    {"RequestExpired", Meaning::kClock, ""},
    {"RequestTimeTooSkewed", Meaning::kClock, ""},
    {"NotFoundException", Meaning::kOperator,
     "there is no such key: it was deleted, never made, or is in another region"},
    {"DisabledException", Meaning::kOperator, "the key is disabled; enable it"},
    {"KMSInvalidStateException", Meaning::kOperator,
     "the key cannot be used in its state: it is about to be deleted, is disabled, or has no key material"},
    {"InvalidKeyUsageException", Meaning::kOperator, "the key is not one for encryption"},
    {"InvalidArnException", Meaning::kOperator, "the key's name is wrong"},
    {"ValidationException", Meaning::kOperator, "the key's name or endpoint is wrong"},
    {"InvalidCiphertextException", Meaning::kDamage, "a key is damaged, or was wrapped for another purpose"},
    {"IncorrectKeyException", Meaning::kDamage, "a key was wrapped by another one"},
};

absl::StatusCode CodeOf(Meaning meaning) {
  switch (meaning) {
    case Meaning::kPasses:
    case Meaning::kClock:
      return absl::StatusCode::kUnavailable;
    case Meaning::kCredentials:
    case Meaning::kDenied:
      return absl::StatusCode::kPermissionDenied;
    case Meaning::kOperator:
      return absl::StatusCode::kFailedPrecondition;
    case Meaning::kDamage:
      return absl::StatusCode::kDataLoss;
  }
  return absl::StatusCode::kUnavailable;
}

// A signature that is too old or too new is refused in the words of one that is wrong.
bool IsAboutTime(const Error& error) {
  return absl::StrContains(error.message, "Signature expired") ||
         absl::StrContains(error.message, "Signature not yet current");
}

Known KnownFrom(const Error& error) {
  const auto* const found =
      std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& known) { return known.type == error.type; });
  if (found == std::end(kKnown)) return {error.type, Meaning::kPasses, ""};
  if (found->meaning == Meaning::kCredentials && IsAboutTime(error)) return {error.type, Meaning::kClock, ""};
  return *found;
}

}  // namespace

Refusal RefusalOf(int httpStatus, const crypto::SecretText& body) {
  const std::string what = StrCat("answers with HTTP ", httpStatus);
  const std::optional<Error> error = ParseError(body);
  if (!error.has_value()) {
    // A proxy or a load balancer in between refuses in words of its own, and says nothing about keys and rights.
    return {absl::UnavailableError(StrCat(what, httpStatus < 500 ? ", and not as AWS does" : ""))};
  }
  // Whatever its type, what the service could not do passes.
  const Known known = httpStatus >= 500 ? Known{error->type, Meaning::kPasses, ""} : KnownFrom(*error);
  std::string text = StrCat(what, " ", error->type);
  if (!error->message.empty()) StrAppend(&text, ": ", error->message);
  if (known.meaning == Meaning::kClock) StrAppend(&text, " (is this node's clock right?)");
  if (!known.advice.empty()) StrAppend(&text, " (", known.advice, ")");
  return {absl::Status(CodeOf(known.meaning), text),
          known.meaning == Meaning::kCredentials || known.meaning == Meaning::kDenied,
          known.meaning == Meaning::kDenied};
}

}  // namespace kveil::keys::aws
