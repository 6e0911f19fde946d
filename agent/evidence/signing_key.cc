#include "evidence/signing_key.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#include <array>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/escaping.h"
#include "base/text.h"
#include "evidence/small_file.h"

namespace kveil::evidence {
namespace {

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free_all(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;

std::string_view TextOf(const Bio& bio) {
  char* start = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &start);
  return {start, static_cast<size_t>(size)};
}

Bio Reading(std::string_view text) { return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

const uint8_t* Data(std::string_view bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }

bool IsEd25519(const EVP_PKEY* key) { return key != nullptr && EVP_PKEY_is_a(key, "ED25519") == 1; }

}  // namespace

void SigningKey::Free::operator()(evp_pkey_st* key) const { EVP_PKEY_free(key); }

absl::StatusOr<SigningKey> SigningKey::Read(const std::string& path) {
  struct stat info;
  const bool isThere = ::lstat(path.c_str(), &info) == 0;  // if not, reading it says so
  if (isThere && !S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(
        StrCat("the signing key ", path, " is not a regular file, and links are not followed: name the file itself"));
  }
  if (isThere && (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(
        StrCat("the signing key ", path, " is not a file that only its owner may read: chmod 600 it"));
  }
  absl::StatusOr<std::string> pem = ReadFile(path);
  if (!pem.ok()) return pem.status();
  const absl::Cleanup wipe = [&pem] { OPENSSL_cleanse(pem->data(), pem->size()); };
  SigningKey key(PEM_read_bio_PrivateKey(Reading(*pem).get(), nullptr, nullptr, nullptr));
  if (!IsEd25519(key.key_.get())) {
    return absl::FailedPreconditionError(StrCat("the signing key ", path, " is no Ed25519 key in PEM"));
  }
  return key;
}

absl::StatusOr<SigningKey> SigningKey::Make() {
  SigningKey key(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  if (key.key_ == nullptr) return absl::InternalError("OpenSSL cannot make an Ed25519 key");
  return key;
}

absl::Status SigningKey::Write(const std::string& path) const {
  const Bio bio(BIO_new(BIO_s_secmem()));
  if (bio == nullptr ||
      PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return absl::InternalError("OpenSSL cannot write an Ed25519 key");
  }
  return WriteFile(path, TextOf(bio), 0600);
}

absl::StatusOr<SigningKey> SigningKey::FromPublicPem(const std::string& pem) {
  SigningKey key(PEM_read_bio_PUBKEY(Reading(pem).get(), nullptr, nullptr, nullptr));
  if (!IsEd25519(key.key_.get())) return absl::InvalidArgumentError("no public Ed25519 key in PEM");
  return key;
}

std::string SigningKey::PublicPem() const {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PUBKEY(bio.get(), key_.get());
  return std::string(TextOf(bio));
}

std::string SigningKey::Sign(std::string_view bytes) const {
  const Context context(EVP_MD_CTX_new());
  std::string signature(64, '\0');
  size_t size = signature.size();
  if (EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_.get()) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<uint8_t*>(signature.data()), &size, Data(bytes), bytes.size()) !=
          1) {
    return "";
  }
  return signature;
}

bool SigningKey::Verifies(std::string_view bytes, std::string_view signature) const {
  const Context context(EVP_MD_CTX_new());
  return EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
         EVP_DigestVerify(context.get(), Data(signature), signature.size(), Data(bytes), bytes.size()) == 1;
}

std::string Sha256Hex(std::string_view bytes) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(Data(bytes), bytes.size(), digest.data());
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

}  // namespace kveil::evidence
