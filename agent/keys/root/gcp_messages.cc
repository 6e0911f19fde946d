#include "keys/root/gcp_messages.h"

#include <cstdint>
#include <initializer_list>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/crc32c.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::gcp {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::UnavailableError(StrCat("its response makes no sense: ", what));
}
absl::Status Damaged() { return absl::UnavailableError("what was sent or answered was damaged on its way"); }

// JSON has no 64-bit numbers: protocol buffers write them as strings.
std::optional<uint32_t> Checksum(JsonBody::Object& object, std::string_view name) {
  uint32_t checksum = 0;
  if (!absl::SimpleAtoi(PlainString(object, name), &checksum)) return std::nullopt;
  return checksum;
}

bool IsTrue(JsonBody::Object& object, std::string_view name) {
  bool value = false;
  return !object.find_field_unordered(name).get_bool().get(value) && value;
}

// A field, and its checksum.
struct Field {
  std::string_view name, checksumName;
  Bytes bytes;
};
SecretText Message(std::initializer_list<Field> fields) {
  SecretText json = crypto::MakeSecretText("{");
  for (const Field& field : fields) {
    if (json.size() > 1) json.push_back(',');
    AppendJsonString(json, field.name);
    json.push_back(':');
    AppendJsonString(json, crypto::AsText(ToSecretBase64(field.bytes, Base64::kStandard)));
    json.push_back(',');
    AppendJsonString(json, field.checksumName);
    json.push_back(':');
    AppendJsonString(json, std::to_string(Crc32c(field.bytes)));
  }
  json.push_back('}');
  return json;
}
Field ContextField(Bytes context) {
  return {"additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c", context};
}

}  // namespace

SecretText EncryptRequest(Bytes plaintext, Bytes context) {
  return Message({{"plaintext", "plaintextCrc32c", plaintext}, ContextField(context)});
}

absl::StatusOr<EncryptAnswer> ParseEncrypt(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  EncryptAnswer answer;
  answer.version = PlainString(*json.root(), "name");
  if (answer.version.empty()) return Malformed("it does not say which key it used");
  std::optional<ByteBuffer> ciphertext = FromBase64(PlainString(*json.root(), "ciphertext"));
  if (!ciphertext.has_value() || ciphertext->empty()) return Malformed("it has no ciphertext");
  answer.ciphertext = *std::move(ciphertext);
  const bool isWhole = IsTrue(*json.root(), "verifiedPlaintextCrc32c") &&
                       IsTrue(*json.root(), "verifiedAdditionalAuthenticatedDataCrc32c") &&
                       Checksum(*json.root(), "ciphertextCrc32c") == Crc32c(answer.ciphertext);
  if (!isWhole) return Damaged();
  return answer;
}

SecretText DecryptRequest(Bytes ciphertext, Bytes context) {
  return Message({{"ciphertext", "ciphertextCrc32c", ciphertext}, ContextField(context)});
}

absl::StatusOr<crypto::SecretKey> ParseDecrypt(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  const std::optional<SecretText> text = SecretString(*json.root(), "plaintext");
  if (!text.has_value()) return Malformed("it has no plaintext");
  std::optional<ByteBuffer> bytes = FromBase64(crypto::AsText(*text));
  if (!bytes.has_value()) return Malformed("its plaintext is not in base64");
  const bool isWhole = Checksum(*json.root(), "plaintextCrc32c") == Crc32c(*bytes);
  absl::StatusOr<crypto::SecretKey> key = UnwrappedKey(*std::move(bytes));
  if (!isWhole) return Damaged();
  return key;
}

absl::Status ParseKey(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  const std::string purpose = PlainString(*json.root(), "purpose");
  if (purpose.empty()) return Malformed("it does not describe a key");
  if (purpose != "ENCRYPT_DECRYPT") {
    return absl::FailedPreconditionError(
        StrCat("is a key for ", http::Printable(purpose), ", and has to be one for ENCRYPT_DECRYPT"));
  }
  std::optional<JsonBody::Object> primary = json.Member("primary");
  if (!primary.has_value()) return absl::FailedPreconditionError("has no primary version; set one");
  const std::string name = http::Printable(PlainString(*primary, "name"));
  const std::string state = PlainString(*primary, "state");
  if (state == "ENABLED") return absl::OkStatus();
  if (state.empty()) return Malformed("it does not describe the state of the key's primary version");
  const std::string text = StrCat("its primary version, ", name, ", is in state ", http::Printable(state));
  if (state == "PENDING_GENERATION") return absl::UnavailableError(text);
  if (state == "DESTROY_SCHEDULED") {
    return absl::FailedPreconditionError(StrCat(text, "; to keep what it wrapped, restore and enable it"));
  }
  return absl::FailedPreconditionError(StrCat(text, "; enable it, or make another version the primary one"));
}

std::optional<Error> ParseError(const SecretText& body) {
  JsonBody json(body);
  std::optional<JsonBody::Object> error = json.Member("error");
  if (!error.has_value()) return std::nullopt;
  std::string status = PlainString(*error, "status");
  if (status.empty()) return std::nullopt;
  return Error{http::Printable(status), http::Printable(PlainString(*error, "message"))};
}

}  // namespace kveil::keys::gcp
