// What is said to AWS KMS, and what it says: JSON. Whatever holds a key is wiped.
// https://docs.aws.amazon.com/kms/latest/APIReference/
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_text.h"
#include "keys/root/aws_key_name.h"

namespace kveil::keys::aws {

using crypto::SecretText;

// GenerateDataKey. `context` becomes the encryption context.
SecretText DataKeyRequest(std::string_view key, Bytes context);
struct DataKeyAnswer {
  crypto::SecretKey key;
  ByteBuffer ciphertext;
  AwsArn wrappedBy;
};
absl::StatusOr<DataKeyAnswer> ParseDataKey(const SecretText& body);

// Decrypt.
SecretText DecryptRequest(std::string_view key, Bytes ciphertext, Bytes context);
struct DecryptAnswer {
  crypto::SecretKey key;
  AwsArn wrappedBy;
};
absl::StatusOr<DecryptAnswer> ParseDecrypt(const SecretText& body);

// ReEncrypt, from one key to another or to the same one, with the same context.
SecretText ReEncryptRequest(std::string_view from, std::string_view to, Bytes ciphertext, Bytes context);
struct ReEncryptAnswer {
  ByteBuffer ciphertext;
  AwsArn wrappedBy;
};
absl::StatusOr<ReEncryptAnswer> ParseReEncrypt(const SecretText& body);

// DescribeKey.
SecretText DescribeRequest(std::string_view key);
// The key's own ARN, when it can do what the agent needs. kFailedPrecondition says what it cannot, kUnavailable that it
// is being made.
absl::StatusOr<AwsArn> ParseDescription(const SecretText& body);

// An error as AWS's JSON protocol writes it.
struct Error {
  std::string type;     // "AccessDeniedException", without a name space
  std::string message;  // for people; printable
};
// nullopt: AWS has not written this.
std::optional<Error> ParseError(const SecretText& body);

}  // namespace kveil::keys::aws
