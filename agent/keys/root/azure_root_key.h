// The root key that is a key of Azure Key Vault or of a Managed HSM.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "keys/root/azure_messages.h"
#include "keys/root/azure_options.h"
#include "keys/root/bearer_session.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// What asks for the tokens of keys there.
std::shared_ptr<BearerSession> MakeAzureSession(const AzureOptions& options);

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. A random seed is made here
// and wrapped by the newest version of the key (wrapkey): an RSA key by RSA-OAEP-256, a symmetric one of a Managed HSM
// by A256KW. Neither binds the context, so the data key is derived from the seed and the context, see bound_seed.h.
//
// A wrapped key is, as wrapped_format.h has it,
//
//   "azureKeyVault" 0 | name of the key / version 0 | algorithm 0 | check | check of the seed, 16 bytes | ciphertext
//
// It does not name the vault: a key that was restored into another one keeps its name and its versions.
//
// RSA-OAEP authenticates nobody. Whoever knows the public half of an RSA key, and may write to the registry, can put a
// wrapped key there whose bytes they know. A256KW has no public half.
class AzureRootKey : public RootKey {
 public:
  // `session`: of several keys of the provider; nullptr: one of its own.
  explicit AzureRootKey(const AzureOptions& options, std::shared_ptr<BearerSession> session = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // The seed is unwrapped and wrapped again here: Azure has no call for both.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override;
  absl::Status Check(Deadline deadline) override;
  void Stop() override { session_->Stop(); }

 private:
  absl::StatusOr<azure::KeyVersion> Describe(Deadline deadline);
  // By the newest version.
  absl::StatusOr<ByteBuffer> WrapSeed(const crypto::SecretKey& seed, Bytes context, Deadline deadline);
  absl::StatusOr<crypto::SecretKey> UnwrapSeed(const WrappedKey& key, Deadline deadline);
  absl::Status Named(const absl::Status& status) const;

  const std::string key_;
  const std::string name_;
  const std::shared_ptr<BearerSession> session_;
};

}  // namespace kveil::keys
