// The agent's credentials at AWS: where they come from, and for how long they are used.
#pragma once

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "http/client.h"
#include "keys/root/aws_credentials.h"
#include "keys/root/aws_options.h"
#include "keys/root/aws_sources.h"
#include "keys/root/credential_cache.h"

namespace kveil::keys {

// Any thread may call. Looks in AWS's usual order, and takes what is there first: the environment, a web identity that
// the environment names, the profile files, a container's endpoint, the instance's metadata service. What is there but
// cannot be used is an error: another identity is never taken in its place.
class AwsCredentialChain {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  using Credentials = std::shared_ptr<const AwsCredentials>;

  explicit AwsCredentialChain(const AwsOptions& options);

  // kUnavailable: none can be had now. kFailedPrecondition, kPermissionDenied: the operator has to do something.
  absl::StatusOr<Credentials> Get(Deadline deadline) { return cache_.Get(deadline); }
  // As CredentialCache::Replace.
  absl::StatusOr<Credentials> Replace(const Credentials& refused, Deadline deadline) {
    return cache_.Replace(refused, deadline);
  }

  void Stop() { client_.Stop(); }

 private:
  absl::StatusOr<AwsCredentials> Find(Deadline deadline) const;
  absl::StatusOr<AwsCredentials> AssumeRole(const aws::WebIdentity& identity, Deadline deadline) const;

  const AwsOptions options_;
  http::Client client_;
  CredentialCache<AwsCredentials> cache_;
};

}  // namespace kveil::keys
