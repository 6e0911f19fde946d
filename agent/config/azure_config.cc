#include "config/azure_config.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "config/json_value.h"
#include "config/service_address.h"
#include "keys/names/key_names.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestTenant = 253;

template <typename Predicate>
bool HasOnly(std::string_view text, size_t longest, Predicate predicate) {
  return !text.empty() && text.size() <= longest && std::all_of(text.begin(), text.end(), predicate);
}
bool IsAlnum(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); }

// Where services of each cloud are: https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
struct Cloud {
  std::string_view vaults, hsms;  // what their names end with
  std::string_view authority;
};
constexpr Cloud kClouds[] = {
    {"vault.azure.net", "managedhsm.azure.net", "https://login.microsoftonline.com"},
    {"vault.azure.cn", "managedhsm.azure.cn", "https://login.partner.microsoftonline.cn"},
    {"vault.usgovcloudapi.net", "managedhsm.usgovcloudapi.net", "https://login.microsoftonline.us"},
};

// "https://NAME.vault.azure.net" says what tokens have to be for, and who gives them.
void TakeCloudOf(std::string_view vault, AzureConfig& azure) {
  vault = vault.substr(0, vault.find(':', vault.find("://") + 3));
  const auto isIn = [vault](std::string_view suffix) {
    return vault.size() > suffix.size() && vault.ends_with(suffix) && vault[vault.size() - suffix.size() - 1] == '.';
  };
  for (const Cloud& cloud : kClouds) {
    for (const std::string_view suffix : {cloud.vaults, cloud.hsms}) {
      if (!isIn(suffix)) continue;
      azure.resource = "https://";
      azure.resource += suffix;
      azure.authority = cloud.authority;
    }
  }
}

void ReadClientId(const JsonValue& value, AzureConfig& azure) {
  azure.clientId = value.String();
  const bool isGood = HasOnly(azure.clientId, 36,
                              [](char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)) || c == '-'; });
  if (!azure.clientId.empty() && (!isGood || azure.clientId.size() != 36)) {
    value.Expected("a client id such as \"11111111-2222-3333-4444-555555555555\"");
  }
}

// Of an application: what both of its ways to log in need.
void ReadApplication(const JsonObject& object, AzureConfig& azure) {
  if (const auto client = object.Require("clientId")) ReadClientId(*client, azure);
  const std::optional<JsonValue> tenant = object.Require("tenant");
  if (!tenant) return;
  azure.tenant = tenant->String();
  const bool isGood =
      HasOnly(azure.tenant, kLongestTenant, [](char c) { return IsAlnum(c) || c == '.' || c == '-'; }) &&
      IsAlnum(azure.tenant.front());
  if (!azure.tenant.empty() && !isGood) tenant->Expected("a tenant's id or domain");
}

void ReadAuth(const JsonObject& object, AzureConfig& azure) {
  const auto auth = object.ExactlyOneOf({"managedIdentity", "clientSecret", "workloadIdentity"});
  if (!auth.has_value()) return;
  if (*auth == "managedIdentity") {
    const JsonObject identity(*object.Find("managedIdentity"), {"clientId"});
    if (const auto client = identity.Find("clientId")) ReadClientId(*client, azure);
  } else if (*auth == "clientSecret") {
    azure.auth = AzureConfig::Auth::kClientSecret;
    const JsonObject application(*object.Find("clientSecret"), {"tenant", "clientId", "secretFile"});
    ReadApplication(application, azure);
    if (const auto file = application.Require("secretFile")) azure.secretFile = file->FilePath();
  } else {
    azure.auth = AzureConfig::Auth::kWorkloadIdentity;
    azure.secretFile = "/var/run/secrets/azure/tokens/azure-identity-token";
    const JsonObject application(*object.Find("workloadIdentity"), {"tenant", "clientId", "tokenFile"});
    ReadApplication(application, azure);
    if (const auto file = application.Find("tokenFile")) azure.secretFile = file->FilePath();
  }
}

}  // namespace

AzureConfig ReadAzureKeyVault(const JsonValue& value, KeyNamedBy namedBy) {
  AzureConfig azure;
  const JsonObject object(
      value, {"vault", "key", "resource", "authority", "ca", "managedIdentity", "clientSecret", "workloadIdentity"});
  if (const auto vault = object.Require("vault")) {
    azure.vault = ReadServiceAddress(*vault, "https://kveil.vault.azure.net");
    TakeCloudOf(azure.vault, azure);
  }
  if (const auto key = FindNamedKey(object, namedBy)) {
    azure.key = key->String();
    if (!azure.key.empty() && !keys::IsAzureKeyName(azure.key)) {
      key->Expected("a key's name of at most 127 letters, digits and '-', without a version");
    }
  }
  if (const auto resource = object.Find("resource")) {
    azure.resource = ReadServiceAddress(*resource, "https://vault.azure.net");
  } else if (azure.resource.empty() && !azure.vault.empty()) {
    object.value().Error("expected the key \"resource\", as the vault's address does not say what tokens are for");
  }
  if (azure.authority.empty()) azure.authority = kClouds[0].authority;
  if (const auto authority = object.Find("authority")) {
    azure.authority = ReadServiceAddress(*authority, kClouds[0].authority);
  }
  if (const auto ca = object.Find("ca")) azure.ca = ca->FilePath();
  ReadAuth(object, azure);
  return azure;
}

}  // namespace kveil::config
