#include "config/pkcs11_config.h"

#include "base/text.h"
#include "config/json_value.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestToken = 32;  // CK_TOKEN_INFO's label
constexpr size_t kLongestKey = 128;

void ReadLabel(const std::optional<JsonValue>& value, size_t longest, std::string& label) {
  if (!value) return;
  label = value->String();
  if (label.size() > longest) value->Expected(StrCat("at most ", longest, " bytes"));
}

}  // namespace

Pkcs11Config ReadPkcs11(const JsonValue& value, KeyNamedBy namedBy) {
  Pkcs11Config pkcs11;
  const JsonObject object(value, {"module", "token", "key", "pinFile", "mechanism"});
  if (const auto module = object.Require("module")) pkcs11.module = module->FilePath();
  ReadLabel(object.Require("token"), kLongestToken, pkcs11.token);
  ReadLabel(FindNamedKey(object, namedBy), kLongestKey, pkcs11.key);
  if (const auto pin = object.Require("pinFile")) pkcs11.pinFile = pin->FilePath();
  if (const auto mechanism = object.Find("mechanism")) {
    using Mechanism = Pkcs11Config::Mechanism;
    pkcs11.mechanism =
        mechanism->OneOf<Mechanism>({{"AES-GCM", Mechanism::kAesGcm}, {"AES-KEY-WRAP", Mechanism::kAesKeyWrap}});
  }
  return pkcs11;
}

}  // namespace kveil::config
