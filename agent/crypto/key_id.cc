// Key ids, their mask, salts and batch keys.
#include "crypto/key_id.h"

#include <string.h>

#include <string_view>

#include "crypto/hmac.h"
#include "crypto/openssl.h"

namespace kveil::crypto {
namespace {

constexpr std::string_view kIdLabel = "kveil id 1";
constexpr std::string_view kKeyLabel = "kveil key 1";
constexpr std::string_view kMaskLabel = "kveil mask 1";

CipherContext OneBlockContext(const SecretKey& key, bool encrypt) {
  CipherContext context(EVP_CIPHER_CTX_new());
  RequireOpenSsl(
      context != nullptr &&
          EVP_CipherInit_ex2(context.get(), Aes256Ecb(), key.bytes().data(), nullptr, encrypt, nullptr) == 1 &&
          EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1,
      "AES-256-ECB");
  return context;
}

void TransformBlock(EVP_CIPHER_CTX* context, KeyId& block) {
  int size = 0;
  bool ok = EVP_CipherUpdate(context, block.bytes.data(), &size, block.bytes.data(), sizeof(block.bytes)) == 1;
  RequireOpenSsl(ok && size == sizeof(block.bytes), "AES-256-ECB");
}

void XorSalt(KeyId& id, const Salt& salt) {
  for (size_t i = 0; i < salt.bytes.size(); ++i) id.bytes[i] ^= salt.bytes[i];
}

}  // namespace

Salt RandomSalt() {
  Salt salt;
  FillRandom(absl::MakeSpan(salt.bytes));
  return salt;
}

KeyId ComputeKeyId(const SecretKey& scopeKey) {
  uint8_t digest[kHmacSize];
  const Bytes parts[] = {AsBytes(kIdLabel)};
  HmacSha256(scopeKey, parts, digest);
  KeyId id;
  memcpy(id.bytes.data(), digest, id.bytes.size());
  return id;
}

SecretKey DeriveBatchKey(const SecretKey& scopeKey, Suite suite, const Salt& salt) {
  const uint8_t suiteByte = static_cast<uint8_t>(suite);
  const Bytes parts[] = {AsBytes(kKeyLabel), Bytes(&suiteByte, 1), salt.bytes};
  SecretKey batchKey;
  static_assert(kHmacSize == SecretKey::kSize);
  HmacSha256(scopeKey, parts, batchKey.writable().data());
  return batchKey;
}

struct KeyIdMask::Contexts {
  CipherContext encrypt;
  CipherContext decrypt;
};

KeyIdMask::KeyIdMask(const SecretKey& registrySecret) : contexts_(std::make_unique<Contexts>()) {
  const Bytes parts[] = {AsBytes(kMaskLabel)};
  SecretKey key;
  HmacSha256(registrySecret, parts, key.writable().data());
  contexts_->encrypt = OneBlockContext(key, true);
  contexts_->decrypt = OneBlockContext(key, false);
}

KeyIdMask::KeyIdMask(KeyIdMask&&) noexcept = default;
KeyIdMask& KeyIdMask::operator=(KeyIdMask&&) noexcept = default;
KeyIdMask::~KeyIdMask() = default;

KeyId KeyIdMask::Mask(const KeyId& id, const Salt& salt) {
  KeyId block = id;
  XorSalt(block, salt);
  TransformBlock(contexts_->encrypt.get(), block);
  return block;
}

KeyId KeyIdMask::Unmask(const KeyId& masked, const Salt& salt) {
  KeyId block = masked;
  TransformBlock(contexts_->decrypt.get(), block);
  XorSalt(block, salt);
  return block;
}

}  // namespace kveil::crypto
