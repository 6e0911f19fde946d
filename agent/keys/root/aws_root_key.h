// The root key that is a key of AWS KMS.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "keys/root/aws_key_name.h"
#include "keys/root/aws_options.h"
#include "keys/root/aws_session.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

// One attempt per call: RemoteRootKey around it has the threads, the retries and the rest. GenerateDataKey makes a data
// key, Decrypt unwraps it, DescribeKey says whether both can. The context is the encryption context {"kveil": "1." and
// the context in base64}: AWS refuses any other. Decrypt takes one key at a time;
// several are asked for at once.
//
// A wrapped key is
//
//   "awsKms" 0 | ARN of the key 0 | check, 8 bytes | AWS's ciphertext
//   check = the first 8 bytes of SHA-256("kveil awsKms 1" 0 | ARN 0 | ciphertext)
//
// The ciphertext says which version of the key's material it was made with. The check finds damage without AWS: to
// some kinds of damage AWS answers that access is denied.
class AwsRootKey : public RootKey {
 public:
  // `session`: of several keys of the provider; nullptr: one of its own.
  explicit AwsRootKey(const AwsOptions& options, std::shared_ptr<AwsSession> session = nullptr);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // ReEncrypt: where an alias was moved, by the key to which it leads now. Nothing tells whether AWS has new material.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  std::string VersionOf(const WrappedKey& key) const override;
  absl::Status Check(Deadline deadline) override;
  void Stop() override { session_->Stop(); }

 private:
  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& key, Deadline deadline);
  absl::StatusOr<ByteBuffer> RewrapOne(const WrappedKey& key, Deadline deadline);
  // OK: this key may have wrapped it. nullptr: nobody knows what has.
  absl::Status CheckParts(const AwsArn* wrappedBy, Deadline deadline);
  // What is kept of what AWS has wrapped.
  absl::StatusOr<ByteBuffer> WrappedBy(const AwsArn& key, const ByteBuffer& ciphertext);
  // Notes which key was used. An alias and an id are those of one account: the one of the first answer. Two accounts
  // may have the same alias, and credentials change while the agent runs. kFailedPrecondition: it is of another
  // account.
  absl::Status Bind(const AwsArn& used);
  // The key to which an alias leads now, as far as that is needed. nullopt for a key that is none.
  absl::StatusOr<std::optional<AwsArn>> Target(Deadline deadline);
  absl::StatusOr<AwsArn> Describe(Deadline deadline);
  absl::Status Named(const absl::Status& status) const;

  const AwsKeyName key_;
  const std::string name_;
  const std::shared_ptr<AwsSession> session_;

  Mutex mutex_;
  std::optional<AwsArn> target_ ABSL_GUARDED_BY(mutex_);  // as AWS said last
};

}  // namespace kveil::keys
