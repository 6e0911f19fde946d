#include "keys/root/aws_credential_chain.h"

#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "keys/root/aws_profile.h"

namespace kveil::keys {
namespace {

using aws::ValueOf;

// The access key that the environment has. nullopt: none.
absl::StatusOr<std::optional<AwsCredentials>> InEnvironment(const aws::Environment& environment) {
  const auto value = [&](const char* name) {
    const char* const text = environment(name);
    return crypto::MakeSecretText(text == nullptr ? "" : text);
  };
  AwsCredentials credentials{value("AWS_ACCESS_KEY_ID"), value("AWS_SECRET_ACCESS_KEY"), value("AWS_SESSION_TOKEN"),
                             std::nullopt};
  if (credentials.accessKeyId.empty() != credentials.secretAccessKey.empty()) {
    return absl::FailedPreconditionError("the environment has only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
  }
  if (credentials.accessKeyId.empty()) return std::optional<AwsCredentials>();
  return std::optional<AwsCredentials>(std::move(credentials));
}

absl::StatusOr<std::optional<aws::WebIdentity>> WebIdentityIn(const aws::Environment& environment) {
  aws::WebIdentity identity{ValueOf(environment, "AWS_ROLE_ARN"), ValueOf(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"),
                            ValueOf(environment, "AWS_ROLE_SESSION_NAME")};
  if (identity.tokenFile.empty()) return std::optional<aws::WebIdentity>();
  if (identity.roleArn.empty()) {
    return absl::FailedPreconditionError("the environment has AWS_WEB_IDENTITY_TOKEN_FILE without AWS_ROLE_ARN");
  }
  return std::optional<aws::WebIdentity>(std::move(identity));
}

}  // namespace

AwsCredentialChain::AwsCredentialChain(const AwsOptions& options)
    : options_(options),
      client_({.ca = options.ca}),
      cache_([this](Deadline deadline) { return Find(deadline); }, options.replacePause, options.leastAge) {}

absl::StatusOr<AwsCredentials> AwsCredentialChain::Find(Deadline deadline) const {
  const aws::Environment& environment = options_.environment;
  ASSIGN_OR_RETURN(std::optional<AwsCredentials> given, InEnvironment(environment));
  if (given.has_value()) return *std::move(given);
  ASSIGN_OR_RETURN(const std::optional<aws::WebIdentity> identity, WebIdentityIn(environment));
  if (identity.has_value()) return AssumeRole(*identity, deadline);
  ASSIGN_OR_RETURN(std::optional<AwsProfile> profile, ReadAwsProfile(environment));
  if (profile.has_value() && profile->credentials.has_value()) return *std::move(profile->credentials);
  if (profile.has_value()) return AssumeRole({profile->roleArn, profile->tokenFile, profile->sessionName}, deadline);
  ASSIGN_OR_RETURN(const std::optional<std::string> url, aws::ContainerUrl(environment));
  if (url.has_value()) return aws::AskContainer(client_, environment, *url, deadline);
  absl::StatusOr<AwsCredentials> found = aws::AskInstanceMetadata(client_, environment, deadline);
  if (found.ok()) return found;
  return absl::Status(found.status().code(),
                      StrCat("no credentials: none in the environment, no profile, no container, and ",
                             ToStd(found.status().message())));
}

absl::StatusOr<AwsCredentials> AwsCredentialChain::AssumeRole(const aws::WebIdentity& identity,
                                                              Deadline deadline) const {
  return aws::AssumeRole(client_, options_.stsEndpoint, identity, deadline);
}

}  // namespace kveil::keys
