#include "config/kek_config.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "config/json_value.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestName = 64;

bool IsProviderName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestName && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
  });
}

}  // namespace

std::optional<JsonValue> FindNamedKey(const JsonObject& object, KeyNamedBy namedBy) {
  if (namedBy == KeyNamedBy::kConfiguration) return object.Require("key");
  if (const auto key = object.Find("key")) key->Error("expected no key: policies name the keys of this provider");
  return std::nullopt;
}

ProviderConfig ReadProvider(const JsonObject& object, std::string_view kind, KeyNamedBy namedBy) {
  ProviderConfig provider;
  const JsonValue value = *object.Find(kind);
  if (kind == "vault") provider.vault = ReadVault(value, namedBy);
  if (kind == "awsKms") provider.aws = ReadAwsKms(value, namedBy);
  if (kind == "azureKeyVault") provider.azure = ReadAzureKeyVault(value, namedBy);
  if (kind == "gcpKms") provider.gcp = ReadGcpKms(value, namedBy);
  if (kind == "pkcs11") provider.pkcs11 = ReadPkcs11(value, namedBy);
  return provider;
}

std::vector<KekProviderConfig> ReadKekProviders(const JsonValue& value) {
  std::vector<KekProviderConfig> providers;
  for (const auto& [name, member] : value.Members()) {
    if (!IsProviderName(name)) {
      member.Error(
          StrCat("expected a provider's name of at most ", kLongestName, " letters, digits, '.', '_' and '-'"));
    }
    const JsonObject source(member, {"vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    const auto kind = source.ExactlyOneOf({"vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    KekProviderConfig& provider = providers.emplace_back();
    provider.name = name;
    if (kind.has_value()) provider.provider = ReadProvider(source, *kind, KeyNamedBy::kPolicy);
  }
  if (providers.size() > kMostKekProviders) value.Error(StrCat("expected at most ", kMostKekProviders, " providers"));
  return providers;
}

}  // namespace kveil::config
