#include "io/tls_server_context.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "base/bytes.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "io/tls_files.h"

namespace kveil::io {
namespace {

constexpr long kResumableSeconds = 600;
constexpr long kLongestClientChain = 16 << 10;      // bytes; a connection keeps it
constexpr off_t kLongestKeyFile = 64 << 10;         // bytes
constexpr off_t kLongestCertificateFile = 1 << 20;  // bytes: a system's whole bundle is a fifth

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

absl::Status CheckKeyFile(const std::string& path, const struct stat& info) {
  const auto wrong = [&](std::string_view what) { return absl::InvalidArgumentError(StrCat(path, ": ", what)); };
  if ((info.st_mode & 077) != 0) return wrong("others than its owner may use it: make its mode 600");
  if (info.st_uid != 0 && info.st_uid != ::geteuid()) {
    return wrong("belongs to neither root nor the user that kveil runs as");
  }
  return absl::OkStatus();
}

// A pipe, or what does not end, must not hold the agent up.
absl::StatusOr<ByteBuffer> ReadFile(const std::string& path, bool isKey) {
  ASSIGN_OR_RETURN(const UniqueFd file, OpenPem(path));
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return WrongPem(path, "cannot be read");
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(StrCat(path, ": is no regular file"));
  if (isKey) RETURN_IF_ERROR(CheckKeyFile(path, info));
  if (info.st_size > (isKey ? kLongestKeyFile : kLongestCertificateFile)) {
    return absl::InvalidArgumentError(StrCat(path, ": is too long for a ", isKey ? "key" : "list of certificates"));
  }
  ByteBuffer text(static_cast<size_t>(info.st_size));
  const ssize_t size = ::read(file.get(), text.data(), text.size());
  text.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
  if (text.empty()) return absl::InvalidArgumentError(StrCat(path, ": is empty"));
  return text;
}

absl::StatusOr<EVP_PKEY*> ReadKey(const std::string& path) {
  ASSIGN_OR_RETURN(ByteBuffer text, ReadFile(path, true));
  const absl::Cleanup wipe = [&text] { OPENSSL_cleanse(text.data(), text.size()); };
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  EVP_PKEY* const key = PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr);
  if (key == nullptr) return WrongPem(path, "no private key without a passphrase is in it");
  return key;
}

// Seconds since 1970; 0: no time.
time_t SecondsOf(const ASN1_TIME* time) {
  struct tm parts = {};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? ::timegm(&parts) : 0;
}

// "*.kafka.example" for "b1.kafka.example".
std::string WildcardFor(std::string_view name) {
  const size_t dot = name.find('.');
  return dot == std::string_view::npos ? "" : StrCat("*", name.substr(dot));
}

// Alternative names only: host names in lower case, and addresses. The common name is what an authority lets stand
// there, and nobody checks it.
std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> names;
  auto* const all = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    const GENERAL_NAME* const name = sk_GENERAL_NAME_value(all, i);
    if (name->type != GEN_DNS && name->type != GEN_IPADD) continue;
    const ASN1_STRING* const value = name->type == GEN_DNS ? name->d.dNSName : name->d.iPAddress;
    const std::string bytes(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                            static_cast<size_t>(ASN1_STRING_length(value)));
    if (name->type == GEN_DNS) {
      names.push_back(absl::AsciiStrToLower(bytes));
    } else if (char text[INET6_ADDRSTRLEN]; bytes.size() == 4 || bytes.size() == 16) {
      names.emplace_back(::inet_ntop(bytes.size() == 4 ? AF_INET : AF_INET6, bytes.data(), text, sizeof(text)));
    }
  }
  GENERAL_NAMES_free(all);
  return names;
}

}  // namespace

TlsServerContext::TlsServerContext(std::unique_ptr<SSL_CTX, Free> context, std::shared_ptr<const Material> material)
    : context_(std::move(context)), material_(std::move(material)) {}

absl::StatusOr<std::vector<TlsServerContext::Certificate>> TlsServerContext::ReadCertificates(const std::string& path,
                                                                                              Material& material) {
  ASSIGN_OR_RETURN(const ByteBuffer text, ReadFile(path, false));
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  std::vector<Certificate> certificates;
  ERR_clear_error();
  while (X509* const next = PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    certificates.emplace_back(next);
    const time_t from = SecondsOf(X509_get0_notBefore(next)), until = SecondsOf(X509_get0_notAfter(next));
    material.validities.push_back({.file = path, .from = from, .until = until});
  }
  const bool isWhole = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;  // nothing else follows
  ERR_clear_error();
  if (!isWhole) return WrongPem(path, StrCat("certificate ", certificates.size() + 1, " in it is damaged"));
  if (certificates.empty()) return WrongPem(path, "no certificate is in it");
  return certificates;
}

