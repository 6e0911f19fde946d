// Wraps and unwraps in this process, with the key from the file.
#include "keys/root/file_root_key.h"

#include "base/text.h"
#include "crypto/key_wrap.h"
#include "keys/root/root_key_file.h"

namespace kveil::keys {

absl::StatusOr<std::unique_ptr<RootKey>> FileRootKey::Open(const std::string& path, bool mayCreate) {
  absl::StatusOr<crypto::SecretKey> key = ReadRootKeyFile(path);
  if (absl::IsNotFound(key.status()) && mayCreate) key = CreateRootKeyFile(path);
  if (!key.ok()) return key.status();
  return std::unique_ptr<RootKey>(new FileRootKey(path, *std::move(key)));
}

FileRootKey::FileRootKey(const std::string& path, crypto::SecretKey key)
    : path_(path), name_(StrCat("root key file ", path)), key_(std::move(key)) {}

absl::StatusOr<RootKey::DataKey> FileRootKey::GenerateDataKey(Bytes context, Deadline /*deadline*/) {
  DataKey made{crypto::SecretKey::Random(), {}};
  made.wrapped = crypto::WrapKey(key_, made.key, context);
  return made;
}

std::vector<absl::StatusOr<crypto::SecretKey>> FileRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                   Deadline /*deadline*/) {
  std::vector<absl::StatusOr<crypto::SecretKey>> unwrapped;
  unwrapped.reserve(keys.size());
  for (const WrappedKey& key : keys) unwrapped.push_back(crypto::UnwrapKey(key_, key.wrapped, key.context));
  return unwrapped;
}

absl::Status FileRootKey::Check(Deadline /*deadline*/) {
  absl::StatusOr<crypto::SecretKey> key = ReadRootKeyFile(path_);
  if (!key.ok()) return absl::FailedPreconditionError(key.status().message());
  if (key->Equals(key_)) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(name_, " holds another key than the one in use; restore it"));
}

}  // namespace kveil::keys
