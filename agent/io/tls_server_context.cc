#include "io/tls_server_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/bytes.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "io/tls_files.h"

namespace kveil::io {
namespace {

constexpr long kResumableSeconds = 600;
constexpr long kLongestClientChain = 32 << 10;  // bytes
constexpr off_t kLongestKeyFile = 64 << 10;

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

absl::Status CheckKeyFile(const std::string& path, const struct stat& info) {
  const auto wrong = [&](std::string_view what) { return absl::InvalidArgumentError(StrCat(path, ": ", what)); };
  if (!S_ISREG(info.st_mode)) return wrong("is no regular file");
  if ((info.st_mode & 077) != 0) return wrong("others than its owner may use it: make its mode 600");
  if (info.st_uid != 0 && info.st_uid != ::geteuid()) {
    return wrong("belongs to neither root nor the user that kveil runs as");
  }
  if (info.st_size > kLongestKeyFile) return wrong("is too long for a key");
  return absl::OkStatus();
}

absl::StatusOr<EVP_PKEY*> ReadKey(const std::string& path) {
  ASSIGN_OR_RETURN(const UniqueFd file, OpenPem(path));
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return WrongPem(path, "cannot be read");
  RETURN_IF_ERROR(CheckKeyFile(path, info));
  ByteBuffer text(static_cast<size_t>(info.st_size));
  const absl::Cleanup wipe = [&text] { OPENSSL_cleanse(text.data(), text.size()); };
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(std::max<ssize_t>(size, 0))));
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr);
  if (key == nullptr) return WrongPem(path, "no private key without a passphrase is in it");
  return key;
}

bool HasName(X509* certificate, std::string_view name) {
  return X509_check_host(certificate, name.data(), name.size(), kTlsNameRules, nullptr) == 1;
}

absl::Status AskForCertificates(SSL_CTX* context, const TlsServerFiles& files) {
  if (files.clientCa.empty()) {
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_timeout(context, kResumableSeconds);
    return absl::OkStatus();
  }
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(files.clientCa.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(context, files.clientCa.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return WrongPem(files.clientCa, "no certificates that could be trusted are in it");
  }
  SSL_CTX_set_client_CA_list(context, names);  // which owns it from here on
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (files.needsCertificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  SSL_CTX_set_max_cert_list(context, kLongestClientChain);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context, 0);
  return absl::OkStatus();
}

}  // namespace

TlsServerContext::TlsServerContext(std::unique_ptr<SSL_CTX, Free> context, std::vector<Identity> identities)
    : context_(std::move(context)), identities_(std::move(identities)) {}

absl::StatusOr<TlsServerContext::Identity> TlsServerContext::ReadIdentity(const TlsServerFiles::Identity& files) {
  Identity identity;
  identity.file = files.certificate;
  const Bio bio(BIO_new_file(files.certificate.c_str(), "r"));
  if (bio != nullptr) identity.certificate.reset(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
  if (identity.certificate == nullptr) return WrongPem(files.certificate, "no certificate is in it");
  identity.chain.reset(sk_X509_new_null());
  while (X509* const issuer = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    sk_X509_push(identity.chain.get(), issuer);
  }
  ASSIGN_OR_RETURN(EVP_PKEY* const key, ReadKey(files.key));
  identity.key.reset(key);
  if (X509_check_private_key(identity.certificate.get(), key) != 1) {
    return absl::InvalidArgumentError(StrCat(files.key, ": is not the key of ", files.certificate));
  }
  return identity;
}

absl::StatusOr<std::shared_ptr<const TlsServerContext>> TlsServerContext::Load(const TlsServerFiles& files,
                                                                               bool version12) {
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no TLS context");
  SSL_CTX_set_min_proto_version(context.get(), version12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);  // clients keep their tickets
  SSL_CTX_set_cert_cb(context.get(), ChooseIdentity, nullptr);
  ERR_clear_error();
  absl::Status asks = AskForCertificates(context.get(), files);
  std::vector<Identity> identities;
  for (const TlsServerFiles::Identity& each : files.identities) {
    if (!asks.ok()) break;
    absl::StatusOr<Identity> identity = ReadIdentity(each);
    asks = identity.status();
    if (!identity.ok()) break;
    const std::unique_ptr<SSL, TlsSession::Free> trial(SSL_new(context.get()));
    if (trial == nullptr || !Show(*identity, trial.get())) {
      asks = absl::InvalidArgumentError(
          StrCat(each.certificate, ": cannot be used: ", ERR_reason_error_string(ERR_peek_error())));
      break;
    }
    identities.push_back(*std::move(identity));
  }
  ERR_clear_error();
  if (!asks.ok()) return asks;
  return std::shared_ptr<const TlsServerContext>(new TlsServerContext(std::move(context), std::move(identities)));
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsServerContext::NewSession(TlsPeer broker) const {
  std::unique_ptr<SSL, TlsSession::Free> ssl(SSL_new(context_.get()));
  if (ssl == nullptr) return absl::InternalError("OpenSSL gives no TLS session");
  return std::unique_ptr<TlsSession>(new TlsSession(shared_from_this(), std::move(ssl), std::move(broker)));
}

const TlsServerContext::Identity& TlsServerContext::IdentityFor(const char* askedName, const TlsPeer& broker) const {
  const auto first = [this](const auto& fits) {
    return std::find_if(identities_.begin(), identities_.end(),
                        [&](const Identity& each) { return fits(each.certificate.get()); });
  };
  auto found = identities_.end();
  if (askedName != nullptr) found = first([&](X509* each) { return HasName(each, askedName); });
  if (found == identities_.end()) {
    found = first([&](X509* each) {
      return std::any_of(broker.names.begin(), broker.names.end(),
                         [&](const std::string& name) { return HasName(each, name); });
    });
  }
  if (found == identities_.end()) {
    const std::string address = broker.address.AddressText();
    found = first([&](X509* each) { return X509_check_ip_asc(each, address.c_str(), 0) == 1; });
  }
  return found == identities_.end() ? identities_.front() : *found;
}

// Called when the client's greeting has been read, and the session is not resumed.
int TlsServerContext::ChooseIdentity(SSL* ssl, void*) {
  const auto& session = *static_cast<const TlsSession*>(SSL_get_app_data(ssl));
  const Identity& chosen =
      session.serverContext_->IdentityFor(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), session.peer_);
  return Show(chosen, ssl) ? 1 : 0;
}

bool TlsServerContext::Show(const Identity& identity, SSL* ssl) {
  return SSL_use_cert_and_key(ssl, identity.certificate.get(), identity.key.get(), identity.chain.get(), 1) == 1;
}

std::string TlsServerContext::Expired() const {
  for (const Identity& identity : identities_) {
    if (X509_cmp_current_time(X509_get0_notAfter(identity.certificate.get())) < 0) return identity.file;
  }
  return "";
}

}  // namespace kveil::io
