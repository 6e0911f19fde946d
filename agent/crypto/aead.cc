// AES-256-GCM by libipsec-mb or OpenSSL.
#include "crypto/aead.h"

#include <string.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "crypto/ipsec_mb.h"
#include "crypto/openssl.h"
#include "crypto/secret_memory.h"

namespace kveil::crypto {
namespace {

using Tag = std::array<uint8_t, kTagSize>;

#ifdef KVEIL_HAVE_IPSEC_MB
// In constant time. (CRYPTO_memcmp is a loop over bytes behind a call.)
bool IsTag(const Tag& computed, const Tag& expected) {
  uint64_t words[4];
  memcpy(words, computed.data(), kTagSize);
  memcpy(words + 2, expected.data(), kTagSize);
  return ((words[0] ^ words[2]) | (words[1] ^ words[3])) == 0;
}

constexpr size_t kCacheLine = 64;
constexpr size_t kRoundKeysSize = 15 * 16;

// So that the powers of the hash key, which follow the round keys, begin a cache line: the code for AVX512 reads whole
// lines of them.
struct alignas(kCacheLine) Slot {
  uint8_t unused[kCacheLine - kRoundKeysSize % kCacheLine];
  gcm_key_data key;
};
#endif

// OpenSSL: a context for each direction, as changing the direction would mean a new key schedule.
struct OpenSslKey {
  CipherContext encrypt;
  CipherContext decrypt;
};

// Reads `in` into `out` with the key and direction of the context, after the nonce and the additional data.
void RunOpenSsl(EVP_CIPHER_CTX* context, const Nonce& nonce, Bytes aad, Bytes in, uint8_t* out) {
  int size = 0;
  bool ok = EVP_CipherInit_ex2(context, nullptr, nullptr, nonce.bytes.data(), -1, nullptr) == 1;
  if (!aad.empty()) ok = ok && EVP_CipherUpdate(context, nullptr, &size, aad.data(), static_cast<int>(aad.size())) == 1;
  // An empty update would be taken for the end of the message.
  if (!in.empty()) ok = ok && EVP_CipherUpdate(context, out, &size, in.data(), static_cast<int>(in.size())) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

void SealWithOpenSsl(EVP_CIPHER_CTX* context, const Nonce& nonce, Bytes aad, Bytes plaintext, uint8_t* out) {
  RunOpenSsl(context, nonce, aad, plaintext, out);
  uint8_t* const tag = out + plaintext.size();
  int size = 0;
  bool ok = EVP_CipherFinal_ex(context, tag, &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagSize, tag) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

bool OpenWithOpenSsl(EVP_CIPHER_CTX* context, const Nonce& nonce, Bytes aad, Bytes ciphertext, Tag& expected,
                     uint8_t* out) {
  RunOpenSsl(context, nonce, aad, ciphertext, out);
  uint8_t rest[kTagSize];
  int restSize = 0;
  return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagSize, expected.data()) == 1 &&
         EVP_CipherFinal_ex(context, rest, &restSize) == 1;
}

}  // namespace

struct GcmKeys::State {
  State(size_t count, [[maybe_unused]] Engine engine) : count(count) {
#ifdef KVEIL_HAVE_IPSEC_MB
    if (engine == Engine::kIpsecMb) functions = FindIpsecMb();
    if (functions != nullptr) {
      static_assert(alignof(Slot) <= 4096, "memory comes in pages");
      memory = std::make_unique<SecretMemory>(count * sizeof(Slot));
      slots = reinterpret_cast<Slot*>(memory->data());
      return;
    }
#endif
    openSsl.resize(count);
  }

