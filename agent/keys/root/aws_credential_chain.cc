#include "keys/root/aws_credential_chain.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "http/jitter.h"
#include "keys/root/aws_profile.h"

namespace kveil::keys {
namespace {

using aws::ValueOf;
using std::chrono::milliseconds;

// How soon a renewal that could not be made is tried again.
constexpr milliseconds kAskAgain{5'000};

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

AwsCredentialChain::AwsCredentialChain(const AwsOptions& options) : options_(options), client_({.ca = options.ca}) {}

absl::StatusOr<AwsCredentialChain::Credentials> AwsCredentialChain::Get(Deadline deadline) {
  Credentials usable;
  {
    const MutexLock lock(mutex_);
    const Clock::time_point now = Clock::now();
    if (current_ != nullptr && now < std::min(refreshAt_, endsAt_)) return current_;
    if (current_ != nullptr && now < endsAt_) {
      usable = current_;
      refreshAt_ = now + kAskAgain + http::UpTo(kAskAgain);  // the others go on meanwhile
    }
  }
  if (usable != nullptr) {
    absl::StatusOr<AwsCredentials> found = Find(deadline);
    return found.ok() ? Take(*std::move(found)) : usable;
  }
  const MutexLock asking(asking_);
  {
    const MutexLock lock(mutex_);
    if (current_ != nullptr && Clock::now() < endsAt_) return current_;
  }
  ASSIGN_OR_RETURN(AwsCredentials found, Find(deadline));
  return Take(std::move(found));
}

absl::StatusOr<AwsCredentialChain::Credentials> AwsCredentialChain::Replace(const Credentials& refused,
                                                                            Deadline deadline) {
  const MutexLock asking(asking_);
  {
    const MutexLock lock(mutex_);
    if (current_ != refused) return current_;  // another thread was quicker
    if (Clock::now() - found_ < options_.replacePause) return nullptr;
  }
  ASSIGN_OR_RETURN(AwsCredentials found, Find(deadline));
  Credentials taken = Take(std::move(found));
  return taken == refused ? nullptr : taken;
}

AwsCredentialChain::Credentials AwsCredentialChain::Take(AwsCredentials found) {
  const MutexLock lock(mutex_);
  found_ = Clock::now();
  // Those that got theirs at the same moment do not renew them at the same moment.
  milliseconds until = options_.leastAge + http::UpTo(options_.leastAge);
  endsAt_ = Clock::time_point::max();
  if (found.endsAt.has_value()) {
    const auto left = absl::ToChronoMilliseconds(*found.endsAt - absl::Now());
    until = std::max(left * 3 / 5 + http::UpTo(std::max(left / 5, milliseconds(1))), options_.leastAge);
    // By a clock that is wrong they have ended already: AWS knows better.
    endsAt_ = found_ + std::max(left, options_.leastAge);
  }
  refreshAt_ = found_ + until;
  if (current_ == nullptr || !(*current_ == found)) {
    current_ = std::make_shared<const AwsCredentials>(std::move(found));
  }
  return current_;
}

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
