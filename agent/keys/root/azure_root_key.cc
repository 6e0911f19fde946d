#include "keys/root/azure_root_key.h"

#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "crypto/hmac.h"
#include "keys/root/azure_errors.h"
#include "keys/root/azure_identity.h"
#include "keys/root/bound_seed.h"
#include "keys/root/unwrap_each.h"
#include "keys/root/wrapped_format.h"

namespace kveil::keys {
namespace {

constexpr std::string_view kProvider = "azureKeyVault";
constexpr std::string_view kApi = "?api-version=7.4";
constexpr size_t kFields = 2;
constexpr size_t kLongestCiphertext = 1024;  // an RSA key of 4,096 bits makes 512 bytes

std::string PathOf(std::string_view nameAndVersion, std::string_view operation) {
  return StrCat("/keys/", nameAndVersion, "/", operation, kApi);
}

struct Parts {
  std::string name, version;
  std::string_view algorithm;
  Bytes seedCheck, ciphertext;
};
std::optional<Parts> Unpack(const RootKey::WrappedKey& key) {
  const std::optional<WrappedParts> parts = UnpackWrapped(kProvider, kFields, key.wrapped, key.context);
  if (!parts.has_value() || parts->rest.size() <= kSeedCheckSize) return std::nullopt;
  const std::string_view id = parts->fields[0];
  const size_t slash = id.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string_view name = id.substr(0, slash), version = id.substr(slash + 1);
  if (!azure::IsName(name) || !azure::IsName(version)) return std::nullopt;  // the version goes into a URL
  const std::string_view algorithm = parts->fields[1];
  if (algorithm != azure::kRsaOaep256 && algorithm != azure::kA256Kw) return std::nullopt;
  return Parts{std::string(name), std::string(version), algorithm, parts->rest.first(kSeedCheckSize),
               parts->rest.subspan(kSeedCheckSize)};
}

}  // namespace

std::shared_ptr<BearerSession> MakeAzureSession(const AzureOptions& options) {
  return std::make_shared<BearerSession>(
      BearerSession::Options{options.vault, options.ca, options.replacePause, options.leastAge},
      [options](const http::Client& client, BearerSession::Deadline deadline) {
        return azure::AskForAzureToken(client, options, deadline);
      });
}

AzureRootKey::AzureRootKey(const AzureOptions& options, std::shared_ptr<BearerSession> session)
    : key_(options.key),
      name_(StrCat("Azure key ", options.key, " at ", options.vault)),
      session_(session != nullptr ? std::move(session) : MakeAzureSession(options)) {}

absl::Status AzureRootKey::Named(const absl::Status& status) const {
  return absl::Status(status.code(), StrCat(name_, ": ", ToStd(status.message())));
}

absl::StatusOr<azure::KeyVersion> AzureRootKey::Describe(Deadline deadline) {
  ASSIGN_OR_RETURN(const crypto::SecretText body,
                   session_->Call("get", StrCat("/keys/", key_, kApi), {}, azure::RefusalOf, deadline));
  ASSIGN_OR_RETURN(azure::KeyVersion version, azure::ParseKey(body));
  if (absl::EqualsIgnoreCase(version.name, key_)) return version;
  return absl::UnavailableError(StrCat("another key was described: ", version.name));
}

absl::StatusOr<RootKey::DataKey> AzureRootKey::GenerateDataKey(Bytes context, Deadline deadline) {
  const crypto::SecretKey seed = crypto::SecretKey::Random();
  absl::StatusOr<ByteBuffer> wrapped = WrapSeed(seed, context, deadline);
  if (!wrapped.ok()) return Named(wrapped.status());
  return DataKey{DataKeyOf(kProvider, seed, context), *std::move(wrapped)};
}

// The version is asked for first: wrapkey wants one, and would use one that is disabled.
absl::StatusOr<ByteBuffer> AzureRootKey::WrapSeed(const crypto::SecretKey& seed, Bytes context, Deadline deadline) {
  ASSIGN_OR_RETURN(const azure::KeyVersion version, Describe(deadline));
  const std::string id = StrCat(key_, "/", version.version);
  ASSIGN_OR_RETURN(
      const crypto::SecretText body,
      session_->Call("wrapKey", PathOf(id, "wrapkey"), azure::OperationRequest(version.algorithm, seed.bytes()),
                     azure::RefusalOf, deadline));
  ASSIGN_OR_RETURN(const ByteBuffer ciphertext, azure::ParseWrapped(body, key_, version.version));
  if (ciphertext.size() > kLongestCiphertext) return absl::UnavailableError("its ciphertext is too long");
  ByteBuffer rest;
  const SeedCheck check = CheckOf(kProvider, seed, context);
  Append(rest, Bytes(check).first(kSeedCheckSize));
  Append(rest, ciphertext);
  const std::string_view fields[] = {id, version.algorithm};
  return PackWrapped(kProvider, fields, context, rest);
}

std::vector<absl::StatusOr<crypto::SecretKey>> AzureRootKey::Unwrap(absl::Span<const WrappedKey> keys,
                                                                    Deadline deadline) {
  return UnwrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<crypto::SecretKey> {
    const absl::StatusOr<crypto::SecretKey> seed = UnwrapSeed(key, deadline);
    if (!seed.ok()) return Named(seed.status());
    return DataKeyOf(kProvider, *seed, key.context);
  });
}

std::vector<absl::StatusOr<ByteBuffer>> AzureRootKey::Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) {
  return RewrapEach(keys, [&](const WrappedKey& key) -> absl::StatusOr<ByteBuffer> {
    const absl::StatusOr<crypto::SecretKey> seed = UnwrapSeed(key, deadline);
    if (!seed.ok()) return Named(seed.status());
    absl::StatusOr<ByteBuffer> rewrapped = WrapSeed(*seed, key.context, deadline);
    if (!rewrapped.ok()) return Named(rewrapped.status());
    return rewrapped;
  });
}

std::string AzureRootKey::VersionOf(const WrappedKey& key) const {
  const std::optional<Parts> parts = Unpack(key);
  return parts.has_value() ? StrCat("version ", parts->version) : "";
}

absl::StatusOr<crypto::SecretKey> AzureRootKey::UnwrapSeed(const WrappedKey& key, Deadline deadline) {
  const std::optional<Parts> parts = Unpack(key);
  if (!parts.has_value()) {
    return absl::DataLossError("a key was wrapped by another provider or for another purpose, or is damaged");
  }
  if (!absl::EqualsIgnoreCase(parts->name, key_)) {
    return absl::DataLossError(StrCat("a key was wrapped by another one, ", parts->name));
  }
  ASSIGN_OR_RETURN(
      const crypto::SecretText body,
      session_->Call("unwrapKey", PathOf(StrCat(key_, "/", parts->version), "unwrapkey"),
                     azure::OperationRequest(parts->algorithm, parts->ciphertext), azure::RefusalOf, deadline));
  ASSIGN_OR_RETURN(crypto::SecretKey seed, azure::ParseUnwrapped(body, key_, parts->version));
  const SeedCheck check = CheckOf(kProvider, seed, key.context);
  if (!crypto::EqualInConstantTime(parts->seedCheck, Bytes(check).first(kSeedCheckSize))) {
    return absl::DataLossError("a key is damaged, or was wrapped for another purpose");
  }
  return seed;
}

absl::Status AzureRootKey::Check(Deadline deadline) {
  const absl::StatusOr<azure::KeyVersion> described = Describe(deadline);
  return described.ok() ? absl::OkStatus() : Named(described.status());
}

}  // namespace kveil::keys
