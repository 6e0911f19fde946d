// STS speaks AWS's query protocol: a form is posted, and XML comes back.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "http/form.h"
#include "http/printable.h"
#include "keys/root/aws_sources.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::aws {
namespace {

using crypto::SecretText;

constexpr std::string_view kSts = "AWS's Security Token Service";
constexpr std::chrono::seconds kPatience{5};

// The text of the only element of this name. Empty: there is none, or several, or it holds more than text. What STS
// gives as credentials has no character that XML escapes.
std::string_view ElementIn(std::string_view xml, std::string_view name) {
  const std::string opening = StrCat("<", name, ">"), closing = StrCat("</", name, ">");
  const size_t start = xml.find(opening);
  if (start == std::string_view::npos) return "";
  const size_t from = start + opening.size();
  const size_t end = xml.find(closing, from);
  if (end == std::string_view::npos || xml.find(opening, from) != std::string_view::npos) return "";
  const std::string_view text = xml.substr(from, end - from);
  return text.find_first_of("<&") == std::string_view::npos ? ToStd(absl::StripAsciiWhitespace(ToAbsl(text))) : "";
}

absl::Status RefusalOf(int status, std::string_view xml) {
  const std::string code = http::Printable(ElementIn(xml, "Code"));
  const std::string message = http::Printable(ElementIn(xml, "Message"));
  const std::string text =
      StrCat(kSts, " answers with HTTP ", status, code.empty() ? "" : " ", code, message.empty() ? "" : ": ", message);
  const auto isOne = [&](std::initializer_list<std::string_view> codes) {
    return std::find(codes.begin(), codes.end(), code) != codes.end();
  };
  if (status < 500 && isOne({"AccessDenied", "ExpiredToken", "ExpiredTokenException", "InvalidIdentityToken",
                             "InvalidIdentityTokenException", "IDPRejectedClaim", "IDPRejectedClaimException"})) {
    return absl::PermissionDeniedError(text);
  }
  if (status < 500 && isOne({"ValidationError", "MalformedPolicyDocument", "RegionDisabledException"})) {
    return absl::FailedPreconditionError(text);
  }
  return absl::UnavailableError(text);  // also IDPCommunicationError, throttling, and what AWS has not written
}

}  // namespace

absl::StatusOr<AwsCredentials> AssumeRole(const http::Client& client, const std::string& stsEndpoint,
                                          const WebIdentity& identity, Deadline deadline) {
  ASSIGN_OR_RETURN(const SecretText token, crypto::ReadSecret(identity.tokenFile));
  http::Request request;
  request.method = "POST";
  request.url = StrCat(stsEndpoint, "/");
  request.contentType = "application/x-www-form-urlencoded; charset=utf-8";
  request.accept = "text/xml";
  http::AppendFormField(request.body, "Action", "AssumeRoleWithWebIdentity");
  http::AppendFormField(request.body, "Version", "2011-06-15");
  http::AppendFormField(request.body, "RoleArn", identity.roleArn);
  http::AppendFormField(request.body, "RoleSessionName", identity.sessionName.empty() ? "kveil" : identity.sessionName);
  http::AppendFormField(request.body, "WebIdentityToken", crypto::AsText(token));
  const Deadline soon = std::min(deadline, std::chrono::steady_clock::now() + kPatience);
  const absl::StatusOr<http::Response> response = client.Send(request, soon);
  if (!response.ok()) {
    return absl::Status(response.status().code(),
                        StrCat(kSts, " does not answer: ", ToStd(response.status().message())));
  }
  const std::string_view xml = crypto::AsText(response->body);
  if (response->status != 200) return RefusalOf(response->status, xml);
  AwsCredentials credentials;
  credentials.accessKeyId = crypto::MakeSecretText(ElementIn(xml, "AccessKeyId"));
  credentials.secretAccessKey = crypto::MakeSecretText(ElementIn(xml, "SecretAccessKey"));
  credentials.sessionToken = crypto::MakeSecretText(ElementIn(xml, "SessionToken"));
  absl::Time end;
  if (credentials.accessKeyId.empty() || credentials.secretAccessKey.empty() || credentials.sessionToken.empty() ||
      !absl::ParseTime(absl::RFC3339_full, ToAbsl(ElementIn(xml, "Expiration")), &end, nullptr)) {
    return absl::UnavailableError(StrCat(kSts, " answers with what are no credentials"));
  }
  credentials.endsAt = end;
  return credentials;
}

}  // namespace kveil::keys::aws
