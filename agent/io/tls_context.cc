#include "io/tls_context.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include <utility>

#include "absl/strings/str_join.h"
#include "base/mutex.h"
#include "base/text.h"
#include "io/tls_files.h"

namespace kveil::io {
namespace {

// Brokers whose sessions are kept at most.
constexpr size_t kMostResumable = 1000;

absl::Status LoadTrusted(SSL_CTX* context, const TlsFiles& files) {
  ERR_clear_error();
  if (files.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (SSL_CTX_load_verify_file(context, files.ca.c_str()) != 1) {
    return WrongPem(files.ca, "no certificates that could be trusted are in it");
  }
  if (files.crl.empty()) return absl::OkStatus();
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  X509_LOOKUP* const lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
  if (lookup == nullptr || X509_load_crl_file(lookup, files.crl.c_str(), X509_FILETYPE_PEM) <= 0) {
    return WrongPem(files.crl, "no certificate revocation list is in it");
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return absl::OkStatus();
}

absl::Status NotTheKey(const TlsFiles& files) {
  return absl::InvalidArgumentError(StrCat(files.key, ": is not the key of ", files.certificate));
}

absl::Status LoadIdentity(SSL_CTX* context, const TlsFiles& files) {
  if (files.certificate.empty()) return absl::OkStatus();
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return WrongPem(files.certificate, "no certificate is in it");
  }
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1) {
    if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH) return NotTheKey(files);
    return WrongPem(files.key, "no private key without a passphrase is in it");
  }
  if (SSL_CTX_check_private_key(context) != 1) return NotTheKey(files);
  return absl::OkStatus();
}

bool IsOf(X509* certificate, const TlsPeer& peer) {
  for (const std::string& name : peer.names) {
    if (X509_check_host(certificate, name.data(), name.size(), kTlsNameRules, nullptr) == 1) return true;
  }
  return peer.acceptsAddress && X509_check_ip_asc(certificate, peer.address.AddressText().c_str(), 0) == 1;
}

// Sessions are taken up again only where the same was expected.
std::string ResumeAs(const TlsPeer& peer) {
  return StrCat(peer.address.Text(), peer.acceptsAddress ? " or " : " ", absl::StrJoin(peer.names, " "));
}

}  // namespace

TlsContext::TlsContext(std::unique_ptr<SSL_CTX, Free> context, std::chrono::milliseconds resumableFor)
    : context_(std::move(context)), resumableFor_(resumableFor) {}
TlsContext::~TlsContext() = default;

absl::StatusOr<std::shared_ptr<TlsContext>> TlsContext::Load(const TlsFiles& files, bool version12,
                                                             std::chrono::milliseconds resumableFor) {
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no TLS context");
  SSL_CTX_set_min_proto_version(context.get(), version12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context.get(), Verify, nullptr);
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context.get(), OnNewSession);
  SSL_CTX_set_default_passwd_cb(context.get(), NoPassphrase);
  absl::Status loaded = LoadTrusted(context.get(), files);
  loaded.Update(LoadIdentity(context.get(), files));
  ERR_clear_error();
  if (!loaded.ok()) return loaded;
  return std::shared_ptr<TlsContext>(new TlsContext(std::move(context), resumableFor));
}

absl::StatusOr<std::unique_ptr<TlsSession>> TlsContext::NewSession(TlsPeer peer) {
  std::unique_ptr<SSL, TlsSession::Free> ssl(SSL_new(context_.get()));
  if (ssl == nullptr) return absl::InternalError("OpenSSL gives no TLS session");
  if (!peer.sentName.empty() && SSL_set_tlsext_host_name(ssl.get(), peer.sentName.c_str()) != 1) {
    return absl::InternalError(StrCat("OpenSSL does not take the name ", peer.sentName));
  }
  auto checkedAt = std::chrono::steady_clock::now();
  {
    const MutexLock lock(mutex_);
    const auto earlier = resumable_.find(ResumeAs(peer));
    if (earlier != resumable_.end() && checkedAt - earlier->second.checkedAt < resumableFor_) {
      SSL_set_session(ssl.get(), earlier->second.session.get());
      checkedAt = earlier->second.checkedAt;
    }
  }
  return std::unique_ptr<TlsSession>(new TlsSession(shared_from_this(), std::move(ssl), std::move(peer), checkedAt));
}

std::string TlsContext::Subject() const {
  X509* const shown = SSL_CTX_get0_certificate(context_.get());
  return shown == nullptr ? "" : SubjectText(shown);
}

// In place of OpenSSL's own check, which wants a name and the address where both are given.
int TlsContext::Verify(X509_STORE_CTX* chain, void*) {
  if (X509_verify_cert(chain) != 1) return 0;
  const auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const TlsPeer& peer = static_cast<const TlsSession*>(SSL_get_app_data(ssl))->peer_;
  if (IsOf(X509_STORE_CTX_get0_cert(chain), peer)) return 1;
  X509_STORE_CTX_set_error(chain, peer.names.empty() ? X509_V_ERR_IP_ADDRESS_MISMATCH : X509_V_ERR_HOSTNAME_MISMATCH);
  return 0;
}

int TlsContext::OnNewSession(SSL* ssl, SSL_SESSION* session) {
  const auto& connection = *static_cast<const TlsSession*>(SSL_get_app_data(ssl));
  TlsContext& context = *connection.context_;
  Resumable resumable;
  resumable.session.reset(session);
  // A session that was taken up again gets new tickets, for which nobody has looked at a certificate.
  resumable.checkedAt = SSL_session_reused(ssl) == 1 ? connection.checkedAt_ : std::chrono::steady_clock::now();
  const MutexLock lock(context.mutex_);
  if (context.resumable_.size() >= kMostResumable) context.resumable_.clear();
  context.resumable_[ResumeAs(connection.peer_)] = std::move(resumable);
  return 1;  // the session is ours now
}

}  // namespace kveil::io
