// The places outside of this process that give credentials: a node's metadata service, a container's endpoint, and the
// Security Token Service. One request each; nothing is kept.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "http/client.h"
#include "keys/root/aws_credentials.h"

namespace kveil::keys::aws {

using Environment = std::function<const char*(const char*)>;
using Deadline = std::chrono::steady_clock::time_point;

// The value of an environment variable; empty: it is not set.
std::string ValueOf(const Environment& environment, const char* name);

// Whether plain HTTP to this URL stays on the node, or on its way to the host's own metadata service.
bool IsOnTheNode(std::string_view url);

// All of these: kUnavailable for no answer, or one that passes by itself; kFailedPrecondition and kPermissionDenied for
// what needs the operator.

// The role of an EC2 instance, by IMDSv2.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
absl::StatusOr<AwsCredentials> AskInstanceMetadata(const http::Client& client, const Environment& environment,
                                                   Deadline deadline);

// The endpoint that AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI names (ECS tasks, EKS Pod Identity). nullopt:
// neither is set.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
absl::StatusOr<std::optional<std::string>> ContainerUrl(const Environment& environment);
absl::StatusOr<AwsCredentials> AskContainer(const http::Client& client, const Environment& environment,
                                            const std::string& url, Deadline deadline);

// AssumeRoleWithWebIdentity. `tokenFile` is read anew, as others replace it.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
struct WebIdentity {
  std::string roleArn;
  std::string tokenFile;
  std::string sessionName;  // for AWS's log; empty: "kveil"
};
absl::StatusOr<AwsCredentials> AssumeRole(const http::Client& client, const std::string& stsEndpoint,
                                          const WebIdentity& identity, Deadline deadline);

}  // namespace kveil::keys::aws
