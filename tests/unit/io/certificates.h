// Certificate authorities, certificates and revocation lists for tests, made anew in each run.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <sstream>
#include <string>

#include "base/text.h"

namespace kveil::io {

struct TestCertificate {
  std::string certificate;  // paths of PEM files
  std::string key;
};

// A certificate authority whose files live as long as it does.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "test authority") : name_(name) {
    std::string pattern = std::filesystem::temp_directory_path() / "kveil-tls-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
    key_.reset(EVP_EC_gen("P-256"));
    certificate_.reset(X509_new());
    Fill(certificate_.get(), "CN=" + name_, key_.get(), -3600, 3600);
    Extend(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
    Extend(certificate_.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
    X509_sign(certificate_.get(), key_.get(), EVP_sha256());
    Write(path(), [this](FILE* file) { return PEM_write_X509(file, certificate_.get()); });
  }
  ~TestAuthority() { std::filesystem::remove_all(folder_); }
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  std::string path() const { return folder_ + "/ca.pem"; }
  const std::string& folder() const { return folder_; }

  // `names` as OpenSSL writes them: "DNS:broker.example,IP:127.0.0.1". Valid from an hour ago (validFrom) for that many
  // seconds from now. Written to FILE.crt and FILE.key of the folder. `subject`: "CN=orders,OU=dev"; empty: FILE is its
  // common name.
  TestCertificate Issue(const std::string& file, const std::string& names, long seconds = 3600,
                        const std::string& subject = "") {
    const Key key(issuesRsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256"));
    const Certificate issued(X509_new());
    Fill(issued.get(), subject.empty() ? "CN=" + file : subject, key.get(), validFrom, seconds);
    if (!names.empty()) Extend(issued.get(), NID_subject_alt_name, names.c_str());
    X509_sign(issued.get(), key_.get(), EVP_sha256());
    const TestCertificate paths = {folder_ + "/" + file + ".crt", folder_ + "/" + file + ".key"};
    Write(paths.certificate, [&](FILE* to) { return PEM_write_X509(to, issued.get()); });
    Write(paths.key,
          [&](FILE* to) { return PEM_write_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
    lastSerial_ = ASN1_INTEGER_get(X509_get0_serialNumber(issued.get()));
    return paths;
  }

  // Of what is issued from now on.
  bool issuesRsa = false;  // instead of ECDSA
  long validFrom = -3600;  // seconds from now

  // The path of a key that belongs to none of the certificates, and is of another kind.
  std::string RsaKey() {
    const Key key(EVP_RSA_gen(2048));
    const std::string path = folder_ + "/rsa.key";
    Write(path, [&](FILE* to) { return PEM_write_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
    return path;
  }

  // A list that revokes the certificate issued last, or none; returns its path.
  std::string Revoke(bool last) {
    const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(X509_CRL_new(), X509_CRL_free);
    X509_CRL_set_version(list.get(), 1);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
    const Time now(X509_gmtime_adj(nullptr, -60)), later(X509_gmtime_adj(nullptr, 3600));
    X509_CRL_set1_lastUpdate(list.get(), now.get());
    X509_CRL_set1_nextUpdate(list.get(), later.get());
    if (last) {
      X509_REVOKED* const entry = X509_REVOKED_new();
      ASN1_INTEGER* const serial = ASN1_INTEGER_new();
      ASN1_INTEGER_set(serial, lastSerial_);
      X509_REVOKED_set_serialNumber(entry, serial);
      ASN1_INTEGER_free(serial);
      X509_REVOKED_set_revocationDate(entry, now.get());
      X509_CRL_add0_revoked(list.get(), entry);
    }
    X509_CRL_sign(list.get(), key_.get(), EVP_sha256());
    const std::string path = folder_ + "/crl.pem";
    Write(path, [&](FILE* to) { return PEM_write_X509_CRL(to, list.get()); });
    return path;
  }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(ASN1_TIME* time) const { ASN1_STRING_free(time); }
  };
  using Key = std::unique_ptr<EVP_PKEY, Free>;
  using Certificate = std::unique_ptr<X509, Free>;
  using Time = std::unique_ptr<ASN1_TIME, Free>;

  void Fill(X509* certificate, const std::string& name, EVP_PKEY* key, long from, long until) {
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serials_);
    X509_gmtime_adj(X509_getm_notBefore(certificate), from);
    X509_gmtime_adj(X509_getm_notAfter(certificate), until);
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, ',');) {
      const size_t at = part.find('=');
      const std::string value = part.substr(at + 1);
      if (value.empty()) continue;
      X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), part.substr(0, at).c_str(), MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(value.c_str()), -1, -1, 0);
    }
    X509_set_pubkey(certificate, key);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate_.get()));
  }
  void Extend(X509* certificate, int kind, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, certificate_.get(), certificate, nullptr, nullptr, 0);
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    ASSERT_NE(extension, nullptr) << value;
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }
  template <typename WriteTo>
  static void Write(const std::string& path, WriteTo write) {
    const std::unique_ptr<FILE, decltype(&::fclose)> file(::fopen(path.c_str(), "w"), ::fclose);
    ASSERT_NE(file, nullptr) << path;
    ASSERT_EQ(write(file.get()), 1) << path;
  }

  const std::string name_;
  std::string folder_;
  Key key_;
  Certificate certificate_;
  long serials_ = 0;
  long lastSerial_ = 0;
};

}  // namespace kveil::io
