#include "config/vault_config.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/host_name.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/target_text.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestPath = 128;
constexpr size_t kLongestRole = 256;

bool IsSegment(std::string_view text) {
  return !text.empty() && (absl::ascii_isalnum(text[0]) || text[0] == '_') &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '-' || c == '.'; });
}

bool IsPath(const std::string& text) {
  if (text.size() > kLongestPath) return false;
  const std::vector<std::string> segments = absl::StrSplit(text, '/');
  return std::all_of(segments.begin(), segments.end(), [](const std::string& segment) { return IsSegment(segment); });
}

// A host and perhaps a port, "vault.example:8200", "[::1]".
struct Authority {
  std::string host;
  bool isLoopback = false;
};
std::optional<Authority> ParseAuthority(std::string_view text) {
  Authority authority;
  const size_t bracket = text.rfind(']');
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    uint32_t port = 0;
    const std::string_view digits = text.substr(colon + 1);
    if (digits.empty() || digits.size() > 5 || !absl::SimpleAtoi(ToAbsl(digits), &port) || port == 0 || port > 65535) {
      return std::nullopt;
    }
    text = text.substr(0, colon);
  }
  authority.host = std::string(text);
  if (IsHostName(text)) {
    authority.isLoopback = text == "localhost";
    return authority;
  }
  const std::optional<SocketAddress> address = ParseEndpoint(StrCat(text, ":1"));
  if (!address.has_value()) return std::nullopt;
  authority.isLoopback = text.starts_with("127.") || text == "[::1]";
  return authority;
}

void ReadAddress(const JsonValue& value, std::string& address) {
  address = value.isString() ? value.String() : "";
  constexpr std::string_view kTls = "https://", kPlain = "http://";
  const bool isTls = address.starts_with(kTls);
  const std::optional<Authority> authority =
      isTls || address.starts_with(kPlain)
          ? ParseAuthority(std::string_view(address).substr(isTls ? kTls.size() : kPlain.size()))
          : std::nullopt;
  if (!authority.has_value()) {
    value.Expected("an address such as \"https://vault.example:8200\", without a path");
  } else if (!isTls && !authority->isLoopback) {
    value.Expected("https://, as tokens and keys would cross the network in clear text (http:// only to this node)");
  }
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

VaultConfig ReadVault(const JsonValue& value) {
  VaultConfig vault;
  const JsonObject object(value, {"address", "mount", "key", "namespace", "ca", "tokenFile", "appRole", "kubernetes"});
  if (const auto address = object.Require("address")) ReadAddress(*address, vault.address);
  ReadMount(object, "mount", vault.mount);
  if (const auto key = object.Require("key")) {
    vault.key = key->String();
    if (!vault.key.empty() && (!IsSegment(vault.key) || vault.key.size() > kLongestPath)) {
      key->Expected("a key's name of letters, digits, '.', '_' and '-'");
    }
  }
  ReadMount(object, "namespace", vault.nameSpace);
  if (const auto ca = object.Find("ca")) vault.ca = ca->FilePath();
  ReadAuth(object, vault);
  return vault;
}

}  // namespace kveil::config
