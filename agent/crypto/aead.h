// AES-256-GCM (NIST SP 800-38D) for many small records under one batch key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "crypto/secret.h"

namespace kveil::crypto {

inline constexpr size_t kTagSize = 16;

// Which library computes. Both give the same bytes; libipsec-mb is four to five times faster on records of 100 bytes to
// 1 KiB.
enum class Engine { kIpsecMb, kOpenSsl };

// Whether this build has the engine and this CPU can run it (libipsec-mb: AES-NI and PCLMULQDQ). kOpenSsl always.
bool EngineAvailable(Engine engine);
// The fastest that is available.
Engine DefaultEngine();
std::string_view EngineName(Engine engine);

// Keep one and give it a key for each batch. libipsec-mb allocates nothing after the constructor. One thread at a time.
//
//   BatchCipher cipher;
//   cipher.SetKey(DeriveBatchKey(scopeKey, Suite::kAes256Gcm, salt));
//   cipher.Seal(index, aad, value, out);
//   cipher.ClearKey();  // at the end of the batch
//
// The nonce is 4 zero bytes, then the record index as 64-bit big endian: under one batch key an index seals once.
class BatchCipher {
 public:
  explicit BatchCipher(Engine engine = DefaultEngine());
  BatchCipher(BatchCipher&&) noexcept;
  BatchCipher& operator=(BatchCipher&&) noexcept;
  ~BatchCipher();

  void SetKey(const SecretKey& batchKey);

  // Wipes the key and all that was derived from it. Until the next SetKey, Seal and Open must not be called.
  void ClearKey();

  // Writes plaintext.size() + kTagSize bytes to `out`: ciphertext, then tag. `out` may be plaintext.data(), else the
  // two must not overlap. plaintext.size() < 2^31.
  void Seal(uint64_t recordIndex, Bytes aad, Bytes plaintext, uint8_t* out);

  // Writes sealed.size() - kTagSize bytes to `out` and returns true when `sealed` was sealed under this key, index and
  // additional data. Otherwise returns false, and `out` holds zeros: unauthenticated bytes are never given out.
  // `out` may be sealed.data(), else the two must not overlap. The tag is compared in constant time.
  [[nodiscard]] bool Open(uint64_t recordIndex, Bytes aad, Bytes sealed, uint8_t* out);

 private:
  struct State;  // the key schedule, 64-byte aligned, wiped
  struct DeleteState {
    void operator()(State* state) const;
  };
  std::unique_ptr<State, DeleteState> state_;
};

}  // namespace kveil::crypto
