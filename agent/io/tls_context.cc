#include "io/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/text.h"

namespace kveil::io {
namespace {

// Brokers whose sessions are kept at most.
constexpr size_t kMostResumable = 1000;
// And for how long: the certificate is looked at only when a session begins, and may expire.
constexpr time_t kResumableSeconds = 600;

absl::Status Wrong(const std::string& file, std::string_view what) {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(error);
  return absl::InvalidArgumentError(StrCat(file, ": ", what, reason != nullptr ? ": " : "", reason ? reason : ""));
}

// Nobody is there to type a passphrase.
int NoPassphrase(char*, int, int, void*) { return -1; }

absl::Status LoadTrusted(SSL_CTX* context, const TlsFiles& files) {
  ERR_clear_error();
  if (files.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (SSL_CTX_load_verify_file(context, files.ca.c_str()) != 1) {
    return Wrong(files.ca, "no certificates that could be trusted are in it");
  }
  if (files.crl.empty()) return absl::OkStatus();
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  X509_LOOKUP* const lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, files.crl.c_str(), X509_FILETYPE_PEM) <= 0) {
    return Wrong(files.crl, "no certificate revocation list is in it");
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return absl::OkStatus();
}

absl::Status LoadIdentity(SSL_CTX* context, const TlsFiles& files) {
  if (files.certificate.empty()) return absl::OkStatus();
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return Wrong(files.certificate, "no certificate is in it");
  }
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Wrong(files.key, "no private key without a passphrase is in it");
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return absl::InvalidArgumentError(StrCat(files.key, ": is not the key of ", files.certificate));
  }
  return absl::OkStatus();
}

bool Expect(SSL* ssl, const TlsPeer& peer) {
  X509_VERIFY_PARAM* const expected = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(expected, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  for (const std::string& name : peer.names) {
    if (X509_VERIFY_PARAM_add1_host(expected, name.c_str(), name.size()) != 1) return false;
  }
  if (peer.names.empty() && X509_VERIFY_PARAM_set1_ip_asc(expected, peer.address.AddressText().c_str()) != 1) {
    return false;
  }
  return peer.sentName.empty() || SSL_set_tlsext_host_name(ssl, peer.sentName.c_str()) == 1;
}

}  // namespace

TlsContext::TlsContext(std::unique_ptr<SSL_CTX, Free> context) : context_(std::move(context)) {}
TlsContext::~TlsContext() = default;

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Load(const TlsFiles& files, bool version12) {
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no TLS context");
  SSL_CTX_set_min_proto_version(context.get(), version12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context.get(), OnNewSession);
  SSL_CTX_set_default_passwd_cb(context.get(), NoPassphrase);
  absl::Status loaded = LoadTrusted(context.get(), files);
  loaded.Update(LoadIdentity(context.get(), files));
  ERR_clear_error();
  if (!loaded.ok()) return loaded;
  return std::shared_ptr<TlsContext>(new TlsContext(std::move(context)));
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsContext::NewSession(const TlsPeer& peer) {
  std::unique_ptr<SSL, TlsSession::Free> ssl(SSL_new(context_.get()));
  if (ssl == nullptr || !Expect(ssl.get(), peer)) return absl::InternalError("OpenSSL gives no TLS session");
  // Who is taken up again was checked against the same names.
  std::string resumeAs = StrCat(peer.address.Text(), " ", absl::StrJoin(peer.names, " "));
  {
    const std::lock_guard lock(mutex_);
    const auto earlier = resumable_.find(resumeAs);
    if (earlier != resumable_.end() &&
        SSL_SESSION_get_time(earlier->second.get()) + kResumableSeconds > std::time(nullptr)) {
      SSL_set_session(ssl.get(), earlier->second.get());
    }
  }
  return std::unique_ptr<TlsSession>(new TlsSession(shared_from_this(), std::move(ssl), std::move(resumeAs)));
}

int TlsContext::OnNewSession(SSL* ssl, SSL_SESSION* session) {
  const auto& connection = *static_cast<const TlsSession*>(SSL_get_app_data(ssl));
  TlsContext& context = *connection.context_;
  const std::lock_guard lock(context.mutex_);
  if (context.resumable_.size() >= kMostResumable) context.resumable_.clear();
  context.resumable_[connection.resumeAs_] = Resumable(session);
  return 1;  // the session is ours now
}

}  // namespace kveil::io
