// Wraps and unwraps in this process, with the key from the file.
#include "keys/root/file_root_key.h"

#include <algorithm>

#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/key_wrap.h"
#include "keys/root/root_key_registries.h"
#include "keys/root/settled_note.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kPrefix = "kveil file 1 ";
constexpr size_t kHeaderSize = kPrefix.size() + 8;

ByteBuffer HeaderOf(uint64_t generation) {
  ByteBuffer header;
  Append(header, AsBytes(kPrefix));
  for (int shift = 56; shift >= 0; shift -= 8) header.push_back(static_cast<uint8_t>(generation >> shift));
  return header;
}

// That which it says it is of.
absl::StatusOr<uint64_t> GenerationOf(Bytes wrapped) {
  if (wrapped.size() == crypto::kWrappedKeySize) return 0;
  const bool isLater =
      wrapped.size() == kHeaderSize + crypto::kWrappedKeySize && AsText(wrapped.first(kPrefix.size())) == kPrefix;
  if (!isLater) return absl::DataLossError("it is no wrapped key");
  uint64_t generation = 0;
  for (const uint8_t byte : wrapped.subspan(kPrefix.size(), 8)) generation = generation << 8 | byte;
  return generation;
}

// The header is authenticated, too.
ByteBuffer AadOf(Bytes header, Bytes context) {
  ByteBuffer aad(header.begin(), header.end());
  Append(aad, context);
  return aad;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RootKey>> FileRootKey::Open(const std::string& path, bool mayCreate) {
  absl::StatusOr<RootKeyGeneration> root = ReadRootKeyFile(path);
  if (absl::IsNotFound(root.status()) && mayCreate) {
    ForgetRegistries(path);
    root = CreateRootKeyFile(path);
  }
  if (!root.ok()) return root.status();
  // What cannot be done now is tried again, and reported, by ForgetOlder.
  FinishRootKeyFile(path).IgnoreError();
  return std::unique_ptr<RootKey>(new FileRootKey(path, *std::move(root)));
}

FileRootKey::FileRootKey(const std::string& path, RootKeyGeneration root)
    : path_(path), name_(StrCat("root key file ", path)), root_(std::move(root)) {}

absl::StatusOr<RootKey::DataKey> FileRootKey::GenerateDataKey(Bytes context, Deadline /*deadline*/) {
  const MutexLock lock(mutex_);
  DataKey made{crypto::SecretKey::Random(), {}};
  ASSIGN_OR_RETURN(made.wrapped, Wrap(root_.generation, made.key, context));
  return made;
}

std::vector<absl::StatusOr<crypto::SecretKey>> FileRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                   Deadline /*deadline*/) {
  const MutexLock lock(mutex_);
  std::vector<absl::StatusOr<crypto::SecretKey>> unwrapped;
  unwrapped.reserve(keys.size());
  for (const WrappedKey& key : keys) unwrapped.push_back(UnwrapOne(key));
  return unwrapped;
}

absl::StatusOr<crypto::SecretKey> FileRootKey::UnwrapOne(const WrappedKey& wrapped) {
  ASSIGN_OR_RETURN(const uint64_t generation, GenerationOf(wrapped.wrapped));
  ASSIGN_OR_RETURN(const crypto::SecretKey key, KeyOf(generation));
  if (generation == 0) return crypto::UnwrapKey(key, wrapped.wrapped, wrapped.context);
  return crypto::UnwrapKey(key, wrapped.wrapped.subspan(kHeaderSize),
                           AadOf(wrapped.wrapped.first(kHeaderSize), wrapped.context));
}

absl::StatusOr<ByteBuffer> FileRootKey::Wrap(uint64_t generation, const crypto::SecretKey& key, Bytes context) {
  ASSIGN_OR_RETURN(const crypto::SecretKey wrapping, KeyOf(generation));
  if (generation == 0) return crypto::WrapKey(wrapping, key, context);
  ByteBuffer wrapped = HeaderOf(generation);
  const ByteBuffer body = crypto::WrapKey(wrapping, key, AadOf(wrapped, context));
  Append(wrapped, body);
  return wrapped;
}

