// Requests to the Kubernetes API server as the agent's service account.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "crypto/secret_text.h"
#include "http/client.h"

namespace kveil::kubernetes {

struct ApiServerOptions {
  std::string address;    // "https://10.96.0.1:443", without a path
  std::string ca;         // a PEM file; empty: the authorities of the system
  std::string tokenFile;  // read for each request, as the kubelet replaces it
};

// Any thread may call.
class ApiServer {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  // Of one object. What is streamed has no bound here.
  static constexpr size_t kLongestResponse = size_t{4} << 20;

  explicit ApiServer(const ApiServerOptions& options)
      : options_(options), client_({.ca = options.ca, .longestResponse = kLongestResponse}) {}

  // Each returns the body of a response with status 200. kUnavailable: no answer, or one that passes by itself.
  // kPermissionDenied: the token is refused, or may not do that. kOutOfRange: 410 Gone. kNotFound. kAborted: 409 and
  // 422, the object is not as the patch expects. All messages say which server it is.
  absl::StatusOr<crypto::SecretText> Get(std::string_view path, Deadline deadline) const;
  // Hands the body on as it comes, instead. False from `onBody` ends the request with kCancelled.
  absl::Status Stream(std::string_view path, Deadline deadline, std::function<bool(std::string_view)> onBody) const;
  // A JSON patch (RFC 6902).
  absl::Status Patch(std::string_view path, std::string_view patch, Deadline deadline) const;

  // Ends requests under way, and later ones at once.
  void Stop() { client_.Stop(); }

 private:
  absl::StatusOr<http::Request> MakeRequest(std::string_view path) const;
  absl::StatusOr<crypto::SecretText> Send(const http::Request& request, Deadline deadline) const;
  absl::Status Error(absl::StatusCode code, std::string_view what) const;

  const ApiServerOptions options_;
  http::Client client_;
};

}  // namespace kveil::kubernetes
