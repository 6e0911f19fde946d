// JSON that holds keys and tokens: written and read without leaving a copy in memory that is not wiped. For the .cc
// files of providers, as simdjson's header is large.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "crypto/secret.h"
#include "crypto/secret_text.h"
#include "simdjson.h"

namespace kveil::keys {

// RFC 4648: section 4, or section 5 without padding.
enum class Base64 { kStandard, kUrl };

std::string ToBase64(Bytes bytes);
crypto::SecretText ToSecretBase64(Bytes bytes, Base64 alphabet);
// nullopt: not base64. The caller wipes what was secret.
std::optional<ByteBuffer> FromBase64(std::string_view text, Base64 alphabet = Base64::kStandard);
// kUnavailable: not 32 bytes in base64.
absl::StatusOr<crypto::SecretKey> KeyFromBase64(std::string_view text);
// What a key service has unwrapped. kDataLoss: it does not have 32 bytes, which says something of this key alone. The
// bytes are wiped.
absl::StatusOr<crypto::SecretKey> UnwrappedKey(ByteBuffer bytes);

void AppendJsonString(crypto::SecretText& json, std::string_view text);
// An object whose members are strings.
crypto::SecretText JsonObject(std::initializer_list<std::pair<std::string_view, std::string_view>> members);

// A body being read. simdjson's on-demand parser leaves strings where they are, in a copy that is wiped.
class JsonBody {
 public:
  using Object = simdjson::ondemand::object;

  explicit JsonBody(const crypto::SecretText& body);

  // nullptr: the body is no JSON object. To be searched while this lives, one member after the other.
  Object* root() { return isGood_ ? &root_ : nullptr; }
  // The object, or the list, `name` of the root.
  std::optional<Object> Member(std::string_view name);
  std::optional<simdjson::ondemand::array> List(std::string_view name);

 private:
  crypto::SecretText text_;
  simdjson::ondemand::parser parser_;
  simdjson::ondemand::document document_;
  Object root_;
  bool isGood_ = false;
};

// The string `name`, taken from where it stands. nullopt: it is missing, no string, or has an escape other than \/ \"
// and \\, which no secret has.
std::optional<crypto::SecretText> SecretString(JsonBody::Object& object, std::string_view name);
// The same for a secret of several lines, such as PEM: \n is a line feed.
std::optional<crypto::SecretText> SecretLines(JsonBody::Object& object, std::string_view name);
// The same for what is no secret, with every escape; empty when it is missing or no string.
std::string PlainString(JsonBody::Object& object, std::string_view name);

}  // namespace kveil::keys
