#include "keys/root/gcp_root_key.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/gcp_errors.h"
#include "keys/root/gcp_identity.h"
#include "keys/root/gcp_messages.h"
#include "keys/root/unwrap_each.h"
#include "keys/root/wrapped_format.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kProvider = "gcpKms";
constexpr size_t kFields = 1;
constexpr size_t kLongestCiphertext = 1024;
constexpr size_t kMostDigits = 20;  // of a version's number

Refusal Refused(int status, const crypto::SecretText& body) { return gcp::RefusalOf(status, body, false); }
Refusal DecryptRefused(int status, const crypto::SecretText& body) { return gcp::RefusalOf(status, body, true); }

// Of "projects/P/locations/...": without the project.
std::string_view Place(std::string_view name) {
  const size_t at = name.find("/locations/");
  return at == std::string_view::npos ? "" : name.substr(at);
}

}  // namespace

std::shared_ptr<BearerSession> MakeGcpSession(const GcpOptions& options) {
  return std::make_shared<BearerSession>(
      BearerSession::Options{options.endpoint, options.ca, options.replacePause, options.leastAge},
      [options](const http::Client& client, BearerSession::Deadline deadline) {
        return gcp::AskForGcpToken(client, options, deadline);
      });
}

GcpRootKey::GcpRootKey(const GcpOptions& options, std::shared_ptr<BearerSession> session)
    : key_(options.key),
      name_(StrCat("Google Cloud KMS key ", options.key)),
      session_(session != nullptr ? std::move(session) : MakeGcpSession(options)) {}

absl::Status GcpRootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

bool GcpRootKey::Covers(std::string_view version) const {
  const std::string prefix = StrCat(Place(key_), "/cryptoKeyVersions/");
  const std::string_view place = Place(version);
  if (!place.starts_with(prefix)) return false;
  const std::string_view number = place.substr(prefix.size());
  return !number.empty() && number.size() <= kMostDigits && std::all_of(number.begin(), number.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
}

absl::StatusOr<RootKey::DataKey> GcpRootKey::GenerateDataKey(Bytes context, Deadline deadline) {
  crypto::SecretKey key = crypto::SecretKey::Random();
  absl::StatusOr<ByteBuffer> wrapped = Wrap(key, context, deadline);
  if (!wrapped.ok()) return Named(wrapped.status());
  return DataKey{std::move(key), *std::move(wrapped)};
}

absl::StatusOr<ByteBuffer> GcpRootKey::Wrap(const crypto::SecretKey& key, Bytes context, Deadline deadline) {
  ASSIGN_OR_RETURN(const crypto::SecretText body,
                   session_->Call("encrypt", StrCat("/v1/", key_, ":encrypt"),
                                  gcp::EncryptRequest(key.bytes(), context), Refused, deadline));
  ASSIGN_OR_RETURN(const gcp::EncryptAnswer answer, gcp::ParseEncrypt(body));
  if (!Covers(answer.version)) {
    return absl::UnavailableError(StrCat("another key was used: ", http::Printable(answer.version)));
  }
  if (answer.ciphertext.size() > kLongestCiphertext) return absl::UnavailableError("its ciphertext is too long");
  const std::string_view fields[] = {answer.version};
  return PackWrapped(kProvider, fields, context, answer.ciphertext);
}

std::vector<absl::StatusOr<crypto::SecretKey>> GcpRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                  Deadline deadline) {
  return UnwrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<crypto::SecretKey> {
    absl::StatusOr<crypto::SecretKey> unwrapped = UnwrapOne(key, deadline);
    if (!unwrapped.ok()) return Named(unwrapped.status());
    return unwrapped;
  });
}

std::vector<absl::StatusOr<ByteBuffer>> GcpRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  return RewrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<ByteBuffer> {
    const absl::StatusOr<crypto::SecretKey> unwrapped = UnwrapOne(key, deadline);
    if (!unwrapped.ok()) return Named(unwrapped.status());
    absl::StatusOr<ByteBuffer> rewrapped = Wrap(*unwrapped, key.context, deadline);
    if (!rewrapped.ok()) return Named(rewrapped.status());
    return rewrapped;
  });
}

std::string GcpRootKey::VersionOf(const WrappedKey& key) const {
  const std::optional<WrappedParts> parts = UnpackWrapped(kProvider, kFields, key.wrapped, key.context);
  if (!parts.has_value() || !Covers(parts->fields[0])) return "";
  const std::string_view name = parts->fields[0];
  return StrCat("version ", name.substr(name.rfind('/') + 1));
}

absl::StatusOr<crypto::SecretKey> GcpRootKey::UnwrapOne(const WrappedKey& key, Deadline deadline) {
  const std::optional<WrappedParts> parts = UnpackWrapped(kProvider, kFields, key.wrapped, key.context);
  if (!parts.has_value() || parts->rest.empty()) {
    return absl::DataLossError("a key was wrapped by another provider or for another purpose, or is damaged");
  }
  const std::string_view version = parts->fields[0];
  if (!Covers(version)) {
    return absl::DataLossError(StrCat("a key was wrapped by another one, ", http::Printable(version)));
  }
  const absl::StatusOr<crypto::SecretText> body =
      session_->Call("decrypt", StrCat("/v1/", key_, ":decrypt"), gcp::DecryptRequest(parts->rest, key.context),
                     DecryptRefused, deadline);
  if (!body.ok()) {
    return absl::Status(body.status().code(),
                        StrCat(ToStd(body.status().message()), ", wrapped by ", http::Printable(version)));
  }
  return gcp::ParseDecrypt(*body);
}

absl::Status GcpRootKey::Check(Deadline deadline) {
  const absl::Status described = Describe(deadline);
  return described.ok() ? described : Named(described);
}

absl::Status GcpRootKey::Describe(Deadline deadline) {
  ASSIGN_OR_RETURN(const crypto::SecretText body, session_->Call("get", StrCat("/v1/", key_), {}, Refused, deadline));
  return gcp::ParseKey(body);
}

}  // namespace kveil::keys
