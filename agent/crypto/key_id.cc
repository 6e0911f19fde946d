// Key ids, their mask, salts, and the keys of batches and periods.
#include "crypto/key_id.h"

#include <string.h>
#include <time.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "crypto/openssl.h"

namespace kveil::crypto {
namespace {

constexpr std::string_view kIdLabel = "kveil id 1";
constexpr std::string_view kBatchKeyLabel = "kveil key 1";
constexpr std::string_view kPeriodKeyLabel = "kveil key 2";
constexpr std::string_view kUnderKekLabel = "kveil key under a KEK 1";
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

void TransformBlocks(EVP_CIPHER_CTX* context, absl::Span<KeyId> blocks) {
  static_assert(sizeof(KeyId) == 16, "a block each, and nothing between them");
  if (blocks.empty()) return;
  auto* const bytes = reinterpret_cast<uint8_t*>(blocks.data());
  const int size = static_cast<int>(blocks.size() * sizeof(KeyId));
  int written = 0;
  bool ok = EVP_CipherUpdate(context, bytes, &written, bytes, size) == 1;
  RequireOpenSsl(ok && written == size, "AES-256-ECB");
}

template <typename Integer>
void XorAt(size_t place, uint8_t* bytes, const uint8_t* with) {
  Integer left, right;
  memcpy(&left, bytes + place, sizeof(left));
  memcpy(&right, with + place, sizeof(right));
  left ^= right;
  memcpy(bytes + place, &left, sizeof(left));
}

void XorSalt(KeyId& id, const Salt& salt) {
  static_assert(sizeof(salt.bytes) == sizeof(uint64_t) + sizeof(uint32_t));
  XorAt<uint64_t>(0, id.bytes.data(), salt.bytes.data());
  XorAt<uint32_t>(sizeof(uint64_t), id.bytes.data(), salt.bytes.data());
}

}  // namespace

std::string TextOf(const KeyId& id) { return absl::BytesToHexString(ToAbsl(AsText(id.bytes))); }

std::optional<KeyId> ParseKeyId(std::string_view text) {
  KeyId id;
  const bool isHex = std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c); });
  if (!isHex || text.size() != 2 * id.bytes.size()) return std::nullopt;
  const std::string bytes = absl::HexStringToBytes(ToAbsl(text));
  std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  return id;
}

Salt RandomSalt() {
  Salt salt;
  FillRandom(absl::MakeSpan(salt.bytes));
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t time = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  uint64_t first;
  memcpy(&first, salt.bytes.data(), sizeof(first));
  first ^= time;
  memcpy(salt.bytes.data(), &first, sizeof(first));
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

SecretKey KeyUnderKek(const SecretKey& scopeKey, const SecretKey& kekKey) {
  const Bytes parts[] = {AsBytes(kUnderKekLabel), kekKey.bytes()};
  SecretKey key;
  HmacSha256(scopeKey, parts, key.writable().data());
  return key;
}

namespace {

SecretKey DeriveKey(const SecretKey& scopeKey, std::string_view label, Suite suite, Bytes what) {
  const uint8_t suiteByte = static_cast<uint8_t>(suite);
  const Bytes parts[] = {AsBytes(label), Bytes(&suiteByte, 1), what};
  SecretKey key;
  static_assert(kHmacSize == SecretKey::kSize);
  HmacSha256(scopeKey, parts, key.writable().data());
  return key;
}

}  // namespace

SecretKey DeriveBatchKey(const SecretKey& scopeKey, const Salt& salt) {
  return DeriveKey(scopeKey, kBatchKeyLabel, Suite::kBatchKey, salt.bytes);
}

Period PeriodAt(int64_t unixSeconds) { return static_cast<Period>(unixSeconds >> 14); }

SecretKey DerivePeriodKey(const SecretKey& scopeKey, Period period) {
  const uint8_t bytes[] = {static_cast<uint8_t>(period >> 8), static_cast<uint8_t>(period)};
  return DeriveKey(scopeKey, kPeriodKeyLabel, Suite::kPeriodKey, bytes);
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
  Mask(absl::MakeSpan(&block, 1), salt);
  return block;
}

KeyId KeyIdMask::Unmask(const KeyId& masked, const Salt& salt) {
  KeyId block = masked;
  Unmask(absl::MakeSpan(&block, 1), absl::MakeConstSpan(&salt, 1));
  return block;
}

void KeyIdMask::Mask(absl::Span<KeyId> ids, const Salt& salt) {
  for (KeyId& id : ids) XorSalt(id, salt);
  TransformBlocks(contexts_->encrypt.get(), ids);
}

void KeyIdMask::Unmask(absl::Span<KeyId> ids, absl::Span<const Salt> salts) {
  TransformBlocks(contexts_->decrypt.get(), ids);
  for (size_t i = 0; i < ids.size(); ++i) XorSalt(ids[i], salts[i]);
}

}  // namespace kveil::crypto
