// Keys sealed under keys, with OpenSSL: rare enough that speed does not matter.
#include "crypto/key_wrap.h"

#include <string.h>

#include "crypto/hmac.h"
#include "crypto/openssl.h"

namespace kveil::crypto {
namespace {

constexpr size_t kNonceSize = 12;
constexpr size_t kWrapTagSize = 16;

CipherContext NewGcm(const SecretKey& key, const uint8_t* nonce, bool encrypt, Bytes aad) {
  CipherContext context(EVP_CIPHER_CTX_new());
  int size = 0;
  bool ok = context != nullptr &&
            EVP_CipherInit_ex2(context.get(), Aes256Gcm(), key.bytes().data(), nonce, encrypt, nullptr) == 1;
  if (!aad.empty()) {
    ok = ok && EVP_CipherUpdate(context.get(), nullptr, &size, aad.data(), static_cast<int>(aad.size())) == 1;
  }
  RequireOpenSsl(ok, "AES-256-GCM");
  return context;
}

// `out` has room for all but kWrapOverhead of `wrapped`. False: it is damaged.
bool Open(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad, uint8_t* out) {
  CipherContext context = NewGcm(wrappingKey, wrapped.data(), false, aad);
  const size_t length = wrapped.size() - kWrapOverhead;
  uint8_t tag[kWrapTagSize];
  memcpy(tag, wrapped.data() + kNonceSize + length, kWrapTagSize);
  uint8_t rest[kWrapTagSize];
  int size = 0;
  return EVP_CipherUpdate(context.get(), out, &size, wrapped.data() + kNonceSize, static_cast<int>(length)) == 1 &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kWrapTagSize, tag) == 1 &&
         EVP_CipherFinal_ex(context.get(), rest, &size) == 1;
}

absl::Status Damaged() { return absl::DataLossError("a wrapped key is damaged or was wrapped by another key"); }

}  // namespace

ByteBuffer WrapBytes(const SecretKey& wrappingKey, Bytes bytes, Bytes aad) {
  ByteBuffer wrapped(bytes.size() + kWrapOverhead);
  FillRandom(absl::MakeSpan(wrapped).first(kNonceSize));
  CipherContext context = NewGcm(wrappingKey, wrapped.data(), true, aad);
  uint8_t* ciphertext = wrapped.data() + kNonceSize;
  uint8_t* tag = ciphertext + bytes.size();
  int size = 0;
  bool ok = EVP_CipherUpdate(context.get(), ciphertext, &size, bytes.data(), static_cast<int>(bytes.size())) == 1 &&
            EVP_CipherFinal_ex(context.get(), tag, &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kWrapTagSize, tag) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
  return wrapped;
}

absl::StatusOr<ByteBuffer> UnwrapBytes(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad) {
  if (wrapped.size() <= kWrapOverhead) return absl::DataLossError("a wrapped key has the wrong size");
  ByteBuffer bytes(wrapped.size() - kWrapOverhead);
  if (Open(wrappingKey, wrapped, aad, bytes.data())) return bytes;
  Wipe(absl::MakeSpan(bytes));
  return Damaged();
}

ByteBuffer WrapKey(const SecretKey& wrappingKey, const SecretKey& key, Bytes aad) {
  return WrapBytes(wrappingKey, key.bytes(), aad);
}

absl::StatusOr<SecretKey> UnwrapKey(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad) {
  if (wrapped.size() != kWrappedKeySize) return absl::DataLossError("a wrapped key has the wrong size");
  SecretKey key;
  if (!Open(wrappingKey, wrapped, aad, key.writable().data())) return Damaged();
  return key;
}

ByteBuffer WrapKnownKey(const SecretKey& wrappingKey, const SecretKey& key, Bytes context) {
  static_assert(kHmacSize == SecretKey::kSize);
  ByteBuffer wrapped(SecretKey::kSize);
  const Bytes parts[] = {context};
  HmacSha256(wrappingKey, parts, wrapped.data());
  for (size_t i = 0; i < wrapped.size(); ++i) wrapped[i] ^= key.bytes()[i];
  return wrapped;
}

absl::StatusOr<SecretKey> UnwrapKnownKey(const SecretKey& wrappingKey, Bytes wrapped, Bytes context) {
  if (wrapped.size() != SecretKey::kSize) return absl::DataLossError("a wrapped key has the wrong size");
  SecretKey key;
  const Bytes parts[] = {context};
  HmacSha256(wrappingKey, parts, key.writable().data());
  for (size_t i = 0; i < wrapped.size(); ++i) key.writable()[i] ^= wrapped[i];
  return key;
}

}  // namespace kveil::crypto
