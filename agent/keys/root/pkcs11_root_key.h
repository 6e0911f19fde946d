// The root key that is an AES key in a PKCS#11 token: a hardware security module, a smart card, SoftHSM.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "keys/root/pkcs11_options.h"
#include "keys/root/pkcs11_token.h"
#include "keys/root/pkcs11_versions.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. A call of the module ends
// when the module ends it, so Stop cannot cut it short. The key stays in the token, which wraps a seed that is made
// here (bound_seed.h), by AES-GCM (CKM_AES_GCM with a random nonce of 12 bytes) or AES Key Wrap (CKM_AES_KEY_WRAP,
// RFC 3394).
//
// The keys in the token that have its label are its versions (pkcs11_versions.h). The newest wraps.
//
// A wrapped key is what wrapped_format.h says, with four fields and the rest:
//
//   label of the token | label of the key | CKA_ID of the version, in hexadecimal digits | "AES-GCM" or "AES-KEY-WRAP"
//   check, 16 bytes | wrapped seed: nonce | ciphertext | tag, or as RFC 3394 has it
//
// One that was made before keys had versions is
//
//   "pkcs11" 0 | label of the token 0 | label of the key 0 | mechanism, 1 byte: 1 or 2 | check, 16 bytes | wrapped seed
//
// and does not say which version has wrapped it: they are tried from the oldest to the newest.
class Pkcs11RootKey : public RootKey {
 public:
  // `token`: of several keys of it; nullptr: one of its own.
  explicit Pkcs11RootKey(const Pkcs11Options& options, std::shared_ptr<Pkcs11Token> token = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override;
  // Wraps a seed and unwraps it.
  absl::Status Check(Deadline deadline) override;
  void Stop() override { token_->Stop(); }

  // Has the token make its next version, which wraps from then on, and returns its name, as VersionOf.
  // kFailedPrecondition: the token does not; the message says which key the operator has to make.
  absl::StatusOr<std::string> MakeVersion();

 private:
  struct WrappedSeed {
    ByteBuffer bytes;
    std::string id;  // of the version that has wrapped it
  };
  using Use = std::function<ck_rv_t(pkcs11::Module&, ck_session_handle_t, const pkcs11::Version&)>;

  absl::StatusOr<ByteBuffer> Wrap(const crypto::SecretKey& seed, Bytes context);
  // The seed.
  absl::StatusOr<crypto::SecretKey> Unwrap(const WrappedKey& key, Deadline deadline);
  absl::StatusOr<crypto::SecretKey> UnwrapOlder(Bytes wrapped, Bytes check, Bytes context, Deadline deadline);
  absl::StatusOr<crypto::SecretKey> UnwrapBy(const std::string& id, Bytes wrapped, Bytes check, Bytes context);
  Pkcs11Token::Outcome CallWith(const pkcs11::Choice& choice, const Use& use);
  absl::StatusOr<WrappedSeed> WrapSeed(const crypto::SecretKey& seed, const pkcs11::Choice& choice);
  // What the module returned, when it returned an error, is in `value`.
  absl::StatusOr<crypto::SecretKey> UnwrapSeed(Bytes wrapped, const pkcs11::Choice& choice, ck_rv_t& value);
  absl::Status Probe(const pkcs11::Choice& choice);
  absl::Status Named(const absl::Status& status) const;

  const Pkcs11Options options_;
  const std::string name_;
  const std::shared_ptr<Pkcs11Token> token_;
};

}  // namespace kveil::keys
