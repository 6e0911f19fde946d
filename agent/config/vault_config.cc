#include "config/vault_config.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/str_split.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/service_address.h"
#include "keys/names/key_names.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestPath = 128;
constexpr size_t kLongestRole = 256;

bool IsPath(const std::string& text) {
  if (text.size() > kLongestPath) return false;
  const std::vector<std::string> segments = absl::StrSplit(text, '/');
  return std::all_of(segments.begin(), segments.end(),
                     [](const std::string& segment) { return keys::IsVaultKeyName(segment); });
}

void ReadMount(const JsonObject& object, std::string_view key, std::string& mount) {
  const std::optional<JsonValue> value = object.Find(key);
  if (!value) return;
  mount = value->String();
  if (!mount.empty() && !IsPath(mount)) value->Expected("a path such as \"transit\", without a slash at either end");
}

void ReadRole(const JsonObject& object, std::string_view key, std::string& role) {
  const std::optional<JsonValue> value = object.Require(key);
  if (!value) return;
  role = value->String();
  if (role.size() > kLongestRole) value->Expected(StrCat("at most ", kLongestRole, " bytes"));
}

void ReadAuth(const JsonObject& object, VaultConfig& vault) {
  const std::optional<std::string_view> auth = object.ExactlyOneOf({"tokenFile", "appRole", "kubernetes"});
  if (!auth.has_value()) return;
  if (*auth == "tokenFile") {
    vault.secretFile = object.Find("tokenFile")->FilePath();
  } else if (*auth == "appRole") {
    vault.auth = VaultConfig::Auth::kAppRole;
    vault.authMount = "approle";
    const JsonObject appRole(*object.Find("appRole"), {"roleId", "secretIdFile", "mount"});
    ReadRole(appRole, "roleId", vault.role);
    if (const auto file = appRole.Require("secretIdFile")) vault.secretFile = file->FilePath();
    ReadMount(appRole, "mount", vault.authMount);
  } else {
    vault.auth = VaultConfig::Auth::kKubernetes;
    vault.authMount = "kubernetes";
    vault.secretFile = "/var/run/secrets/kubernetes.io/serviceaccount/token";
    const JsonObject kubernetes(*object.Find("kubernetes"), {"role", "tokenFile", "mount"});
    ReadRole(kubernetes, "role", vault.role);
    if (const auto file = kubernetes.Find("tokenFile")) vault.secretFile = file->FilePath();
    ReadMount(kubernetes, "mount", vault.authMount);
  }
}

}  // namespace

VaultConfig ReadVault(const JsonValue& value, KeyNamedBy namedBy) {
  VaultConfig vault;
  const JsonObject object(value, {"address", "mount", "key", "namespace", "ca", "tokenFile", "appRole", "kubernetes"});
  if (const auto address = object.Require("address"))
    vault.address = ReadServiceAddress(*address, "https://vault.example:8200");
  ReadMount(object, "mount", vault.mount);
  if (const auto key = FindNamedKey(object, namedBy)) {
    vault.key = key->String();
    if (!vault.key.empty() && !keys::IsVaultKeyName(vault.key)) {
      key->Expected("a key's name of letters, digits, '.', '_' and '-'");
    }
  }
  ReadMount(object, "namespace", vault.nameSpace);
  if (const auto ca = object.Find("ca")) vault.ca = ca->FilePath();
  ReadAuth(object, vault);
  return vault;
}

}  // namespace kveil::config