absl::StatusOr<TlsServerContext::Identity> TlsServerContext::ReadIdentity(const TlsServerFiles::Identity& files,
                                                                          Material& material) {
  ASSIGN_OR_RETURN(std::vector<Certificate> certificates, ReadCertificates(files.certificate, material));
  Identity identity;
  identity.certificate = std::move(certificates.front());
  identity.chain.reset(sk_X509_new_null());
  for (size_t i = 1; i < certificates.size(); ++i) sk_X509_push(identity.chain.get(), certificates[i].release());
  ASSIGN_OR_RETURN(EVP_PKEY* const key, ReadKey(files.key));
  identity.key.reset(key);
  if (X509_check_private_key(identity.certificate.get(), key) != 1) {
    return absl::InvalidArgumentError(StrCat(files.key, ": is not the key of ", files.certificate));
  }
  identity.from = SecondsOf(X509_get0_notBefore(identity.certificate.get()));
  identity.until = SecondsOf(X509_get0_notAfter(identity.certificate.get()));
  const std::vector<std::string> names = NamesOf(identity.certificate.get());
  if (names.empty()) {
    return absl::InvalidArgumentError(
        StrCat(files.certificate, ": has no alternative name (host name or address), so nobody would accept it"));
  }
  for (const std::string& name : names) {
    std::vector<size_t>& named = material.byName[name];
    if (named.empty() || named.back() != material.identities.size()) named.push_back(material.identities.size());
  }
  return identity;
}

absl::StatusOr<std::shared_ptr<const TlsServerContext>> TlsServerContext::Load(const TlsServerFiles& files,
                                                                               bool version12) {
  auto material = std::make_shared<Material>();
  material->version12 = version12;
  material->needsCertificate = files.needsCertificate;
  if (!files.clientCa.empty()) {
    ASSIGN_OR_RETURN(material->authorities, ReadCertificates(files.clientCa, *material));
  }
  for (const TlsServerFiles::Identity& each : files.identities) {
    ASSIGN_OR_RETURN(Identity identity, ReadIdentity(each, *material));
    material->identities.push_back(std::move(identity));
  }
  ASSIGN_OR_RETURN(std::shared_ptr<const TlsServerContext> context, Make(material));
  for (size_t i = 0; i < material->identities.size(); ++i) {
    ERR_clear_error();
    const std::unique_ptr<SSL, TlsSession::Free> trial(SSL_new(context->context_.get()));
    if (trial != nullptr && Show(material->identities[i], trial.get())) continue;
    const char* const reason = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    return absl::InvalidArgumentError(
        StrCat(files.identities[i].certificate, ": cannot be used: ", reason == nullptr ? "no reason" : reason));
  }
  return context;
}

absl::Status TlsServerContext::AskForCertificates(SSL_CTX* context, const Material& material) {
  if (material.authorities.empty()) {
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_timeout(context, kResumableSeconds);
    return absl::OkStatus();
  }
  for (const Certificate& authority : material.authorities) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), authority.get()) != 1 ||
        SSL_CTX_add_client_CA(context, authority.get()) != 1) {
      return absl::InternalError("OpenSSL does not take an authority");
    }
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (material.needsCertificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  SSL_CTX_set_max_cert_list(context, kLongestClientChain);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context, 0);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const TlsServerContext>> TlsServerContext::Make(
    std::shared_ptr<const Material> material) {
  std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no TLS context");
  SSL_CTX_set_min_proto_version(context.get(), material->version12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  // With TLS 1.2: forward secrecy and AEAD only (RFC 9325 section 4.2). What TLS 1.3 has is so anyway.
  if (SSL_CTX_set_cipher_list(context.get(), "ECDHE+AESGCM:ECDHE+CHACHA20") != 1) {
    return absl::InternalError("OpenSSL has none of the ciphers");
  }
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);  // an idle connection holds none
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);    // clients keep their tickets
  SSL_CTX_set1_groups_list(context.get(), "X25519:P-256:P-384:P-521");  // others take up to 13 ms
  SSL_CTX_set_cert_cb(context.get(), ChooseIdentity, nullptr);
  SSL_CTX_set_msg_callback(context.get(), OnMessage);
  RETURN_IF_ERROR(AskForCertificates(context.get(), *material));
  return std::shared_ptr<const TlsServerContext>(new TlsServerContext(std::move(context), std::move(material)));
}

