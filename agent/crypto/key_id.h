// Names and derivations of keys: the key id that a record carries, its mask, the salt of a batch, the keys and nonces
// that records are sealed with.
// docs/envelope.md gives the bytes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "crypto/secret.h"

namespace kveil::crypto {

// How a record's key and nonce are made, the low nibble of an envelope's first byte. All are AES-256-GCM.
enum class Suite : uint8_t {
  kBatchKey = 1,   // a key for each batch, the index is the nonce
  kPeriodKey = 2,  // a key for each period; salt and index are the nonce
};

// First 16 bytes of HMAC-SHA256(scope key, "kveil id 1"): finds the scope key and commits to it.
struct KeyId {
  std::array<uint8_t, 16> bytes{};

  // Once per record: gcm compares inline what has a constant size, and calls a function for the array's operator.
  friend bool operator==(const KeyId& left, const KeyId& right) {
    return std::memcmp(left.bytes.data(), right.bytes.data(), sizeof(left.bytes)) == 0;
  }
  template <typename H>
  friend H AbslHashValue(H state, const KeyId& id) {
    return H::combine(std::move(state), id.bytes);
  }
};

// As commands, receipts and messages have it: 32 hexadecimal digits.
std::string TextOf(const KeyId& id);
// nullopt: the text is none.
std::optional<KeyId> ParseKeyId(std::string_view text);

// Random for each batch that is sealed, and shared by the records of that batch.
struct Salt {
  std::array<uint8_t, 12> bytes{};

  friend bool operator==(const Salt& left, const Salt& right) {
    return std::memcmp(left.bytes.data(), right.bytes.data(), sizeof(left.bytes)) == 0;
  }
  template <typename H>
  friend H AbslHashValue(H state, const Salt& salt) {
    return H::combine(std::move(state), salt.bytes);
  }
};

// From the kernel, and the time mixed in: a clone of a machine that repeats the kernel's bytes still gets another.
Salt RandomSalt();

KeyId ComputeKeyId(const SecretKey& scopeKey);

// HMAC-SHA256(scope key, "kveil key under a KEK 1" | KEK key), which takes the scope key's place where a record is
// sealed under both: as HKDF-Extract (RFC 5869) takes a second secret in, in the key schedule of TLS 1.3 (RFC 8446,
// section 7.1). Who lacks either key has nothing of it.
SecretKey KeyUnderKek(const SecretKey& scopeKey, const SecretKey& kekKey);

// HMAC-SHA256(scope key, "kveil key 1" | suite | salt): one block of HKDF-Expand (RFC 5869); the scope key is uniform,
// so no extract step is needed.
SecretKey DeriveBatchKey(const SecretKey& scopeKey, const Salt& salt);

// 2^14 seconds (4.6 hours), counted since 1970, modulo 2^16.
using Period = uint16_t;
Period PeriodAt(int64_t unixSeconds);

// HMAC-SHA256(scope key, "kveil key 2" | suite | period), likewise.
SecretKey DerivePeriodKey(const SecretKey& scopeKey, Period period);

struct Nonce {
  std::array<uint8_t, 12> bytes{};
};

// kBatchKey: the index, big endian. kPeriodKey: (salt + index) mod 2^96, both big endian.
inline Nonce NonceOf(Suite suite, const Salt& salt, uint64_t recordIndex) {
  Nonce nonce;
  uint32_t high = 0;
  uint64_t low = recordIndex;
  if (suite == Suite::kPeriodKey) {
    uint64_t saltLow;
    std::memcpy(&high, salt.bytes.data(), sizeof(high));
    std::memcpy(&saltLow, salt.bytes.data() + sizeof(high), sizeof(saltLow));
    low += __builtin_bswap64(saltLow);
    high = __builtin_bswap32(__builtin_bswap32(high) + (low < recordIndex ? 1 : 0));
  }
  low = __builtin_bswap64(low);
  std::memcpy(nonce.bytes.data(), &high, sizeof(high));
  std::memcpy(nonce.bytes.data() + sizeof(high), &low, sizeof(low));
  return nonce;
}

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

  // The same to many in place: 15 times as fast for each. salts.size() == ids.size().
  void Mask(absl::Span<KeyId> ids, const Salt& salt);
  void Unmask(absl::Span<KeyId> ids, absl::Span<const Salt> salts);

 private:
  struct Contexts;
  std::unique_ptr<Contexts> contexts_;
};

}  // namespace kveil::crypto
