#include "keys/root/azure_messages.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::azure {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::UnavailableError(StrCat("its response makes no sense: ", what));
}

// Of "https://VAULT/keys/NAME/VERSION". The vault may have several names.
std::optional<KeyVersion> VersionFrom(std::string_view kid) {
  const std::vector<std::string> parts = absl::StrSplit(ToAbsl(kid), '/');
  if (parts.size() != 6 || parts[3] != "keys" || !IsName(parts[4]) || !IsName(parts[5])) return std::nullopt;
  return KeyVersion{parts[4], parts[5], ""};
}

// The names of a list of strings.
bool HasEach(JsonBody::Object& object, std::string_view name, std::vector<std::string_view> wanted) {
  simdjson::ondemand::array array;
  if (object.find_field_unordered(name).get_array().get(array)) return false;
  for (auto each : array) {
    std::string_view text;
    if (each.get_string().get(text)) return false;
    std::erase(wanted, text);
  }
  return wanted.empty();
}

absl::StatusOr<SecretText> ValueIn(JsonBody& json, std::string_view name, std::string_view version) {
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  const std::optional<KeyVersion> used = VersionFrom(PlainString(*json.root(), "kid"));
  if (!used.has_value()) return Malformed("it does not say which key it used");
  if (!absl::EqualsIgnoreCase(used->name, ToAbsl(name)) || used->version != version) {
    return absl::UnavailableError(StrCat("another key was used: ", used->name, "/", used->version));
  }
  std::optional<SecretText> value = SecretString(*json.root(), "value");
  if (!value.has_value()) return Malformed("it has no value");
  return *std::move(value);
}

}  // namespace

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 127 && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-';
  });
}

absl::StatusOr<KeyVersion> ParseKey(const SecretText& body) {
  JsonBody json(body);
  std::optional<JsonBody::Object> key = json.Member("key");
  if (!key.has_value()) return Malformed("it does not describe a key");
  std::optional<KeyVersion> version = VersionFrom(PlainString(*key, "kid"));
  const std::string type = PlainString(*key, "kty");
  if (!version.has_value() || type.empty()) return Malformed("it does not describe a key");
  const bool mayBoth = HasEach(*key, "key_ops", {"wrapKey", "unwrapKey"});
  if (type == "RSA" || type == "RSA-HSM") {
    version->algorithm = kRsaOaep256;
  } else if (type == "oct-HSM") {
    version->algorithm = kA256Kw;
  } else {
    return absl::FailedPreconditionError(
        StrCat("is of type ", http::Printable(type), ", and has to be of RSA or RSA-HSM, or of oct-HSM with 256 bits"));
  }
  if (!mayBoth) return absl::FailedPreconditionError("does not permit the operations wrapKey and unwrapKey");
  std::optional<JsonBody::Object> attributes = json.Member("attributes");
  bool isEnabled = false;
  if (!attributes.has_value() || attributes->find_field_unordered("enabled").get_bool().get(isEnabled)) {
    return Malformed("it does not say whether the key is enabled");
  }
  // Azure lets a disabled key wrap, and does not let it unwrap.
  if (!isEnabled) {
    return absl::FailedPreconditionError(StrCat("its newest version, ", version->version, ", is disabled; enable it"));
  }
  return *std::move(version);
}

SecretText OperationRequest(std::string_view algorithm, Bytes value) {
  const SecretText text = ToSecretBase64(value, Base64::kUrl);
  return JsonObject({{"alg", algorithm}, {"value", crypto::AsText(text)}});
}

absl::StatusOr<ByteBuffer> ParseWrapped(const SecretText& body, std::string_view name, std::string_view version) {
  JsonBody json(body);
  ASSIGN_OR_RETURN(const SecretText value, ValueIn(json, name, version));
  std::optional<ByteBuffer> bytes = FromBase64(crypto::AsText(value), Base64::kUrl);
  if (!bytes.has_value() || bytes->empty()) return Malformed("its value is not in base64");
  return *std::move(bytes);
}

absl::StatusOr<crypto::SecretKey> ParseUnwrapped(const SecretText& body, std::string_view name,
                                                 std::string_view version) {
  JsonBody json(body);
  ASSIGN_OR_RETURN(const SecretText value, ValueIn(json, name, version));
  std::optional<ByteBuffer> bytes = FromBase64(crypto::AsText(value), Base64::kUrl);
  if (!bytes.has_value()) return Malformed("its value is not in base64");
  return UnwrappedKey(*std::move(bytes));
}

// https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
std::optional<Error> ParseError(const SecretText& body) {
  JsonBody json(body);
  std::optional<JsonBody::Object> object = json.Member("error");
  if (!object.has_value()) return std::nullopt;
  Error error;
  error.code = http::Printable(PlainString(*object, "code"));
  if (error.code.empty()) return std::nullopt;
  error.message = http::Printable(PlainString(*object, "message"));
  for (const std::string_view name : {"innererror", "innerError"}) {
    JsonBody::Object inner;
    if (object->find_field_unordered(name).get_object().get(inner)) continue;
    error.inner = http::Printable(PlainString(inner, "code"));
    break;
  }
  return error;
}

}  // namespace kveil::keys::azure
