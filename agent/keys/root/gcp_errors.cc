// https://cloud.google.com/kms/docs/reference/rest and https://google.aip.dev/193
#include "keys/root/gcp_errors.h"

#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/text.h"
#include "keys/root/gcp_messages.h"

namespace kveil::keys::gcp {
namespace {

struct Meaning {
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  std::string_view advice{};
};

Meaning MeaningOf(int httpStatus, const Error& error, bool isDecrypt) {
  if (httpStatus >= 500) return {};
  if (error.status == "UNAUTHENTICATED" || error.status == "PERMISSION_DENIED") {
    return {absl::StatusCode::kPermissionDenied};
  }
  if (error.status == "NOT_FOUND") {
    return {absl::StatusCode::kFailedPrecondition, "there is no such key: it was never made, or its name is wrong"};
  }
  if (error.status == "FAILED_PRECONDITION") {
    return {absl::StatusCode::kFailedPrecondition,
            "the key, or the version of it that wrapped this, is disabled, destroyed or not reachable"};
  }
  if (error.status != "INVALID_ARGUMENT") return {};
  if (isDecrypt && absl::StrContains(error.message, "Decryption failed")) {
    return {absl::StatusCode::kDataLoss, "a key is damaged, or was wrapped by another one or for another purpose"};
  }
  const std::string message = absl::AsciiStrToLower(error.message);
  // A checksum that does not fit is refused as an argument that is wrong, too, and passes.
  if (absl::StrContains(message, "checksum") || absl::StrContains(message, "crc32c")) {
    return {};
  }
  return {absl::StatusCode::kFailedPrecondition,
          "it does not take the request: see the key's name, its location and its purpose"};
}

}  // namespace

Refusal RefusalOf(int httpStatus, const crypto::SecretText& body, bool isDecrypt) {
  const std::string what = StrCat("answers with HTTP ", httpStatus);
  const std::optional<Error> error = ParseError(body);
  if (!error.has_value()) {
    // A proxy or a load balancer in between refuses in words of its own, and says nothing about keys and rights.
    return {absl::UnavailableError(StrCat(what, httpStatus < 500 ? ", and not as Google does" : ""))};
  }
  const Meaning meaning = MeaningOf(httpStatus, *error, isDecrypt);
  std::string text = StrCat(what, " ", error->status);
  if (!error->message.empty()) StrAppend(&text, ": ", error->message);
  if (!meaning.advice.empty()) StrAppend(&text, " (", meaning.advice, ")");
  const bool isDenied = meaning.code == absl::StatusCode::kPermissionDenied;
  return {absl::Status(meaning.code, text), isDenied, isDenied && error->status != "UNAUTHENTICATED"};
}

}  // namespace kveil::keys::gcp
