// Keys sealed under keys, with OpenSSL: rare enough that speed does not matter.
#include "crypto/key_wrap.h"

#include <string.h>

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

}  // namespace

ByteBuffer WrapKey(const SecretKey& wrappingKey, const SecretKey& key, Bytes aad) {
  ByteBuffer wrapped(kWrappedKeySize);
  FillRandom(absl::MakeSpan(wrapped).first(kNonceSize));
  CipherContext context = NewGcm(wrappingKey, wrapped.data(), true, aad);
  uint8_t* ciphertext = wrapped.data() + kNonceSize;
  uint8_t* tag = ciphertext + SecretKey::kSize;
  int size = 0;
  bool ok = EVP_CipherUpdate(context.get(), ciphertext, &size, key.bytes().data(), SecretKey::kSize) == 1 &&
            EVP_CipherFinal_ex(context.get(), tag, &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kWrapTagSize, tag) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
  return wrapped;
}

absl::StatusOr<SecretKey> UnwrapKey(const SecretKey& wrappingKey, Bytes wrapped, Bytes aad) {
  if (wrapped.size() != kWrappedKeySize) return absl::DataLossError("a wrapped key has the wrong size");
  CipherContext context = NewGcm(wrappingKey, wrapped.data(), false, aad);
  SecretKey key;
  uint8_t tag[kWrapTagSize];
  memcpy(tag, wrapped.data() + kNonceSize + SecretKey::kSize, kWrapTagSize);
  uint8_t rest[kWrapTagSize];
  int size = 0;
  bool ok = EVP_CipherUpdate(context.get(), key.writable().data(), &size, wrapped.data() + kNonceSize,
                             SecretKey::kSize) == 1 &&
            EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kWrapTagSize, tag) == 1 &&
            EVP_CipherFinal_ex(context.get(), rest, &size) == 1;
  if (!ok) return absl::DataLossError("a wrapped key is damaged or was wrapped by another key");
  return key;
}

}  // namespace kveil::crypto
