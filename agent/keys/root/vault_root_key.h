// The root key that is a key of the Transit engine of HashiCorp Vault or OpenBao.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "crypto/secret.h"
#include "keys/root/root_key.h"
#include "keys/root/vault_messages.h"
#include "keys/root/vault_options.h"
#include "keys/root/vault_session.h"

namespace kveil::keys {

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. Transit's
// `datakey` makes a seed, and its `decrypt` unwraps it. Its `encrypt` is never called, as it would make a deleted key
// anew.
//
// `datakey` takes no associated data, so the context is bound here (bound_seed.h).
//
// A wrapped key is
//
//   "vault" 0 | mount "/" name of the key, 0 | version of the key, 4 bytes, big-endian | check | Transit's ciphertext,
//   raw
//
// Transit may rewrap the seed under a newer version of its key: nothing else changes with it.
class VaultRootKey : public RootKey {
 public:
  // `session`: of several keys of the provider; nullptr: one of its own.
  explicit VaultRootKey(const VaultOptions& options, std::shared_ptr<VaultSession> session = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // Transit's `rewrap`: the seeds do not leave it.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override;
  // Reads what Transit says of the key.
  absl::Status Check(Deadline deadline) override;
  void Stop() override { session_->Stop(); }

 private:
  // What is before the version in each wrapped key.
  ByteBuffer Header() const;
  // `check`: as CheckOf makes it, cut.
  ByteBuffer Wrapped(const vault::Ciphertext& ciphertext, Bytes check) const;
  absl::StatusOr<vault::DecryptItem> ItemOf(const WrappedKey& key) const;
  absl::StatusOr<crypto::SecretKey> KeyOf(const WrappedKey& key, const crypto::SecretKey& seed) const;
  // An operation of Transit that takes many keys at once, and gives an Item for each.
  template <typename Item>
  struct Batch {
    const char* operation;
    crypto::SecretText (*request)(absl::Span<const vault::DecryptItem> items);
    absl::StatusOr<std::vector<absl::StatusOr<Item>>> (*parse)(const crypto::SecretText& body, size_t items);
  };
  // One answer per key, in the same order: what `answerOf` makes of its Item.
  template <typename Answer, typename Item>
  std::vector<absl::StatusOr<Answer>> AskOfEach(
      absl::Span<const WrappedKey> keys, const Batch<Item>& batch,
      absl::FunctionRef<absl::StatusOr<Answer>(const WrappedKey&, const Item&)> answerOf, Deadline deadline);
  template <typename Item>
  absl::StatusOr<std::vector<absl::StatusOr<Item>>> AskOfSome(absl::Span<const vault::DecryptItem> items,
                                                              const Batch<Item>& batch, Deadline deadline);
  // Why a call that names the key was answered with 400 or 404: because there is no such key, or the reason given.
  absl::Status Explain(const VaultSession::Answer& answer, Deadline deadline);
  absl::Status Named(const absl::Status& status) const;

  const std::string path_;  // of the mount, with a slash behind it
  const std::string key_;
  const std::string name_;
  const std::shared_ptr<VaultSession> session_;
};

}  // namespace kveil::keys
