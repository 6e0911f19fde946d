// One request to a service over HTTP or HTTPS, and its response.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "crypto/secret_text.h"

namespace kveil::http {

struct Request {
  std::string method = "GET";
  std::string url;
  std::vector<crypto::SecretText> headers;       // "Name: value", without a line's end
  crypto::SecretText body;                       // may be empty
  std::string contentType = "application/json";  // of the body
  std::string accept = "application/json";
  // Takes the body of a response with status 200 piece by piece as it comes, instead of Response::body. False ends the
  // request with kCancelled.
  std::function<bool(std::string_view)> onBody;
  // Asked about once a second or more often while the request is under way. False ends it with kUnavailable.
  std::function<bool()> mayGoOn;
};

// "Authorization: Bearer TOKEN" (RFC 6750 section 2.1).
inline crypto::SecretText BearerHeader(const crypto::SecretText& token) {
  crypto::SecretText header = crypto::MakeSecretText("Authorization: Bearer ");
  crypto::Append(header, crypto::AsText(token));
  return header;
}

struct Response {
  int status = 0;
  crypto::SecretText body;
  std::string etag;  // the entity tag (RFC 9110 section 8.8.3); empty: there is none, or none that is well formed
};

// Any thread may call. A connection lives for one request: questions to a key service are few, and then nothing of an
// answer stays in a library's buffers.
class Client {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  struct Options {
    // A PEM file with the authorities that are trusted; empty: those of the system.
    std::string ca;
    // PEM files that the server is shown, both or none; none if they are empty.
    std::string certificate;
    std::string key;
    // A longer response is an error.
    size_t longestResponse = size_t{1} << 20;
  };

  explicit Client(Options options);

  // Whatever the status of the response, if there is one; redirects are not followed. kUnavailable: there is none by
  // the deadline, with the reason: no connection, a certificate that does not fit, a response that is too long.
  // kFailedPrecondition: the file `ca`, `certificate` or `key` cannot be used. kCancelled: onBody had enough.
  absl::StatusOr<Response> Send(const Request& request, Deadline deadline) const;

  // Ends requests under way within a second, and later ones at once, with kUnavailable.
  void Stop() { isStopping_ = true; }

 private:
  const Options options_;
  std::atomic<bool> isStopping_{false};
};

}  // namespace kveil::http
