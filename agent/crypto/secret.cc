// Wiping, random bytes, and the owner of a 256-bit key.
#include "crypto/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"

namespace kveil::crypto {

void Wipe(MutableBytes memory) { OPENSSL_cleanse(memory.data(), memory.size()); }

void FillRandom(MutableBytes out) {
  while (!out.empty()) {
    ssize_t count = getrandom(out.data(), out.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      log::Error("crypto.random", {{"error", strerror(errno)}});
      log::Flush();
      abort();
    }
    out.remove_prefix(static_cast<size_t>(count));
  }
}

SecretKey SecretKey::Random() {
  SecretKey key;
  FillRandom(key.writable());
  return key;
}

absl::StatusOr<SecretKey> SecretKey::FromBytes(Bytes bytes) {
  if (bytes.size() != kSize) return absl::InvalidArgumentError("a key is 32 bytes long");
  SecretKey key;
  memcpy(key.bytes_.data(), bytes.data(), kSize);
  return key;
}

SecretKey::SecretKey(SecretKey&& other) noexcept : bytes_(other.bytes_) { Wipe(other.writable()); }

SecretKey& SecretKey::operator=(SecretKey&& other) noexcept {
  if (this == &other) return *this;
  bytes_ = other.bytes_;
  Wipe(other.writable());
  return *this;
}

SecretKey SecretKey::Copy() const {
  SecretKey copy;
  copy.bytes_ = bytes_;
  return copy;
}

bool SecretKey::Equals(const SecretKey& other) const {
  return CRYPTO_memcmp(bytes_.data(), other.bytes_.data(), kSize) == 0;
}

}  // namespace kveil::crypto
