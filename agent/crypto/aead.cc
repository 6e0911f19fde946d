// AES-256-GCM under one batch key, by libipsec-mb or OpenSSL.
#include "crypto/aead.h"

#include <openssl/crypto.h>
#include <string.h>

#include <array>
#include <new>

#include "crypto/ipsec_mb.h"
#include "crypto/openssl.h"

namespace kveil::crypto {
namespace {

using Nonce = std::array<uint8_t, 12>;
using Tag = std::array<uint8_t, kTagSize>;

Nonce MakeNonce(uint64_t recordIndex) {
  const uint64_t bigEndian = __builtin_bswap64(recordIndex);
  Nonce nonce{};
  memcpy(nonce.data() + 4, &bigEndian, sizeof(bigEndian));
  return nonce;
}

#ifdef KVEIL_HAVE_IPSEC_MB

struct alignas(64) IpsecMbState {
  gcm_key_data key;
  gcm_context_data context;
};

// Every key of every batch is wiped when the batch is done. explicit_bzero takes a third of OPENSSL_cleanse's time,
// which writes one word at a time.
void WipeSchedule(IpsecMbState& state) { explicit_bzero(&state, sizeof(state)); }

// The tag is for the caller to append or to compare. `in` and `out` are not looked at when size is 0, yet must not be
// null.
void RunIpsecMb(aes_gcm_enc_dec_t run, IpsecMbState& state, const Nonce& nonce, Bytes aad, const uint8_t* in,
                size_t size, uint8_t* out, uint8_t* tag) {
  run(&state.key, &state.context, out, in, size, nonce.data(), aad.data(), aad.size(), tag, kTagSize);
}

#endif

// Reads `in` into `out` with the key and direction of the context, after the nonce and the additional data.
void RunOpenSsl(EVP_CIPHER_CTX* context, const Nonce& nonce, Bytes aad, Bytes in, uint8_t* out) {
  int size = 0;
  bool ok = EVP_CipherInit_ex2(context, nullptr, nullptr, nonce.data(), -1, nullptr) == 1;
  if (!aad.empty()) ok = ok && EVP_CipherUpdate(context, nullptr, &size, aad.data(), static_cast<int>(aad.size())) == 1;
  // An empty update would be taken for the end of the message.
  if (!in.empty()) ok = ok && EVP_CipherUpdate(context, out, &size, in.data(), static_cast<int>(in.size())) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

}  // namespace

struct BatchCipher::State {
  Engine engine;
  // OpenSSL: a context for each direction, as changing the direction would mean a new key schedule.
  CipherContext encrypt;
  CipherContext decrypt;
#ifdef KVEIL_HAVE_IPSEC_MB
  const IpsecMb* functions = nullptr;
  IpsecMbState ipsecMb;
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

void BatchCipher::DeleteState::operator()(State* state) const {
#ifdef KVEIL_HAVE_IPSEC_MB
  WipeSchedule(state->ipsecMb);
#endif
  delete state;
}

BatchCipher::BatchCipher(Engine engine) : state_(new State{.engine = engine}) {
#ifdef KVEIL_HAVE_IPSEC_MB
  if (engine == Engine::kIpsecMb) state_->functions = FindIpsecMb();
  if (state_->functions != nullptr) return;
#endif
  state_->engine = Engine::kOpenSsl;
  state_->encrypt.reset(EVP_CIPHER_CTX_new());
  state_->decrypt.reset(EVP_CIPHER_CTX_new());
  RequireOpenSsl(state_->encrypt != nullptr && state_->decrypt != nullptr, "EVP_CIPHER_CTX_new");
}

BatchCipher::BatchCipher(BatchCipher&&) noexcept = default;
BatchCipher& BatchCipher::operator=(BatchCipher&&) noexcept = default;
BatchCipher::~BatchCipher() = default;

void BatchCipher::SetKey(const SecretKey& batchKey) {
  const uint8_t* key = batchKey.bytes().data();
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->engine == Engine::kIpsecMb) {
    state_->functions->precompute(key, &state_->ipsecMb.key);
    return;
  }
#endif
  bool ok = EVP_EncryptInit_ex2(state_->encrypt.get(), Aes256Gcm(), key, nullptr, nullptr) == 1 &&
            EVP_DecryptInit_ex2(state_->decrypt.get(), Aes256Gcm(), key, nullptr, nullptr) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

void BatchCipher::ClearKey() {
#ifdef KVEIL_HAVE_IPSEC_MB
  WipeSchedule(state_->ipsecMb);
  if (state_->engine == Engine::kIpsecMb) return;
#endif
  EVP_CIPHER_CTX_reset(state_->encrypt.get());
  EVP_CIPHER_CTX_reset(state_->decrypt.get());
}

void BatchCipher::Seal(uint64_t recordIndex, Bytes aad, Bytes plaintext, uint8_t* out) {
  const Nonce nonce = MakeNonce(recordIndex);
  uint8_t* tag = out + plaintext.size();
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->engine == Engine::kIpsecMb) {
    const uint8_t* in = plaintext.empty() ? out : plaintext.data();
    RunIpsecMb(state_->functions->encrypt, state_->ipsecMb, nonce, aad, in, plaintext.size(), out, tag);
    return;
  }
#endif
  EVP_CIPHER_CTX* context = state_->encrypt.get();
  RunOpenSsl(context, nonce, aad, plaintext, out);
  int size = 0;
  bool ok = EVP_CipherFinal_ex(context, tag, &size) == 1 &&
            EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagSize, tag) == 1;
  RequireOpenSsl(ok, "AES-256-GCM");
}

bool BatchCipher::Open(uint64_t recordIndex, Bytes aad, Bytes sealed, uint8_t* out) {
  if (sealed.size() < kTagSize) return false;
  const Nonce nonce = MakeNonce(recordIndex);
  const size_t size = sealed.size() - kTagSize;
  Tag expected;
  memcpy(expected.data(), sealed.data() + size, kTagSize);
  bool authentic = false;
#ifdef KVEIL_HAVE_IPSEC_MB
  if (state_->engine == Engine::kIpsecMb) {
    Tag computed;
    uint8_t unused = 0;
    uint8_t* target = size == 0 ? &unused : out;
    RunIpsecMb(state_->functions->decrypt, state_->ipsecMb, nonce, aad, sealed.data(), size, target, computed.data());
    authentic = CRYPTO_memcmp(computed.data(), expected.data(), kTagSize) == 0;
    if (!authentic && size > 0) memset(out, 0, size);
    return authentic;
  }
#endif
  EVP_CIPHER_CTX* context = state_->decrypt.get();
  RunOpenSsl(context, nonce, aad, sealed.first(size), out);
  uint8_t rest[kTagSize];
  int restSize = 0;
  authentic = EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagSize, expected.data()) == 1 &&
              EVP_CipherFinal_ex(context, rest, &restSize) == 1;
  if (!authentic && size > 0) memset(out, 0, size);
  return authentic;
}

}  // namespace kveil::crypto
