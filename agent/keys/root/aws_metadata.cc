// The metadata service of an instance and the endpoint of a container: both answer with JSON.
#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/secret_file.h"
#include "http/printable.h"
#include "keys/root/aws_sources.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::aws {
namespace {

using crypto::SecretText;

// Both are on the node. Where there is neither, nobody is held up for long.
constexpr std::chrono::seconds kPatience{2};

constexpr std::string_view kMetadata = "the instance metadata service";
constexpr std::string_view kContainer = "the container's credentials endpoint";

absl::Status Failed(std::string_view who, const absl::Status& status) {
  return absl::Status(status.code(), StrCat(who, " does not answer: ", ToStd(status.message())));
}

absl::Status Refused(std::string_view who, int status) {
  const std::string text = StrCat(who, " answers with HTTP ", status);
  // 401: a token that has ended. 404 and 429 may pass as well: a role that was just attached, too many requests.
  const bool needsOperator = status == 400 || status == 403;
  return needsOperator ? absl::FailedPreconditionError(text) : absl::UnavailableError(text);
}

absl::StatusOr<http::Response> Send(const http::Client& client, std::string_view who, const http::Request& request,
                                    Deadline deadline) {
  const Deadline soon = std::min(deadline, std::chrono::steady_clock::now() + kPatience);
  absl::StatusOr<http::Response> response = client.Send(request, soon);
  return response.ok() ? std::move(response) : Failed(who, response.status());
}

absl::StatusOr<SecretText> BodyOf(std::string_view who, http::Response response) {
  if (response.status != 200) return Refused(who, response.status);
  return std::move(response.body);
}

SecretText Header(std::string_view name, const SecretText& value) {
  SecretText header = crypto::MakeSecretText(name);
  crypto::Append(header, crypto::AsText(value));
  return header;
}

// Both answer alike, and the instance's also with a code.
absl::StatusOr<AwsCredentials> CredentialsIn(std::string_view who, const SecretText& body) {
  JsonBody json(body);
  const auto malformed = [&] { return absl::UnavailableError(StrCat(who, " answers with what are no credentials")); };
  if (json.root() == nullptr) return malformed();
  const std::string code = PlainString(*json.root(), "Code");
  if (!code.empty() && code != "Success") {
    return absl::FailedPreconditionError(StrCat(who, " has no credentials for the role: ", http::Printable(code)));
  }
  std::optional<SecretText> id = SecretString(*json.root(), "AccessKeyId");
  std::optional<SecretText> secret = SecretString(*json.root(), "SecretAccessKey");
  std::optional<SecretText> token = SecretString(*json.root(), "Token");
  if (!id.has_value() || !secret.has_value() || id->empty() || secret->empty()) return malformed();
  AwsCredentials credentials{*std::move(id), *std::move(secret), {}, std::nullopt};
  if (token.has_value()) credentials.sessionToken = *std::move(token);
  if (const std::string end = PlainString(*json.root(), "Expiration"); !end.empty()) {
    absl::Time time;
    if (!absl::ParseTime(absl::RFC3339_full, end, &time, nullptr)) return malformed();
    credentials.endsAt = time;
  }
  return credentials;
}

absl::StatusOr<std::string> MetadataAddress(const Environment& environment) {
  if (absl::AsciiStrToLower(ValueOf(environment, "AWS_EC2_METADATA_DISABLED")) == "true") {
    return absl::FailedPreconditionError(StrCat(kMetadata, " is switched off by AWS_EC2_METADATA_DISABLED"));
  }
  std::string named = ValueOf(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
  while (absl::EndsWith(named, "/")) named.pop_back();
  if (named.empty()) {
    const bool isIpv6 = absl::AsciiStrToLower(ValueOf(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")) == "ipv6";
    return std::string(isIpv6 ? "http://[fd00:ec2::254]" : "http://169.254.169.254");
  }
  if (IsOnTheNode(named)) return named;
  return absl::FailedPreconditionError(
      "AWS_EC2_METADATA_SERVICE_ENDPOINT has to be http:// to a loopback address or AWS's metadata address");
}

bool IsRoleName(std::string_view name) {
  return !name.empty() && name.size() <= 128 && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("+=,.@-_").find(c) != std::string_view::npos;
  });
}

}  // namespace

std::string ValueOf(const Environment& environment, const char* name) {
  const char* const value = environment(name);
  return value == nullptr ? "" : value;
}

// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html lists the addresses.
bool IsOnTheNode(std::string_view url) {
  constexpr std::string_view kPlain = "http://";
  if (!url.starts_with(kPlain)) return false;
  const std::string_view authority = url.substr(kPlain.size(), url.find_first_of("/?#", kPlain.size()) - kPlain.size());
  const bool isBracketed = authority.starts_with('[');
  const size_t end = isBracketed ? authority.find(']') : authority.find(':');
  if (isBracketed && end == std::string_view::npos) return false;
  const std::string_view host = authority.substr(0, isBracketed ? end + 1 : end);
  const std::string_view port = end == std::string_view::npos ? "" : authority.substr(isBracketed ? end + 1 : end);
  const bool isPort =
      port.empty() || (port.front() == ':' && port.size() > 1 && std::all_of(port.begin() + 1, port.end(), [](char c) {
                         return absl::ascii_isdigit(static_cast<unsigned char>(c));
                       }));
  if (!isPort) return false;
  for (const std::string_view known : {"localhost", "[::1]", "169.254.169.254", "[fd00:ec2::254]", "169.254.170.2",
                                       "169.254.170.23", "[fd00:ec2::23]"}) {
    if (host == known) return true;
  }
  // 127.0.0.0/8, and no name that begins like that.
  return host.starts_with("127.") && std::all_of(host.begin(), host.end(), [](char c) {
           return c == '.' || absl::ascii_isdigit(static_cast<unsigned char>(c));
         });
}

absl::StatusOr<AwsCredentials> AskInstanceMetadata(const http::Client& client, const Environment& environment,
                                                   Deadline deadline) {
  ASSIGN_OR_RETURN(const std::string address, MetadataAddress(environment));
  http::Request request;
  request.method = "PUT";
  request.url = StrCat(address, "/latest/api/token");
  request.headers = {crypto::MakeSecretText("x-aws-ec2-metadata-token-ttl-seconds: 60")};
  ASSIGN_OR_RETURN(http::Response given, Send(client, kMetadata, request, deadline));
  ASSIGN_OR_RETURN(const SecretText token, BodyOf(kMetadata, std::move(given)));
  const bool isText = std::all_of(token.begin(), token.end(),
                                  [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
  if (token.empty() || !isText) return absl::UnavailableError(StrCat(kMetadata, " answers with what is no token"));

  const std::string roles = StrCat(address, "/latest/meta-data/iam/security-credentials/");
  const auto get = [&](const std::string& url) {
    return Send(client, kMetadata, {.url = url, .headers = {Header("x-aws-ec2-metadata-token: ", token)}}, deadline);
  };
  ASSIGN_OR_RETURN(http::Response listed, get(roles));
  if (listed.status == 404) {
    return absl::FailedPreconditionError(StrCat(kMetadata, " says that the instance has no role"));
  }
  ASSIGN_OR_RETURN(const SecretText names, BodyOf(kMetadata, std::move(listed)));
  const std::string_view lines = crypto::AsText(names);
  const std::string role(ToStd(absl::StripAsciiWhitespace(ToAbsl(lines.substr(0, lines.find('\n'))))));
  if (!IsRoleName(role)) return absl::UnavailableError(StrCat(kMetadata, " answers with what is no role"));
  ASSIGN_OR_RETURN(http::Response found, get(StrCat(roles, role)));
  ASSIGN_OR_RETURN(const SecretText body, BodyOf(kMetadata, std::move(found)));
  return CredentialsIn(kMetadata, body);
}

absl::StatusOr<std::optional<std::string>> ContainerUrl(const Environment& environment) {
  if (const std::string path = ValueOf(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); !path.empty()) {
    if (path.front() == '/') return std::optional<std::string>(StrCat("http://169.254.170.2", path));
    return absl::FailedPreconditionError("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI has to begin with a slash");
  }
  std::string url = ValueOf(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (url.empty()) return std::optional<std::string>();
  if (url.starts_with("https://") || IsOnTheNode(url)) return std::optional<std::string>(std::move(url));
  return absl::FailedPreconditionError(
      "AWS_CONTAINER_CREDENTIALS_FULL_URI has to be https://, or http:// to a loopback address or AWS's metadata "
      "address");
}

absl::StatusOr<AwsCredentials> AskContainer(const http::Client& client, const Environment& environment,
                                            const std::string& url, Deadline deadline) {
  http::Request request;
  request.url = url;
  const std::string file = ValueOf(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
  if (!file.empty()) {
    ASSIGN_OR_RETURN(const SecretText token, crypto::ReadSecret(file));
    request.headers.push_back(Header("authorization: ", token));
  } else if (const char* const token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN"); token != nullptr) {
    const std::string_view text = token;
    const bool isText = std::all_of(text.begin(), text.end(),
                                    [](char c) { return absl::ascii_isprint(static_cast<unsigned char>(c)); });
    if (!isText) return absl::FailedPreconditionError("AWS_CONTAINER_AUTHORIZATION_TOKEN is not one line of text");
    request.headers.push_back(Header("authorization: ", crypto::MakeSecretText(text)));
  }
  ASSIGN_OR_RETURN(http::Response found, Send(client, kContainer, request, deadline));
  ASSIGN_OR_RETURN(const SecretText body, BodyOf(kContainer, std::move(found)));
  return CredentialsIn(kContainer, body);
}

}  // namespace kveil::keys::aws
