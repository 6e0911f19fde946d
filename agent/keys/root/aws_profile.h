// Credentials in AWS's own files, ~/.aws/credentials and ~/.aws/config.
// https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "keys/root/aws_credentials.h"

namespace kveil::keys {

// What a profile gives: credentials, or the role to take with a web identity's token.
struct AwsProfile {
  std::optional<AwsCredentials> credentials;
  std::string roleArn;    // empty, or with tokenFile
  std::string tokenFile;  // path
  std::string sessionName;
};

// The profile that AWS_PROFILE names, or "default", from the files that AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE
// name, or that are in HOME/.aws. nullopt: there is none, or it says nothing about credentials. kFailedPrecondition: a
// file cannot be read, a profile that was asked for is missing, or it says something that the agent cannot do.
absl::StatusOr<std::optional<AwsProfile>> ReadAwsProfile(const std::function<const char*(const char*)>& environment);

}  // namespace kveil::keys
