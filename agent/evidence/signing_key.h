// The Ed25519 key (RFC 8032) that signs what the agent has done.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct evp_pkey_st;

namespace kveil::evidence {

// The private key, or only its public part, which verifies.
class SigningKey {
 public:
  // Reads the private key of a PEM file. kNotFound: there is no file. kFailedPrecondition: others than its owner may
  // read it, or it holds no such key.
  static absl::StatusOr<SigningKey> Read(const std::string& path);
  static absl::StatusOr<SigningKey> Make();
  static absl::StatusOr<SigningKey> FromPublicPem(const std::string& pem);

  // Writes the private key as a PEM file, 0600.
  absl::Status Write(const std::string& path) const;

  // As PEM, as openssl reads and writes it.
  std::string PublicPem() const;

  // 64 bytes.
  std::string Sign(std::string_view bytes) const;
  bool Verifies(std::string_view bytes, std::string_view signature) const;

 private:
  struct Free {
    void operator()(evp_pkey_st* key) const;
  };
  explicit SigningKey(evp_pkey_st* key) : key_(key) {}

  std::unique_ptr<evp_pkey_st, Free> key_;
};

// In lower-case hexadecimal digits.
std::string Sha256Hex(std::string_view bytes);

}  // namespace kveil::evidence
