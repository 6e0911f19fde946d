#include "io/tls_session.h"

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"
#include "io/bug.h"
#include "io/tls_context.h"
#include "io/tls_files.h"
#include "io/tls_server_context.h"

namespace kveil::io {
namespace {

// What a peer may have us say while we read, and has not been sent: without bound, it could be made to fill our memory.
constexpr size_t kMostSaidWhileReading = 16 << 10;

// New keys are asked for each 137 GB by Java, and cost microseconds: a client that does nothing else would hold the
// thread.
constexpr size_t kMostMessages = 1000;

// What a client may send in a handshake. OpenSSL would take a greeting of 128 KiB, twice; usual ones have less than 2.
constexpr size_t kLongestGreeting = 16 << 10;   // bytes: what comes before the first answer
constexpr size_t kLongestHandshake = 48 << 10;  // bytes: all of it, with a certificate's chain

// The newest cause that OpenSSL has noted, in words.
std::string Cause() {
  const unsigned long error = ERR_peek_last_error();
  const char* const reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : "the peer ended the connection";
}

}  // namespace

TlsSession::TlsSession(std::shared_ptr<TlsContext> context, std::unique_ptr<SSL, Free> ssl, TlsPeer peer,
                       Clock::time_point checkedAt)
    : context_(std::move(context)),
      isServer_(false),
      ssl_(std::move(ssl)),
      peer_(std::move(peer)),
      checkedAt_(checkedAt) {
  Attach();
  SSL_set_connect_state(ssl_.get());
}

TlsSession::TlsSession(std::shared_ptr<const TlsServerContext> context, std::unique_ptr<SSL, Free> ssl, TlsPeer peer)
    : serverContext_(std::move(context)), isServer_(true), ssl_(std::move(ssl)), peer_(std::move(peer)), checkedAt_() {
  Attach();
  SSL_set_accept_state(ssl_.get());
}

void TlsSession::Attach() {
  BIO* const bio = BIO_new(Method());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // which owns it from here on
  SSL_set_app_data(ssl_.get(), this);
}

// OpenSSL takes a connection that we have not ended for one that broke, and never takes its session up again; but most
// are ended by the broker.
TlsSession::~TlsSession() {
  if (problem_.empty() && SSL_is_init_finished(ssl_.get()) == 1) {
    SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }
}

BIO_METHOD* TlsSession::Method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* const made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kveil");
    BIO_meth_set_read(made, BioRead);
    BIO_meth_set_write(made, BioWrite);
    BIO_meth_set_ctrl(made, BioControl);
    return made;
  }();
  return method;
}

int TlsSession::BioRead(BIO* bio, char* into, int size) {
  auto& session = *static_cast<TlsSession*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  const size_t count = std::min(session.input_.size(), static_cast<size_t>(size));
  if (count == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(into, session.input_.data(), count);
  session.input_.remove_prefix(count);
  if (session.serverContext_ != nullptr) session.fed_ += count;
  return static_cast<int>(count);
}

int TlsSession::BioWrite(BIO* bio, const char* from, int size) {
  auto& session = *static_cast<TlsSession*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  Append(session.output_, AsBytes({from, static_cast<size_t>(size)}));
  session.hasAnswered_ = true;
  return size;
}

long TlsSession::BioControl(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

absl::StatusOr<bool> TlsSession::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    if (isServer_) SSL_certs_clear(ssl_.get());
    serverContext_.reset();
    return true;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) {
    RETURN_IF_ERROR(CheckHandshakeSize());
    return false;
  }
  const long verified = SSL_get_verify_result(ssl_.get());
  if (verified != X509_V_OK) {
    return absl::PermissionDeniedError(
        StrCat("TLS: the ", peerName(), "'s certificate is refused: ", X509_verify_cert_error_string(verified)));
  }
  return absl::UnavailableError(StrCat("TLS: ", Cause()));
}

absl::Status TlsSession::CheckHandshakeSize() const {
  if (fed_ <= (hasAnswered_ ? kLongestHandshake : kLongestGreeting)) return absl::OkStatus();
  return absl::UnavailableError(StrCat("TLS: the application sends too much in its handshake (allowed: ",
                                       kLongestGreeting, " bytes first, and ", kLongestHandshake, " in all)"));
}

TlsOwner TlsSession::ClientCertificate() const {
  TlsOwner owner;
  X509* const certificate = SSL_get0_peer_certificate(ssl_.get());
  if (certificate == nullptr || SSL_get_verify_result(ssl_.get()) != X509_V_OK) return owner;
  X509_NAME* const name = X509_get_subject_name(certificate);
  owner.subject = SubjectText(certificate);
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (at < 0 || X509_NAME_get_index_by_NID(name, NID_commonName, at) >= 0) return owner;
  unsigned char* common = nullptr;
  const int length = ASN1_STRING_to_UTF8(&common, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  if (length >= 0) owner.commonName.assign(reinterpret_cast<char*>(common), static_cast<size_t>(length));
  OPENSSL_free(common);
  return owner;
}

void TlsSession::Feed(Bytes ciphertext) {
  internal::Require(input_.empty(), "TLS was fed before it had read what it was fed");
  input_ = ciphertext;
}

void TlsSession::KeepInput() {
  ByteBuffer kept;
  Append(kept, input_);  // which may lie in keptInput_
  keptInput_ = std::move(kept);
  input_ = keptInput_;
}

int TlsSession::Read(MutableBytes into) {
  ERR_clear_error();
  size_t count = 0;
  const size_t before = output_.size();
  const int result = SSL_read_ex(ssl_.get(), into.data(), into.size(), &count);
  if (input_.empty()) keptInput_ = ByteBuffer();  // a connection that waits holds none
  // With TLS 1.2, each wish for another handshake is answered by a refusal.
  const bool saysTooMuch = output_.size() > before && output_.size() > kMostSaidWhileReading;
  if (saysTooMuch || messages_ > kMostMessages) {
    if (problem_.empty()) problem_ = "the peer asks for new keys or another handshake again and again";
    return -EPROTO;
  }
  if (result == 1) {
    hasRead_ = true;
    messages_ = 0;
    return static_cast<int>(count);
  }
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
      return 0;
    default:
      if (problem_.empty()) problem_ = Cause();
      return -EPROTO;
  }
}

// OpenSSL reads on until there is plaintext: what follows is taken away.
void TlsSession::CountMessage() {
  if (++messages_ > kMostMessages) input_ = Bytes();
}

absl::StatusOr<bool> TlsSession::Write(Bytes plaintext) {
  ERR_clear_error();
  size_t count = 0;
  const int result = SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &count);
  if (result == 1) return true;
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) return false;
  return absl::UnavailableError(StrCat("TLS: ", problem_.empty() ? Cause() : problem_));
}

void TlsSession::WriteEnd() {
  if (std::exchange(ended_, true)) return;  // a second call would read, and throw away what it finds
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
}

}  // namespace kveil::io
