// The root key that is a key of Google Cloud KMS.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "keys/root/bearer_session.h"
#include "keys/root/gcp_options.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// What asks for the tokens of keys there.
std::shared_ptr<BearerSession> MakeGcpSession(const GcpOptions& options);

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. A random key is made here
// and encrypted by the primary version of the key. The context is its additional authenticated data: Google refuses any
// other.
//
// A wrapped key is, as wrapped_format.h has it,
//
//   "gcpKms" 0 | name of the version 0 | check | Google's ciphertext
//
// The ciphertext itself says which version it is of. The name is for people, and to refuse what another key wrapped
// without a request. The project in it does not count, as it has a number and an id.
class GcpRootKey : public RootKey {
 public:
  // `session`: of several keys of the provider; nullptr: one of its own.
  explicit GcpRootKey(const GcpOptions& options, std::shared_ptr<BearerSession> session = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // The key is decrypted and encrypted again here: Google has no call for both.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override;
  absl::Status Check(Deadline deadline) override;
  void Stop() override { session_->Stop(); }

 private:
  // By the primary version.
  absl::StatusOr<ByteBuffer> Wrap(const crypto::SecretKey& key, Bytes context, Deadline deadline);
  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& key, Deadline deadline);
  absl::Status Describe(Deadline deadline);
  // Whether a version is one of the key.
  bool Covers(std::string_view version) const;
  absl::Status Named(const absl::Status& status) const;

  const std::string key_;
  const std::string name_;
  const std::shared_ptr<BearerSession> session_;
};

}  // namespace kveil::keys
