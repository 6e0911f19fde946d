// The agent's dealings with AWS KMS in one region: signed requests.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "crypto/secret_text.h"
#include "http/client.h"
#include "keys/root/aws_credential_chain.h"
#include "keys/root/aws_errors.h"
#include "keys/root/aws_options.h"

namespace kveil::keys {

// Any thread may call.
class AwsSession {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  explicit AwsSession(const AwsOptions& options);

  // The body of the response to an operation, such as "GenerateDataKey". Credentials that are refused are replaced
  // once. Errors as in RootKey; kDataLoss is about the ciphertext in the body.
  absl::StatusOr<crypto::SecretText> Call(std::string_view operation, const crypto::SecretText& body,
                                          Deadline deadline);

  void Stop() {
    client_.Stop();
    credentials_.Stop();
  }

 private:
  absl::StatusOr<http::Response> Send(std::string_view operation, const crypto::SecretText& body,
                                      const AwsCredentials& credentials, Deadline deadline) const;

  const AwsOptions options_;
  const std::string host_;
  http::Client client_;
  AwsCredentialChain credentials_;
};

}  // namespace kveil::keys
