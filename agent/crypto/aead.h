// AES-256-GCM (NIST SP 800-38D) for many small records under many keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/bytes.h"
#include "crypto/key_id.h"
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

// Places for expanded keys, each 1 KiB with libipsec-mb, which keeps them in SecretMemory. Allocates nothing after the
// constructor with libipsec-mb; with OpenSSL, each place when it is first used. One thread at a time.
//
//   GcmKeys keys(8);
//   keys.Expand(3, DeriveBatchKey(scopeKey, salt));
//   keys.Seal(3, NonceOf(Suite::kBatchKey, salt, index), aad, value, out);
//   keys.Wipe(3);
//
// Under one key, a nonce seals once.
class GcmKeys {
 public:
  explicit GcmKeys(size_t count, Engine engine = DefaultEngine());
  GcmKeys(GcmKeys&&) noexcept;
  ~GcmKeys();

  size_t count() const;

  void Expand(size_t place, const SecretKey& key);
  // Until the next Expand, Seal and Open must not be called for this place.
  void Wipe(size_t place);
  // Wipes what the last Seal or Open left of its key outside of its place.
  void ForgetLast();
  // Seal or Open with this key comes soon, of a text of about this size.
  void Prefetch(size_t place, size_t size) const;

  // Writes plaintext.size() + kTagSize bytes to `out`: ciphertext, then tag. `out` may be plaintext.data(), else the
  // two must not overlap. plaintext.size() < 2^31.
  void Seal(size_t place, const Nonce& nonce, Bytes aad, Bytes plaintext, uint8_t* out);

  // Writes sealed.size() - kTagSize bytes to `out` and returns true when `sealed` was sealed under this key, nonce and
  // additional data. Otherwise returns false, and `out` holds zeros: unauthenticated bytes are never given out.
  // `out` may be sealed.data(), else the two must not overlap. The tag is compared in constant time.
  [[nodiscard]] bool Open(size_t place, const Nonce& nonce, Bytes aad, Bytes sealed, uint8_t* out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kveil::crypto
