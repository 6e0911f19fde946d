// The root key that is a file on this node.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "keys/root/root_key.h"

namespace kveil::keys {

// Wraps with AES-256-GCM (crypto/key_wrap.h); the context is the additional authenticated data. Check reads the file
// again and compares it with the key in memory. Deadlines do not matter: nothing here leaves the machine.
class FileRootKey : public RootKey {
 public:
  // Reads the file. If there is none, makes it when `mayCreate`, and returns kNotFound otherwise. kFailedPrecondition
  // when it cannot be used or made, see root_key_file.h.
  static absl::StatusOr<std::unique_ptr<RootKey>> Open(const std::string& path, bool mayCreate);

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override;
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override;
  absl::Status Check(Deadline deadline) override;

 private:
  FileRootKey(const std::string& path, crypto::SecretKey key);

  const std::string path_;
  const std::string name_;
  const crypto::SecretKey key_;
};

}  // namespace kveil::keys
