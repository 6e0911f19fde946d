#include "config/keys_config.h"

#include "absl/status/statusor.h"
#include "base/text.h"
#include "config/credentials.h"
#include "config/json_value.h"
#include "config/postgres_text.h"

namespace kveil::config {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// No error shows the string: a secret may be in it by mistake.
PostgresConfig ReadPostgres(const JsonValue& value) {
  if (!value.isString()) {
    value.Error("expected a PostgreSQL connection string such as \"host=db.example dbname=kveil user=kveil\"");
    return {};
  }
  absl::StatusOr<PostgresConfig> postgres = ParsePostgres(value.String());
  if (!postgres.ok()) value.Error(ToStd(postgres.status().message()));
  return postgres.ok() ? *std::move(postgres) : PostgresConfig();
}

}  // namespace

std::string StateFolder(const KeysConfig& keys) {
  // Nothing can be written beside a credential.
  const bool isBesideRootKey = keys.registryPostgres.has_value() && !keys.rootKeyFile.empty() &&
                               !keys.rootKeyFile.starts_with(ExpandCredentials(std::string(kCredentials)));
  const std::string& neighbour = isBesideRootKey ? keys.rootKeyFile : keys.registryPath;
  return neighbour.substr(0, neighbour.rfind('/'));
}

std::string ReceiptsFolder(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/receipts"); }

std::string AcceptedPoliciesFile(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/policies.accepted"); }

std::string PulledPoliciesFolder(const KeysConfig& keys) { return StrCat(StateFolder(keys), "/policies.pulled"); }

void ReadKeys(const JsonValue& value, KeysConfig& keys) {
  const JsonObject object(value, {"root", "keks", "registry", "cacheTtl", "newUsersPerSecond", "epochs"});
  if (const auto root = object.Find("root")) {
    const JsonObject source(*root, {"file", "vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    const auto kind = source.ExactlyOneOf({"file", "vault", "awsKms", "azureKeyVault", "gcpKms", "pkcs11"});
    if (kind == "file") {
      ReadPath(source, "file", keys.rootKeyFile);
    } else if (kind.has_value()) {
      keys.rootKeyFile.clear();
      keys.rootKey = ReadProvider(source, *kind, KeyNamedBy::kConfiguration);
    }
  }
  if (const auto keks = object.Find("keks")) keys.kekProviders = ReadKekProviders(*keks);
  if (const auto registry = object.Find("registry")) {
    const JsonObject source(*registry, {"sqlite", "postgres"});
    const auto kind = source.ExactlyOneOf({"sqlite", "postgres"});
    if (kind == "sqlite") ReadPath(source, "sqlite", keys.registryPath);
    if (kind == "postgres") keys.registryPostgres = ReadPostgres(*source.Find("postgres"));
  }
  if (const auto ttl = object.Find("cacheTtl")) keys.cacheTtl = ttl->Duration(seconds(1), hours(1));
  if (const auto users = object.Find("newUsersPerSecond")) keys.newUsersPerSecond = users->Integer(1, 1000000);
  if (const auto epochs = object.Find("epochs")) {
    const JsonObject turns(*epochs, {"turnEvery"});
    const auto every = turns.Find("turnEvery");
    if (every) keys.turnEpochsEvery = every->Duration(milliseconds(0), hours(24 * 366));
    const bool isTooOften = every && keys.turnEpochsEvery > milliseconds(0) && keys.turnEpochsEvery < hours(1);
    if (isTooOften) every->Error("expected \"0s\" (never), or a duration from 1h to 8784h");
  }
}

}  // namespace kveil::config
