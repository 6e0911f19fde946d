#include "keys/root/signed_jwt.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "keys/root/secret_json.h"

namespace kveil::keys {
namespace {

using crypto::SecretText;

constexpr int kFewestBits = 2048;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

// Never asks anybody for a password.
int NoPassword(char* /*buffer*/, int /*size*/, int /*isWriting*/, void* /*data*/) { return -1; }

void AppendBase64(SecretText& text, Bytes bytes) {
  crypto::Append(text, crypto::AsText(ToSecretBase64(bytes, Base64::kUrl)));
}

Bytes BytesOf(const SecretText& text) { return AsBytes(crypto::AsText(text)); }

}  // namespace

absl::StatusOr<SecretText> SignJwt(const SecretText& key, std::string_view keyId, const SecretText& claims) {
  const Owned<BIO> bio(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  const Owned<EVP_PKEY> pair(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (pair == nullptr || EVP_PKEY_base_id(pair.get()) != EVP_PKEY_RSA || EVP_PKEY_bits(pair.get()) < kFewestBits) {
    ERR_clear_error();
    return absl::FailedPreconditionError("its private key is no RSA key of 2,048 bits or more");
  }
  const SecretText header = keyId.empty() ? JsonObject({{"alg", "RS256"}, {"typ", "JWT"}})
                                          : JsonObject({{"alg", "RS256"}, {"typ", "JWT"}, {"kid", keyId}});
  SecretText jwt;
  AppendBase64(jwt, BytesOf(header));
  jwt.push_back('.');
  AppendBase64(jwt, BytesOf(claims));
  const Owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
  std::vector<uint8_t> signature(static_cast<size_t>(EVP_PKEY_size(pair.get())));
  size_t size = signature.size();
  const bool isSigned = EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, pair.get()) == 1 &&
                        EVP_DigestSign(context.get(), signature.data(), &size, BytesOf(jwt).data(), jwt.size()) == 1;
  if (!isSigned) return absl::FailedPreconditionError("its private key does not sign");
  jwt.push_back('.');
  AppendBase64(jwt, Bytes(signature).first(size));
  return jwt;
}

}  // namespace kveil::keys