  const size_t count;
  std::vector<OpenSslKey> openSsl;  // where libipsec-mb is not used
#ifdef KVEIL_HAVE_IPSEC_MB
  const IpsecMb* functions = nullptr;
  std::unique_ptr<SecretMemory> memory;
  Slot* slots = nullptr;
  gcm_context_data context;
#endif
};

bool EngineAvailable(Engine engine) {
#ifdef KVEIL_HAVE_IPSEC_MB
  if (engine == Engine::kIpsecMb) return FindIpsecMb() != nullptr;
#endif
  return engine == Engine::kOpenSsl;
}

Engine DefaultEngine() {
  static const Engine engine = EngineAvailable(Engine::kIpsecMb) ? Engine::kIpsecMb : Engine::kOpenSsl;
  return engine;
}

std::string_view EngineName(Engine engine) { return engine == Engine::kIpsecMb ? "libipsec-mb" : "OpenSSL"; }

GcmKeys::GcmKeys(size_t count, Engine engine) : state_(std::make_unique<State>(count, engine)) {}
GcmKeys::GcmKeys(GcmKeys&&) noexcept = default;
GcmKeys::~GcmKeys() {
  if (state_ != nullptr) ForgetLast();
}

size_t GcmKeys::count() const { return state_->count; }

void GcmKeys::Expand(size_t place, const SecretKey& key) {
  const uint8_t* const bytes = key.bytes().data();
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->functions != nullptr) {
    state_->functions->precompute(bytes, &state_->slots[place].key);
    return;
  }
#endif
  OpenSslKey& contexts = state_->openSsl[place];
  if (contexts.encrypt == nullptr) {
    contexts.encrypt.reset(EVP_CIPHER_CTX_new());
    contexts.decrypt.reset(EVP_CIPHER_CTX_new());
    RequireOpenSsl(contexts.encrypt != nullptr && contexts.decrypt != nullptr, "EVP_CIPHER_CTX_new");
  }
  bool ok = EVP_EncryptInit_ex2(contexts.encrypt.get(), Aes256Gcm(), bytes, nullptr, nullptr) == 1 &&
            EVP_DecryptInit_ex2(contexts.decrypt.get(), Aes256Gcm(), bytes, nullptr, nullptr) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

void GcmKeys::Wipe(size_t place) {
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->functions != nullptr) {
    // It takes a third of OPENSSL_cleanse's time, which writes one word at a time.
    explicit_bzero(&state_->slots[place].key, sizeof(gcm_key_data));
    ForgetLast();
    return;
  }
#endif
  state_->openSsl[place] = OpenSslKey();
}

void GcmKeys::ForgetLast() {
#ifdef KVEIL_HAVE_IPSEC_MB
  explicit_bzero(&state_->context, sizeof(state_->context));
#endif
}

void GcmKeys::Prefetch(size_t place, size_t size) const {
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->functions == nullptr) return;
  const auto* const slot = reinterpret_cast<const uint8_t*>(&state_->slots[place]);
  constexpr size_t kPowers = sizeof(Slot::unused) + kRoundKeysSize;
  for (size_t line = 0; line < kPowers; line += kCacheLine) __builtin_prefetch(slot + line);
  // One power for each block of 16 bytes, the tag's and some of the additional data: the lines that are not used would
  // drive others out of the cache.
  const size_t powersSize = std::min(size + 2 * kCacheLine, sizeof(Slot) - kPowers) / kCacheLine * kCacheLine;
  const uint8_t* const powers = state_->functions->powersAreLast ? slot + sizeof(Slot) - powersSize : slot + kPowers;
  for (size_t line = 0; line < powersSize; line += kCacheLine) __builtin_prefetch(powers + line);
#else
  (void)place;
  (void)size;
#endif
}

void GcmKeys::Seal(size_t place, const Nonce& nonce, Bytes aad, Bytes plaintext, uint8_t* out) {
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->functions != nullptr) {
    // `in` is not looked at when it is empty, yet must not be null.
    const uint8_t* in = plaintext.empty() ? out : plaintext.data();
    state_->functions->encrypt(&state_->slots[place].key, &state_->context, out, in, plaintext.size(),
                               nonce.bytes.data(), aad.data(), aad.size(), out + plaintext.size(), kTagSize);
    return;
  }
#endif
  SealWithOpenSsl(state_->openSsl[place].encrypt.get(), nonce, aad, plaintext, out);
}

bool GcmKeys::Open(size_t place, const Nonce& nonce, Bytes aad, Bytes sealed, uint8_t* out) {
  if (sealed.size() < kTagSize) return false;
  const size_t size = sealed.size() - kTagSize;
  Tag expected;
  memcpy(expected.data(), sealed.data() + size, kTagSize);
  bool authentic = false;
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->functions != nullptr) {
    Tag computed;
    uint8_t unused = 0;
    state_->functions->decrypt(&state_->slots[place].key, &state_->context, size == 0 ? &unused : out, sealed.data(),
                               size, nonce.bytes.data(), aad.data(), aad.size(), computed.data(), kTagSize);
    authentic = IsTag(computed, expected);
    if (!authentic && size > 0) memset(out, 0, size);
    return authentic;
  }
#endif
  authentic = OpenWithOpenSsl(state_->openSsl[place].decrypt.get(), nonce, aad, sealed.first(size), expected, out);
  if (!authentic && size > 0) memset(out, 0, size);
  return authentic;
}

}  // namespace kveil::crypto
