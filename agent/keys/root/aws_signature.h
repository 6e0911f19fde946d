// AWS's Signature Version 4, for what KMS is asked: POST to "/" without a query.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
//
// libcurl has one, too. That of Debian 12 (7.88) signs every header that it is given, also "Expect:", which is there
// only so that none is sent, and the host without its port. Earlier ones do not sign the session token.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "crypto/secret_text.h"
#include "keys/root/aws_credentials.h"

namespace kveil::keys {

// The headers that sign a request: the date, the session token if there is one, and at the end the signature of these,
// of `headers` (names in lower case, each once, values without white space at their ends; "host" has to be among them)
// and of the body. As http::Request takes them.
std::vector<crypto::SecretText> SignAwsRequest(const AwsCredentials& credentials, std::string_view region,
                                               std::string_view service, absl::Time now,
                                               std::vector<std::pair<std::string, std::string>> headers,
                                               const crypto::SecretText& body);

}  // namespace kveil::keys
