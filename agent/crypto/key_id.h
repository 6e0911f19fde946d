// Names and derivations of keys: the key id that a record carries, its mask, the salt of a batch, the batch key.
// docs/envelope.md gives the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "crypto/secret.h"

namespace kveil::crypto {

// The sealing algorithm, the low nibble of an envelope's first byte.
enum class Suite : uint8_t { kAes256Gcm = 1 };

// First 16 bytes of HMAC-SHA256(scope key, "kveil id 1"): finds the scope key and commits to it.
struct KeyId {
  std::array<uint8_t, 16> bytes{};

  friend bool operator==(const KeyId&, const KeyId&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const KeyId& id) {
    return H::combine(std::move(state), id.bytes);
  }
};

// Random for each batch that is sealed, and shared by the records of that batch.
struct Salt {
  std::array<uint8_t, 12> bytes{};

  friend bool operator==(const Salt&, const Salt&) = default;
  template <typename H>
  friend H AbslHashValue(H state, const Salt& salt) {
    return H::combine(std::move(state), salt.bytes);
  }
};

Salt RandomSalt();

KeyId ComputeKeyId(const SecretKey& scopeKey);

// HMAC-SHA256(scope key, "kveil key 1" | suite | salt): one block of HKDF-Expand (RFC 5869); the scope key is uniform,
// so no extract step is needed.
SecretKey DeriveBatchKey(const SecretKey& scopeKey, Suite suite, const Salt& salt);

// Hides which records belong to one person from those who can read the broker: AES-256 of one block, (key id XOR salt
// padded with zeros), under HMAC-SHA256(registry secret, "kveil mask 1"). Not its own inverse. One instance per thread.
class KeyIdMask {
 public:
  explicit KeyIdMask(const SecretKey& registrySecret);
  KeyIdMask(KeyIdMask&&) noexcept;
  KeyIdMask& operator=(KeyIdMask&&) noexcept;
  ~KeyIdMask();

  KeyId Mask(const KeyId& id, const Salt& salt);
  KeyId Unmask(const KeyId& masked, const Salt& salt);

 private:
  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
};

}  // namespace kveil::crypto
