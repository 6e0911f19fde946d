// simdjson's on-demand parser leaves strings where they are, in a body that is wiped. Secrets are taken from there as
// they stand: none of them has a character that JSON escapes.
#include "keys/root/vault_messages.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/text.h"
#include "http/printable.h"
#include "keys/root/secret_json.h"

namespace kveil::keys::vault {
namespace {

namespace ondemand = simdjson::ondemand;

constexpr size_t kLongestReason = 200;

absl::Status Malformed(std::string_view what) {
  return absl::UnavailableError(StrCat("its response makes no sense: ", what));
}

std::optional<Ciphertext> CiphertextFrom(std::string_view text) {
  constexpr std::string_view kPrefix = "vault:v";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  const size_t colon = text.find(':');
  Ciphertext ciphertext;
  if (colon == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(text.substr(0, colon)), &ciphertext.version) ||
      ciphertext.version == 0) {
    return std::nullopt;
  }
  std::optional<ByteBuffer> bytes = FromBase64(text.substr(colon + 1));
  if (!bytes.has_value()) return std::nullopt;
  ciphertext.bytes = *std::move(bytes);
  return ciphertext;
}

// A string as it stands in the body. nullopt: it is missing, no string, or has an escape.
std::optional<std::string_view> Verbatim(ondemand::object& object, std::string_view name) {
  ondemand::value value;
  if (object.find_field_unordered(name).get(value)) return std::nullopt;
  std::string_view token = ToStd(absl::StripAsciiWhitespace(ToAbsl(value.raw_json_token())));
  if (token.size() < 2 || token.front() != '"' || token.back() != '"') return std::nullopt;
  token = token.substr(1, token.size() - 2);
  if (token.find_first_of("\\\"") != std::string_view::npos) return std::nullopt;
  return token;
}

std::optional<int64_t> Number(ondemand::object& object, std::string_view name) {
  int64_t number = 0;
  if (object.find_field_unordered(name).get_int64().get(number)) return std::nullopt;
  return number;
}

bool IsTrue(ondemand::object& object, std::string_view name) {
  bool value = false;
  return !object.find_field_unordered(name).get_bool().get(value) && value;
}

// What Transit says of one ciphertext. Whatever is not known to be about its bytes is taken for an outage, as damage
// would send the operator to a backup.
absl::Status ItemError(std::string_view reason) {
  const absl::string_view text = ToAbsl(reason);
  if (absl::StrContains(text, "too old")) {
    return absl::FailedPreconditionError(
        "was wrapped by a version below the key's min_decryption_version; lower that to use it");
  }
  if (absl::StrContains(text, "message authentication failed") || absl::StrContains(text, "invalid ciphertext")) {
    return absl::DataLossError(StrCat("is damaged, or wrapped by another key: ", reason));
  }
  return absl::UnavailableError(StrCat("cannot be unwrapped: ", reason));
}

// What an item of an answer says is wrong, or that it is in another's place.
absl::Status ItemStatus(ondemand::object& item, size_t index) {
  std::string_view error;
  if (!item.find_field_unordered("error").get_string().get(error) && !error.empty()) {
    return ItemError(http::Printable(error));
  }
  // Which item it is about, if it says so: nothing else tells an answer that is in another's place.
  if (const auto reference = Verbatim(item, "reference"); reference.has_value() && !reference->empty()) {
    if (*reference != std::to_string(index)) return Malformed("its answers are in another order");
  }
  return absl::OkStatus();
}

absl::StatusOr<crypto::SecretKey> DecryptedFrom(ondemand::object item, size_t index) {
  if (absl::Status status = ItemStatus(item, index); !status.ok()) return status;
  const std::optional<std::string_view> plaintext = Verbatim(item, "plaintext");
  return plaintext.has_value() ? KeyFromBase64(*plaintext) : Malformed("an answer has neither a key nor an error");
}

absl::StatusOr<Ciphertext> RewrappedFrom(ondemand::object item, size_t index) {
  if (absl::Status status = ItemStatus(item, index); !status.ok()) return status;
  const std::optional<std::string_view> text = Verbatim(item, "ciphertext");
  std::optional<Ciphertext> ciphertext = text.has_value() ? CiphertextFrom(*text) : std::nullopt;
  if (!ciphertext.has_value()) return Malformed("an answer has no ciphertext of Transit's, and no error");
  return *std::move(ciphertext);
}

void AppendItems(absl::Span<const DecryptItem> items, SecretText& json) {
  crypto::Append(json, R"("batch_input":[)");
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) json.push_back(',');
    const SecretText item =
        JsonObject({{"ciphertext", StrCat("vault:v", items[i].version, ":", ToBase64(items[i].ciphertext))},
                    {"reference", std::to_string(i)}});
    crypto::Append(json, crypto::AsText(item));
  }
  crypto::Append(json, "]}");
}

template <typename Answer>
absl::StatusOr<std::vector<absl::StatusOr<Answer>>> ParseBatch(const SecretText& body, size_t items,
                                                               absl::StatusOr<Answer> (*from)(ondemand::object item,
                                                                                              size_t index)) {
  JsonBody document(body);
  const absl::Status none = absl::InvalidArgumentError("it has no answers");
  std::optional<ondemand::object> data = document.Member("data");
  if (!data.has_value()) return none;
  ondemand::array results;
  if (data->find_field_unordered("batch_results").get_array().get(results)) return none;
  std::vector<absl::StatusOr<Answer>> answers;
  for (auto result : results) {
    ondemand::object item;
    if (answers.size() == items) return Malformed("it has more answers than there were questions");
    if (result.get_object().get(item)) return Malformed("an answer is no object");
    answers.push_back(from(item, answers.size()));
  }
  if (answers.size() != items) return Malformed("it has fewer answers than there were questions");
  return answers;
}

