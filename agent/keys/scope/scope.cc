#include "keys/scope/scope.h"

namespace kveil::keys {

std::string_view NameOf(Scope scope) {
  switch (scope) {
    case Scope::kCluster:
      return "cluster";
    case Scope::kTopic:
      return "topic";
    case Scope::kUser:
      break;
  }
  return "user";
}

std::string KeyspaceUnder(std::string_view keyspace, const KekName& kek) {
  std::string under(keyspace);
  under += '\0';
  under += kek.provider;
  under += '\0';
  return under + kek.key;
}

std::optional<KekName> KekOf(const ScopeName& name) {
  const size_t provider = name.keyspace.find('\0');
  if (provider == std::string_view::npos) return std::nullopt;
  const std::string_view rest = name.keyspace.substr(provider + 1);
  const size_t key = rest.find('\0');
  if (key == std::string_view::npos) return std::nullopt;
  return KekName{std::string(rest.substr(0, key)), std::string(rest.substr(key + 1))};
}

ScopeName NameOfRow(const ScopeName& name) {
  if (name.scope != Scope::kUser) return name;
  return {name.scope, name.keyspace.substr(0, name.keyspace.find('\0')), name.subject};
}

}  // namespace kveil::keys
