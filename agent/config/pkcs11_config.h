// A root key in a PKCS#11 token: `keys.root.pkcs11`.
#pragma once

#include <string>

#include "config/named_key.h"

namespace kveil::config {

struct Pkcs11Config {
  std::string module;   // path of the token's library
  std::string token;    // its label
  std::string key;      // the label of an AES key in it
  std::string pinFile;  // path
  enum class Mechanism { kAesGcm, kAesKeyWrap };
  Mechanism mechanism = Mechanism::kAesGcm;
};

class JsonValue;

Pkcs11Config ReadPkcs11(const JsonValue& value, KeyNamedBy namedBy);

}  // namespace kveil::config