absl::StatusOr<crypto::SecretKey> FileRootKey::KeyOf(uint64_t generation) {
  if (generation < root_.generation) {
    return absl::NotFoundError(StrCat(name_, " is of generation ", root_.generation, ", and this needs generation ",
                                      generation, ", which was destroyed when epochs turned"));
  }
  if (generation - root_.generation > kMostGenerationsAhead || generation > RootKeyGeneration::kMost) {
    return absl::DataLossError("a wrapped key names a generation that there cannot be");
  }
  return DeriveGeneration(root_, generation);
}

std::vector<absl::StatusOr<ByteBuffer>> FileRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline /*deadline*/) {
  return std::vector<absl::StatusOr<ByteBuffer>>(
      keys.size(),
      absl::UnimplementedError(StrCat(name_, " moves on to its next generation when epochs turn: kveil epochs turn")));
}

absl::StatusOr<RootKey::Turned> FileRootKey::Turn(const WrappedKey& secret, Bytes epochContext, Deadline /*deadline*/) {
  const MutexLock lock(mutex_);
  ASSIGN_OR_RETURN(const crypto::SecretKey key, UnwrapOne(secret));
  // After what the registry has, also where the file was left behind.
  ASSIGN_OR_RETURN(const uint64_t ofSecret, GenerationOf(secret.wrapped));
  const uint64_t next = std::max(ofSecret, root_.generation) + 1;
  Turned turned;
  ASSIGN_OR_RETURN(turned.secret, Wrap(next, key, secret.context));
  turned.epoch.key = crypto::SecretKey::Random();
  ASSIGN_OR_RETURN(turned.epoch.wrapped, Wrap(next, turned.epoch.key, epochContext));
  return turned;
}

// What cannot be noted now is tried again by ForgetOlder.
void FileRootKey::NoteRegistry(std::string_view registry) {
  const MutexLock lock(mutex_);
  registry_ = registry;
  NoteOnlyRegistry(path_, registry_).IgnoreError();
}

absl::StatusOr<bool> FileRootKey::ForgetOlder(absl::Span<const WrappedKey> needed, Deadline /*deadline*/) {
  const MutexLock lock(mutex_);
  uint64_t oldest = RootKeyGeneration::kMost;
  for (const WrappedKey& one : needed) {
    // A number alone could be anybody's: what opens is ours.
    RETURN_IF_ERROR(UnwrapOne(one).status());
    ASSIGN_OR_RETURN(const uint64_t generation, GenerationOf(one.wrapped));
    oldest = std::min(oldest, generation);
  }
  if (needed.empty() || oldest == 0) return false;
  if (oldest > root_.generation) RETURN_IF_ERROR(NoteOnlyRegistry(path_, registry_));
  ASSIGN_OR_RETURN(crypto::SecretKey key, KeyOf(oldest));
  RootKeyGeneration next{std::move(key), oldest};
  RETURN_IF_ERROR(AdvanceRootKeyFile(path_, next));
  root_ = std::move(next);
  return true;
}

std::chrono::milliseconds FileRootKey::SettledFor(int64_t epoch) { return SettledNote(path_).SettledFor(epoch); }

absl::Status FileRootKey::Check(Deadline /*deadline*/) {
  absl::StatusOr<RootKeyGeneration> file = ReadRootKeyFile(path_);
  if (!file.ok()) return absl::FailedPreconditionError(file.status().message());
  const MutexLock lock(mutex_);
  // Another process on this node may have moved it on. One of an earlier generation opens everything, too.
  if (AreOfOneKey(*file, root_)) return absl::OkStatus();
  return absl::FailedPreconditionError(StrCat(name_, " holds another key than the one in use; restore it"));
}

}  // namespace kveil::keys
