// The agent's credentials at AWS: where they come from, and for how long they are used.
#pragma once

#include <chrono>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "http/client.h"
#include "keys/root/aws_credentials.h"
#include "keys/root/aws_options.h"
#include "keys/root/aws_sources.h"

namespace kveil::keys {

// Any thread may call. Looks in AWS's usual order, and takes what is there first: the environment, a web identity that
// the environment names, the profile files, a container's endpoint, the instance's metadata service. What is there but
// cannot be used is an error: another identity is never taken in its place.
//
// Credentials that end are renewed at a random moment well before that, by one caller while the others go on with the
// old ones. Those that do not end are looked up again every minute or two, so that a new file takes effect.
class AwsCredentialChain {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  using Credentials = std::shared_ptr<const AwsCredentials>;

  explicit AwsCredentialChain(const AwsOptions& options);

  // kUnavailable: none can be had now. kFailedPrecondition, kPermissionDenied: the operator has to do something.
  absl::StatusOr<Credentials> Get(Deadline deadline);
  // Others than those that AWS has just refused. nullptr: there are none, or they were looked for a moment ago.
  absl::StatusOr<Credentials> Replace(const Credentials& refused, Deadline deadline);

  void Stop() { client_.Stop(); }

 private:
  using Clock = std::chrono::steady_clock;

  absl::StatusOr<AwsCredentials> Find(Deadline deadline) const;
  absl::StatusOr<AwsCredentials> AssumeRole(const aws::WebIdentity& identity, Deadline deadline) const;
  // Keeps the object in use when these are the same.
  Credentials Take(AwsCredentials found);

  const AwsOptions options_;
  http::Client client_;

  Mutex asking_;  // held while there are none: the others wait for the same. Before mutex_
  Mutex mutex_;
  Credentials current_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point found_ ABSL_GUARDED_BY(mutex_);  // the last time
  Clock::time_point refreshAt_ ABSL_GUARDED_BY(mutex_);
  Clock::time_point endsAt_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