absl::StatusOr<Login> LoginFrom(ondemand::object& object, std::string_view lease, std::string_view token) {
  Login login;
  const std::optional<int64_t> seconds = Number(object, lease);
  if (!seconds.has_value() || *seconds < 0) return Malformed("a token without the time for which it holds");
  login.lease = std::chrono::seconds(std::min<int64_t>(*seconds, int64_t{1} << 32));
  login.isRenewable = IsTrue(object, "renewable");
  if (token.empty()) return login;
  if (const auto text = Verbatim(object, token)) crypto::Append(login.token, *text);
  return login;
}

}  // namespace

SecretText DataKeyRequest() { return crypto::MakeSecretText("{}"); }

absl::StatusOr<DataKeyAnswer> ParseDataKey(const SecretText& body) {
  JsonBody document(body);
  std::optional<ondemand::object> data = document.Member("data");
  if (!data.has_value()) return Malformed("it has no data");
  const std::optional<std::string_view> text = Verbatim(*data, "ciphertext");
  if (!text.has_value()) return Malformed("it has no ciphertext");
  std::optional<Ciphertext> ciphertext = CiphertextFrom(*text);
  if (!ciphertext.has_value()) return Malformed("its ciphertext is none of Transit's");
  const std::optional<std::string_view> plaintext = Verbatim(*data, "plaintext");
  if (!plaintext.has_value()) return Malformed("it has no plaintext");
  absl::StatusOr<crypto::SecretKey> key = KeyFromBase64(*plaintext);
  if (!key.ok()) return key.status();
  return DataKeyAnswer{*std::move(ciphertext), *std::move(key)};
}

SecretText DecryptRequest(absl::Span<const DecryptItem> items) {
  // A bad item would otherwise make the whole response an error; it is read either way.
  SecretText json;
  crypto::Append(json, R"({"partial_failure_response_code":200,)");
  AppendItems(items, json);
  return json;
}

absl::StatusOr<std::vector<absl::StatusOr<crypto::SecretKey>>> ParseDecrypt(const SecretText& body, size_t items) {
  return ParseBatch<crypto::SecretKey>(body, items, DecryptedFrom);
}

SecretText RewrapRequest(absl::Span<const DecryptItem> items) {
  SecretText json;
  json.push_back('{');
  AppendItems(items, json);
  return json;
}

absl::StatusOr<std::vector<absl::StatusOr<Ciphertext>>> ParseRewrap(const SecretText& body, size_t items) {
  return ParseBatch<Ciphertext>(body, items, RewrappedFrom);
}

absl::Status ParseKey(const SecretText& body) {
  JsonBody document(body);
  std::optional<ondemand::object> data = document.Member("data");
  if (!data.has_value()) return Malformed("it has no data");
  const std::optional<std::string_view> type = Verbatim(*data, "type");
  if (!type.has_value()) return Malformed("it has no type");
  if (*type != "aes256-gcm96" && *type != "aes128-gcm96" && *type != "chacha20-poly1305") {
    return absl::FailedPreconditionError(
        StrCat("is of type ", http::Printable(*type), ", and has to be of aes256-gcm96 (or chacha20-poly1305)"));
  }
  if (IsTrue(*data, "derived")) {
    return absl::FailedPreconditionError("is a derived key, and has to be one with derived=false");
  }
  if (IsTrue(*data, "soft_deleted")) {
    return absl::FailedPreconditionError("is about to be deleted (soft-deleted); restore it");
  }
  return absl::OkStatus();
}

SecretText AppRoleRequest(std::string_view roleId, std::string_view secretId) {
  return JsonObject({{"role_id", roleId}, {"secret_id", secretId}});
}
SecretText KubernetesRequest(std::string_view role, std::string_view token) {
  return JsonObject({{"role", role}, {"jwt", token}});
}

absl::StatusOr<Login> ParseLogin(const SecretText& body) {
  JsonBody document(body);
  std::optional<ondemand::object> auth = document.Member("auth");
  if (!auth.has_value()) return Malformed("it has no token");
  return LoginFrom(*auth, "lease_duration", "client_token");
}

absl::StatusOr<Login> ParseLookup(const SecretText& body) {
  JsonBody document(body);
  std::optional<ondemand::object> data = document.Member("data");
  if (!data.has_value()) return Malformed("it has no data");
  return LoginFrom(*data, "ttl", "");
}

bool IsAnswer(const SecretText& body) {
  return JsonBody(body).List("errors").has_value() || JsonBody(body).Member("data").has_value();
}

std::string ErrorsOf(const SecretText& body) {
  JsonBody document(body);
  std::optional<ondemand::array> errors = document.List("errors");
  if (!errors.has_value()) return "";
  std::string text;
  for (auto error : *errors) {
    std::string_view reason;
    if (text.size() > kLongestReason || error.get_string().get(reason)) break;
    StrAppend(&text, text.empty() ? "" : "; ", reason);
  }
  text = http::Printable(text);
  return text.empty() ? "" : StrCat(": ", text);
}

}  // namespace kveil::keys::vault
