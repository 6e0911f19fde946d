#include "keys/root/aws_messages.h"

#include <cstdint>
#include <utility>

#include "absl/time/time.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::aws {
namespace {

absl::Status Malformed(std::string_view what) {
  return absl::UnavailableError(StrCat("its response makes no sense: ", what));
}

// An encryption context: AWS authenticates it with the key, and writes it to CloudTrail.
void AppendContext(SecretText& json, Bytes context, std::string_view name = "EncryptionContext") {
  json.push_back(',');
  AppendJsonString(json, name);
  crypto::Append(json, R"(:{"kveil":)");
  AppendJsonString(json, StrCat("1.", ToBase64(context)));
  json.push_back('}');
}

void AppendMember(SecretText& json, std::string_view name, std::string_view value) {
  json.push_back(json.empty() ? '{' : ',');
  AppendJsonString(json, name);
  json.push_back(':');
  AppendJsonString(json, value);
}

absl::StatusOr<crypto::SecretKey> KeyIn(JsonBody::Object& object) {
  const std::optional<SecretText> text = SecretString(object, "Plaintext");
  if (!text.has_value()) return Malformed("it has no plaintext");
  return KeyFromBase64(crypto::AsText(*text));
}

absl::StatusOr<AwsArn> ArnFrom(std::string_view text) {
  std::optional<AwsArn> arn = AwsArn::Parse(text);
  if (!arn.has_value() || !arn->isKey()) return Malformed("it does not say which key it used");
  return *std::move(arn);
}

absl::Status Able(const std::string& state, const std::string& usage, const std::string& spec, std::string_view until) {
  if (state == "Creating" || state == "Updating") return absl::UnavailableError(StrCat("is in state ", state));
  if (state == "Disabled") return absl::FailedPreconditionError("is disabled; enable it");
  if (state == "PendingDeletion" || state == "PendingReplicaDeletion") {
    return absl::FailedPreconditionError(
        StrCat("is about to be deleted", until, "; to keep what it wrapped, cancel the deletion and enable the key"));
  }
  if (state == "PendingImport") return absl::FailedPreconditionError("has no key material; import it again");
  if (state == "Unavailable") return absl::FailedPreconditionError("is in a key store that is not connected");
  if (state != "Enabled") return absl::FailedPreconditionError(StrCat("is in state ", http::Printable(state)));
  if (usage != "ENCRYPT_DECRYPT" || spec != "SYMMETRIC_DEFAULT") {
    return absl::FailedPreconditionError(StrCat("is a key for ", http::Printable(usage), " of kind ",
                                                http::Printable(spec),
                                                ", and has to be one for ENCRYPT_DECRYPT of kind SYMMETRIC_DEFAULT"));
  }
  return absl::OkStatus();
}

}  // namespace

SecretText DataKeyRequest(std::string_view key, Bytes context) {
  SecretText json;
  AppendMember(json, "KeyId", key);
  AppendMember(json, "KeySpec", "AES_256");
  AppendContext(json, context);
  json.push_back('}');
  return json;
}

absl::StatusOr<DataKeyAnswer> ParseDataKey(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  ASSIGN_OR_RETURN(crypto::SecretKey key, KeyIn(*json.root()));
  std::optional<ByteBuffer> ciphertext = FromBase64(PlainString(*json.root(), "CiphertextBlob"));
  if (!ciphertext.has_value() || ciphertext->empty()) return Malformed("it has no ciphertext");
  ASSIGN_OR_RETURN(AwsArn arn, ArnFrom(PlainString(*json.root(), "KeyId")));
  return DataKeyAnswer{std::move(key), *std::move(ciphertext), std::move(arn)};
}

SecretText DecryptRequest(std::string_view key, Bytes ciphertext, Bytes context) {
  SecretText json;
  AppendMember(json, "KeyId", key);
  AppendMember(json, "CiphertextBlob", ToBase64(ciphertext));
  AppendContext(json, context);
  json.push_back('}');
  return json;
}

absl::StatusOr<DecryptAnswer> ParseDecrypt(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  ASSIGN_OR_RETURN(crypto::SecretKey key, KeyIn(*json.root()));
  ASSIGN_OR_RETURN(AwsArn arn, ArnFrom(PlainString(*json.root(), "KeyId")));
  return DecryptAnswer{std::move(key), std::move(arn)};
}

SecretText ReEncryptRequest(std::string_view from, std::string_view to, Bytes ciphertext, Bytes context) {
  SecretText json;
  AppendMember(json, "SourceKeyId", from);
  AppendMember(json, "DestinationKeyId", to);
  AppendMember(json, "CiphertextBlob", ToBase64(ciphertext));
  AppendContext(json, context, "SourceEncryptionContext");
  AppendContext(json, context, "DestinationEncryptionContext");
  json.push_back('}');
  return json;
}

absl::StatusOr<ReEncryptAnswer> ParseReEncrypt(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return Malformed("it is no JSON object");
  std::optional<ByteBuffer> ciphertext = FromBase64(PlainString(*json.root(), "CiphertextBlob"));
  if (!ciphertext.has_value() || ciphertext->empty()) return Malformed("it has no ciphertext");
  ASSIGN_OR_RETURN(AwsArn arn, ArnFrom(PlainString(*json.root(), "KeyId")));
  return ReEncryptAnswer{*std::move(ciphertext), std::move(arn)};
}

SecretText DescribeRequest(std::string_view key) { return JsonObject({{"KeyId", key}}); }

absl::StatusOr<AwsArn> ParseDescription(const SecretText& body) {
  JsonBody json(body);
  std::optional<JsonBody::Object> key = json.Member("KeyMetadata");
  if (!key.has_value()) return Malformed("it does not describe a key");
  ASSIGN_OR_RETURN(AwsArn arn, ArnFrom(PlainString(*key, "Arn")));
  const std::string state = PlainString(*key, "KeyState");
  const std::string usage = PlainString(*key, "KeyUsage");
  const std::string spec = PlainString(*key, "KeySpec");
  if (state.empty() || usage.empty() || spec.empty()) return Malformed("it does not describe the key's state");
  double deletion = 0;  // seconds of Unix time
  std::string until;
  if (!key->find_field_unordered("DeletionDate").get_double().get(deletion) && deletion > 0 && deletion < 1e11) {
    const absl::Time time = absl::FromUnixSeconds(static_cast<int64_t>(deletion));
    until = absl::FormatTime(" on %Y-%m-%d at %H:%M UTC", time, absl::UTCTimeZone());
  }
  RETURN_IF_ERROR(Able(state, usage, spec, until));
  return arn;
}

// "__type" may have a name space before it, "com.amazonaws.kms#NotFoundException", and an address behind it.
// https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html#operation-error-serialization
std::optional<Error> ParseError(const SecretText& body) {
  JsonBody json(body);
  if (json.root() == nullptr) return std::nullopt;
  std::string type = PlainString(*json.root(), "__type");
  type = type.substr(0, type.find(':'));
  if (const size_t hash = type.find('#'); hash != std::string::npos) type = type.substr(hash + 1);
  if (type.empty()) return std::nullopt;
  std::string message = PlainString(*json.root(), "message");
  if (message.empty()) message = PlainString(*json.root(), "Message");
  return Error{http::Printable(type), http::Printable(message)};
}

}  // namespace kveil::keys::aws
