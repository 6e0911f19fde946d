#include "keys/root/secret_json.h"

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/text.h"

namespace kveil::keys {

using crypto::SecretText;

namespace {

// A string, taken from where it stands. `escapes` are the characters that may follow a backslash.
std::optional<SecretText> Unescaped(JsonBody::Object& object, std::string_view name, std::string_view escapes) {
  simdjson::ondemand::value value;
  if (object.find_field_unordered(name).get(value)) return std::nullopt;
  std::string_view token = ToStd(absl::StripAsciiWhitespace(ToAbsl(value.raw_json_token())));
  if (token.size() < 2 || token.front() != '"' || token.back() != '"') return std::nullopt;
  token = token.substr(1, token.size() - 2);
  SecretText text;
  text.reserve(token.size());
  for (size_t i = 0; i < token.size(); ++i) {
    if (token[i] == '"') return std::nullopt;
    if (token[i] != '\\') {
      text.push_back(token[i]);
      continue;
    }
    if (++i == token.size() || escapes.find(token[i]) == std::string_view::npos) return std::nullopt;
    text.push_back(token[i] == 'n' ? '\n' : token[i]);
  }
  return text;
}

}  // namespace

std::string ToBase64(Bytes bytes) {
  std::string text;
  absl::Base64Escape(ToAbsl(AsText(bytes)), &text);
  return text;
}

SecretText ToSecretBase64(Bytes bytes, Base64 alphabet) {
  std::string text;
  if (alphabet == Base64::kUrl) {
    absl::WebSafeBase64Escape(ToAbsl(AsText(bytes)), &text);
  } else {
    absl::Base64Escape(ToAbsl(AsText(bytes)), &text);
  }
  SecretText secret = crypto::MakeSecretText(text);
  crypto::Wipe(MutableBytes(reinterpret_cast<uint8_t*>(text.data()), text.size()));
  return secret;
}

std::optional<ByteBuffer> FromBase64(std::string_view text, Base64 alphabet) {
  std::string bytes;
  const bool isGood = alphabet == Base64::kUrl ? absl::WebSafeBase64Unescape(ToAbsl(text), &bytes)
                                               : absl::Base64Unescape(ToAbsl(text), &bytes);
  std::optional<ByteBuffer> result;
  if (isGood) Append(result.emplace(), AsBytes(bytes));
  crypto::Wipe(MutableBytes(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size()));
  return result;
}

absl::StatusOr<crypto::SecretKey> KeyFromBase64(std::string_view text) {
  std::optional<ByteBuffer> bytes = FromBase64(text);
  if (!bytes.has_value()) return absl::UnavailableError("its response makes no sense: a key is not in base64");
  absl::StatusOr<crypto::SecretKey> key = crypto::SecretKey::FromBytes(*bytes);
  crypto::Wipe(absl::MakeSpan(*bytes));
  if (key.ok()) return key;
  return absl::UnavailableError("its response makes no sense: a key does not have 32 bytes");
}

absl::StatusOr<crypto::SecretKey> UnwrappedKey(ByteBuffer bytes) {
  absl::StatusOr<crypto::SecretKey> key = crypto::SecretKey::FromBytes(bytes);
  crypto::Wipe(absl::MakeSpan(bytes));
  if (key.ok()) return key;
  return absl::DataLossError("a key is damaged, or the agent has not wrapped it: it does not have 32 bytes");
}

void AppendJsonString(SecretText& json, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  json.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      json.push_back('\\');
      json.push_back(c);
    } else if (static_cast<unsigned char>(c) < 0x20) {
      crypto::Append(json, "\\u00");
      json.push_back(kDigits[static_cast<unsigned char>(c) >> 4]);
      json.push_back(kDigits[static_cast<unsigned char>(c) & 15]);
    } else {
      json.push_back(c);
    }
  }
  json.push_back('"');
}

SecretText JsonObject(std::initializer_list<std::pair<std::string_view, std::string_view>> members) {
  SecretText json;
  json.push_back('{');
  for (const auto& [name, value] : members) {
    if (json.size() > 1) json.push_back(',');
    AppendJsonString(json, name);
    json.push_back(':');
    AppendJsonString(json, value);
  }
  json.push_back('}');
  return json;
}

JsonBody::JsonBody(const SecretText& body) {
  const size_t size = body.size();
  text_.reserve(size + simdjson::SIMDJSON_PADDING);
  crypto::Append(text_, crypto::AsText(body));
  text_.resize(size + simdjson::SIMDJSON_PADDING);
  const simdjson::padded_string_view view(text_.data(), size, text_.size());
  isGood_ = !parser_.iterate(view).get(document_) && !document_.get_object().get(root_);
}

std::optional<JsonBody::Object> JsonBody::Member(std::string_view name) {
  Object object;
  if (!isGood_ || root_.find_field_unordered(name).get_object().get(object)) return std::nullopt;
  return object;
}

std::optional<simdjson::ondemand::array> JsonBody::List(std::string_view name) {
  simdjson::ondemand::array array;
  if (!isGood_ || root_.find_field_unordered(name).get_array().get(array)) return std::nullopt;
  return array;
}

std::optional<SecretText> SecretString(JsonBody::Object& object, std::string_view name) {
  return Unescaped(object, name, R"(/"\)");
}

std::optional<SecretText> SecretLines(JsonBody::Object& object, std::string_view name) {
  return Unescaped(object, name, R"(/"\n)");
}

std::string PlainString(JsonBody::Object& object, std::string_view name) {
  std::string_view text;
  if (object.find_field_unordered(name).get_string().get(text)) return "";
  return std::string(text);
}

}  // namespace kveil::keys
