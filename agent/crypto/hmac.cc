// HMAC-SHA256 over OpenSSL's SHA-256.
//
// OpenSSL 3 calls the plain functions of SHA-256 deprecated, and has nothing as fast in their place: its HMAC takes
// twice the time for one block, and its context keeps the key.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/hmac.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "crypto/openssl.h"

namespace kveil::crypto {
namespace {

constexpr size_t kBlockSize = 64;
static_assert(SecretKey::kSize <= kBlockSize);

// Of RFC 2104.
constexpr uint8_t kInnerPad = 0x36;
constexpr uint8_t kOuterPad = 0x5c;

// One of the two hashes, whose first block is the key. Wiped.
class Hash {
 public:
  Hash(const SecretKey& key, uint8_t pad) {
    uint8_t block[kBlockSize];
    memset(block, pad, sizeof(block));
    for (size_t i = 0; i < SecretKey::kSize; ++i) block[i] ^= key.bytes()[i];
    ok_ = SHA256_Init(&state_) == 1;
    Add(block);
    explicit_bzero(block, sizeof(block));
  }
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  ~Hash() { explicit_bzero(&state_, sizeof(state_)); }

  void Add(Bytes bytes) { ok_ = SHA256_Update(&state_, bytes.data(), bytes.size()) == 1 && ok_; }
  void Finish(uint8_t* out) { RequireOpenSsl(SHA256_Final(out, &state_) == 1 && ok_, "SHA-256"); }

 private:
  SHA256_CTX state_;
  bool ok_;
};

}  // namespace

void HmacSha256(const SecretKey& key, absl::Span<const Bytes> parts, uint8_t* out) {
  static_assert(kHmacSize == SHA256_DIGEST_LENGTH);
  uint8_t digest[kHmacSize];
  Hash inner(key, kInnerPad);
  for (Bytes part : parts) inner.Add(part);
  inner.Finish(digest);
  Hash outer(key, kOuterPad);
  outer.Add(digest);
  outer.Finish(out);
  explicit_bzero(digest, sizeof(digest));
}

bool EqualInConstantTime(Bytes left, Bytes right) {
  return left.size() == right.size() && CRYPTO_memcmp(left.data(), right.data(), left.size()) == 0;
}

}  // namespace kveil::crypto
