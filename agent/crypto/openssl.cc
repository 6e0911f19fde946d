// OpenSSL's algorithms, fetched once.
#include "crypto/openssl.h"

#include <stdlib.h>

#include "base/log.h"

namespace kveil::crypto {
namespace {

const EVP_CIPHER* FetchCipher(const char* name) {
  EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, name, nullptr);
  RequireOpenSsl(cipher != nullptr, name);
  return cipher;
}

}  // namespace

void RequireOpenSsl(bool ok, const char* call) {
  if (ok) return;
  log::Error("crypto.openssl", {{"failed", call}});
  log::Flush();
  abort();
}

const EVP_CIPHER* Aes256Gcm() {
  static const EVP_CIPHER* const cipher = FetchCipher("AES-256-GCM");
  return cipher;
}

const EVP_CIPHER* Aes256Ecb() {
  static const EVP_CIPHER* const cipher = FetchCipher("AES-256-ECB");
  return cipher;
}

}  // namespace kveil::crypto
