// Owners of OpenSSL's objects, and what to do when a call that cannot fail fails. Private to this folder.
#pragma once

#include <openssl/evp.h>

#include <memory>

namespace kveil::crypto {

struct FreeOpenSsl {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
};

using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeOpenSsl>;

// Calls here fail only when memory or the OpenSSL installation is broken. Ending the process is then the one answer
// that cannot let anything leave unsealed.
void RequireOpenSsl(bool ok, const char* call);

// The algorithm, fetched from the providers once in the life of the process: an implicit fetch costs 200 ns a call.
const EVP_CIPHER* Aes256Gcm();
const EVP_CIPHER* Aes256Ecb();

}  // namespace kveil::crypto
