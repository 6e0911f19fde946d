// The root key that is an AES key in a PKCS#11 token: a hardware security module, a smart card, SoftHSM.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "keys/root/pkcs11_options.h"
#include "keys/root/pkcs11_token.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. A call of the module ends
// when the module ends it, so Stop cannot cut it short. The key stays in the token, which wraps a seed that is made
// here (bound_seed.h), by AES-GCM (CKM_AES_GCM with a random nonce of 12 bytes) or AES Key Wrap (CKM_AES_KEY_WRAP,
// RFC 3394).
//
// A wrapped key is
//
//   "pkcs11" 0 | label of the token 0 | label of the key 0 | mechanism, 1 byte | check, 16 bytes | wrapped seed
//   mechanism = 1: nonce | ciphertext | tag, 2: as RFC 3394 has it
class Pkcs11RootKey : public RootKey {
 public:
  // `token`: of several keys of it; nullptr: one of its own.
  explicit Pkcs11RootKey(const Pkcs11Options& options, std::shared_ptr<Pkcs11Token> token = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // Wraps a seed and unwraps it.
  absl::Status Check(Deadline deadline) override;
  void Stop() override { token_->Stop(); }

 private:
  // What is before the check in each wrapped key.
  ByteBuffer Header() const;
  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& key);
  absl::StatusOr<ByteBuffer> WrapSeed(const crypto::SecretKey& seed);
  // What the module returned, when it returned an error, is in `value`.
  absl::StatusOr<crypto::SecretKey> UnwrapSeed(Bytes wrapped, ck_rv_t& value);
  absl::Status Probe();
  absl::Status Named(const absl::Status& status) const;

  const Pkcs11Options options_;
  const std::string name_;
  const std::shared_ptr<Pkcs11Token> token_;
};

}  // namespace kveil::keys
