// The root key that is a file on this node.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "keys/root/root_key.h"
#include "keys/root/root_key_file.h"

namespace kveil::keys {

// Wraps with AES-256-GCM (crypto/key_wrap.h); the context is the additional authenticated data. Check reads the file
// again and compares it with the key in memory. Deadlines do not matter: nothing here leaves the machine.
//
// The key is a ratchet (root_key_file.h). Each Turn wraps with the next generation, which every node that has the file
// can derive. When nothing in the registry is of an earlier generation any more, ForgetOlder moves the file on: after
// that, nobody who has not kept an old copy of the file opens an old copy of the registry. It stays where another
// registry uses the same file (root_key_registries.h). A wrapped key of generation
// 0 is what crypto::WrapKey makes. A later one begins with "kveil file 1 " and its generation in 8 bytes, big endian.
class FileRootKey : public RootKey {
 public:
  // Reads the file. If there is none, makes it when `mayCreate`, and returns kNotFound otherwise. kFailedPrecondition
  // when it cannot be used or made, see root_key_file.h.
  static absl::StatusOr<std::unique_ptr<RootKey>> Open(const std::string& path, bool mayCreate);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  // A turn of the epochs wraps by the next generation. There is nothing else to rotate to.
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  absl::StatusOr<Turned> Turn(const WrappedKey& secret, Bytes epochContext, Deadline deadline) override;
  void NoteRegistry(std::string_view registry) override;
  absl::StatusOr<bool> ForgetOlder(absl::Span<const WrappedKey> needed, Deadline deadline) override;
  std::chrono::milliseconds SettledFor(int64_t epoch) override;
  absl::Status Check(Deadline deadline) override;

 private:
  FileRootKey(const std::string& path, RootKeyGeneration root);

  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& wrapped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // kDataLoss: that is too far ahead. kNotFound: it is gone.
  absl::StatusOr<crypto::SecretKey> KeyOf(uint64_t generation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<ByteBuffer> Wrap(uint64_t generation, const crypto::SecretKey& key, Bytes context)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const std::string name_;
  Mutex mutex_;
  std::string registry_ ABSL_GUARDED_BY(mutex_);
  RootKeyGeneration root_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