absl::StatusOr<std::shared_ptr<const TlsServerContext>> TlsServerContext::Renewed() const { return Make(material_); }

absl::StatusOr<std::unique_ptr<TlsSession>> TlsServerContext::NewSession(TlsPeer broker) const {
  std::unique_ptr<SSL, TlsSession::Free> ssl(SSL_new(context_.get()));
  if (ssl == nullptr) return absl::InternalError("OpenSSL gives no TLS session");
  return std::unique_ptr<TlsSession>(new TlsSession(shared_from_this(), std::move(ssl), std::move(broker)));
}

std::vector<size_t> TlsServerContext::Named(const std::vector<std::string>& names) const {
  std::vector<size_t> found;
  for (const std::string& name : names) {
    const auto named = material_->byName.find(name);
    if (named != material_->byName.end()) found.insert(found.end(), named->second.begin(), named->second.end());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<const TlsServerContext::Identity*> TlsServerContext::OneOfEachKind(const std::vector<size_t>& among) const {
  const time_t now = ::time(nullptr);
  std::vector<const Identity*> chosen;
  for (const bool isValid : {true, false}) {
    for (const size_t index : among) {
      const Identity& each = material_->identities[index];
      if ((each.from <= now && now < each.until) != isValid) continue;
      const bool isNew = std::none_of(chosen.begin(), chosen.end(), [&](const Identity* other) {
        return EVP_PKEY_get_base_id(other->key.get()) == EVP_PKEY_get_base_id(each.key.get());
      });
      if (isNew) chosen.push_back(&each);
    }
    if (!chosen.empty()) break;  // an expired one only where there is no other
  }
  return chosen;
}

std::vector<const TlsServerContext::Identity*> TlsServerContext::IdentitiesFor(const char* askedName,
                                                                               const TlsPeer& broker) const {
  std::vector<size_t> found;
  if (askedName != nullptr) {
    const std::string asked = absl::AsciiStrToLower(askedName);
    found = Named({asked, WildcardFor(asked)});
  }
  if (found.empty()) {
    std::vector<std::string> names;
    for (const std::string& name : broker.names) {
      names.push_back(absl::AsciiStrToLower(name));
      names.push_back(WildcardFor(names.back()));
    }
    found = Named(names);
  }
  if (found.empty()) found = Named({broker.address.AddressText()});
  if (found.empty()) {
    found.resize(material_->identities.size());
    std::iota(found.begin(), found.end(), size_t{0});
  }
  return OneOfEachKind(found);
}

// Called when the client's greeting has been read, and the session is not resumed. Of those that are shown, OpenSSL
// takes the first whose kind of key the client supports, by the client's preference.
int TlsServerContext::ChooseIdentity(SSL* ssl, void*) {
  const auto& session = *static_cast<const TlsSession*>(SSL_get_app_data(ssl));
  const auto chosen =
      session.serverContext_->IdentitiesFor(SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), session.peer_);
  return std::all_of(chosen.begin(), chosen.end(), [ssl](const Identity* each) { return Show(*each, ssl); }) ? 1 : 0;
}

bool TlsServerContext::Show(const Identity& identity, SSL* ssl) {
  return SSL_use_cert_and_key(ssl, identity.certificate.get(), identity.key.get(), identity.chain.get(), 1) == 1;
}

void TlsServerContext::OnMessage(int isWritten, int, int contentType, const void*, size_t, SSL* ssl, void*) {
  auto* const session = static_cast<TlsSession*>(SSL_get_app_data(ssl));
  if (isWritten == 0 && contentType == SSL3_RT_HANDSHAKE && session != nullptr) session->CountMessage();
}

std::string TlsServerContext::Outdated() const {
  const time_t now = ::time(nullptr);
  for (const Validity& each : material_->validities) {
    if (now >= each.until) return StrCat(each.file, ": a certificate in it has expired");
    if (now < each.from) return StrCat(each.file, ": a certificate in it is not valid yet");
  }
  return "";
}

}  // namespace kveil::io
