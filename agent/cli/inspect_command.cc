// `kveil inspect`: what the header value of a sealed record holds. No key is needed, none is shown.
#include <algorithm>
#include <iostream>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/text.h"
#include "cli/common.h"
#include "crypto/envelope.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Hex(Bytes bytes) { return absl::BytesToHexString(ToAbsl(AsText(bytes))); }

bool IsHex(const std::string& text) {
  return !text.empty() && text.size() % 2 == 0 && std::all_of(text.begin(), text.end(), absl::ascii_isxdigit);
}

// The bytes that the text spells, in hex ("0x", spaces and colons allowed) or base64 (either alphabet).
absl::StatusOr<std::string> DecodeText(const std::string& text) {
  std::string hex = text.rfind("0x", 0) == 0 ? text.substr(2) : text;
  const auto isFiller = [](char c) { return absl::ascii_isspace(c) || c == ':'; };
  hex.erase(std::remove_if(hex.begin(), hex.end(), isFiller), hex.end());
  if (IsHex(hex)) return absl::HexStringToBytes(hex);
  std::string bytes;
  if (!text.empty() && (absl::Base64Unescape(text, &bytes) || absl::WebSafeBase64Unescape(text, &bytes))) return bytes;
  return absl::InvalidArgumentError("expected the header's value in hex or base64");
}

Json Describe(const crypto::EnvelopeHeader& header) {
  const auto flag = [&](uint8_t bit) { return (header.flags & bit) != 0; };
  Json json = {
      {"version", crypto::kEnvelopeVersion},
      {"suite", static_cast<int>(header.suite)},
      {"algorithm", "AES-256-GCM"},
      {"inlineKey", flag(crypto::kFlagInlineKey)},
      {"compressedValue", flag(crypto::kFlagCompressedValue)},
      {"fieldsOnly", flag(crypto::kFlagFieldsOnly)},
      {"maskedKeyId", flag(crypto::kFlagMaskedKeyId)},
      {"keyId", Hex(header.keyId.bytes)},
      {"salt", Hex(header.salt.bytes)},
      {"recordIndex", header.recordIndex},
  };
  if (header.suite == crypto::Suite::kPeriodKey) json["period"] = header.period;
  json["underKek"] = flag(crypto::kFlagUnderKek);
  if (flag(crypto::kFlagUnderKek)) json["kekKeyId"] = Hex(header.kekKeyId.bytes);
  if (flag(crypto::kFlagInlineKey)) {
    json["kekReference"] = absl::Utf8SafeCEscape(ToAbsl(AsText(header.kekReference)));
    json["wrappedKeyBytes"] = header.wrappedKey.size();
  }
  return json;
}

void PrintText(const Json& json) {
  const auto yes = [&](const char* key) { return json[key].get<bool>(); };
  std::cout << "envelope version " << json["version"] << ", suite " << json["suite"] << ": "
            << json["algorithm"].get<std::string>()
            << (json.contains("period") ? ", a key for 4.6 hours" : ", a key for each batch") << "\n"
            << "key id        " << json["keyId"].get<std::string>()
            << (yes("maskedKeyId") ? "  (masked: differs from batch to batch for the same key)" : "") << "\n"
            << "salt          " << json["salt"].get<std::string>() << "  (one for each sealed batch)\n"
            << (json.contains("period") ? StrCat("period        ", json["period"].get<int>(), "  (of 4.6 hours)\n")
                                        : "")
            << "record index  " << json["recordIndex"] << "\n"
            << (yes("underKek") ? StrCat("KEK key id    ", json["kekKeyId"].get<std::string>(),
                                         "  (whoever opens the record needs this key, too)\n")
                                : "")
            << "value         " << (yes("compressedValue") ? "compressed with zstd, then sealed" : "sealed as it was")
            << (yes("fieldsOnly") ? ", only some of its fields" : "") << "\n";
  if (yes("inlineKey")) {
    std::cout << "scope key     in this header, " << json["wrappedKeyBytes"] << " bytes, wrapped by "
              << json["kekReference"].get<std::string>() << "\n";
  } else {
    std::cout << "scope key     in the registry, found by its id\n";
  }
}

}  // namespace

int RunInspect(const CommonOptions& common, const std::string& text) {
  const absl::StatusOr<std::string> decoded = DecodeText(text);
  if (!decoded.ok()) return Fail("inspect", decoded.status());
  ByteBuffer scratch;
  const Bytes value = crypto::RestoreEnvelopeHeader(AsBytes(*decoded), scratch);
  const absl::StatusOr<crypto::EnvelopeHeader> header = crypto::ParseEnvelopeHeader(value);
  if (!header.ok()) return Fail("inspect", header.status());
  const Json json = Describe(*header);
  if (common.json) {
    std::cout << json.dump(2) << "\n";
  } else {
    PrintText(json);
  }
  return 0;
}

}  // namespace kveil::cli
