// What the agent proves with, at AWS, who it is.
#pragma once

#include <optional>

#include "absl/time/time.h"
#include "crypto/secret_text.h"

namespace kveil::keys {

struct AwsCredentials {
  crypto::SecretText accessKeyId;
  crypto::SecretText secretAccessKey;
  crypto::SecretText sessionToken;   // empty: none, as of an IAM user
  std::optional<absl::Time> endsAt;  // nullopt: not known, or never

  friend bool operator==(const AwsCredentials& a, const AwsCredentials& b) {
    return a.accessKeyId == b.accessKeyId && a.secretAccessKey == b.secretAccessKey && a.sessionToken == b.sessionToken;
  }
};

}  // namespace kveil::keys
