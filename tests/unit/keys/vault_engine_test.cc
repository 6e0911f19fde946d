// What only the real Transit engine can show. tests/vault/run starts it, gives the agent docs/keys.md's policy, and
// says in the environment where it is; without it, there is none of these tests.
#include <gmock/gmock.h>
#include <stdlib.h>

#include "http/client.h"
#include "key_fixture.h"
#include "keys/root/vault_root_key.h"
#include "nlohmann/json.hpp"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AnyOf;
using testing::HasSubstr;
using Code = absl::StatusCode;
using nlohmann::json;

std::string Environment(const char* name) {
  const char* const value = getenv(name);
  return value == nullptr ? "" : value;
}
std::vector<std::string> Engines() {
  std::vector<std::string> engines;
  if (getenv("KVEIL_TEST_VAULT") != nullptr) engines.push_back(Environment("KVEIL_TEST_VAULT"));
  return engines;
}

// The agent's key is "kveil", as in docs/keys.md; each test begins with a new one.
class VaultEngineTest : public KeyTest, public testing::WithParamInterface<std::string> {
 protected:
  VaultEngineTest() { Make("kveil"); }

  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + seconds(10); }

  // A request with that token; the response's status, and its body in `last_`.
  int Ask(const std::string& token, const std::string& method, const std::string& path, const json& body = nullptr) {
    http::Request request;
    request.method = method;
    request.url = GetParam() + "/v1/" + path;
    request.headers.push_back(crypto::MakeSecretText("X-Vault-Token: " + token));
    if (!body.is_null()) request.body = crypto::MakeSecretText(body.dump());
    const auto response = client_.Send(request, Soon());
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return 0;
    last_ = json::parse(crypto::AsText(response->body), nullptr, false);
    return response->status;
  }
  void Admin(const std::string& method, const std::string& path, const json& body = nullptr) {
    const int status = Ask(Environment("KVEIL_TEST_VAULT_ROOT"), method, path, body);
    EXPECT_THAT(status, AnyOf(200, 202, 204)) << path << " " << last_;
  }
  void Make(const std::string& key) {
    const std::string path = "transit/keys/" + key;
    if (Ask(Environment("KVEIL_TEST_VAULT_ROOT"), "GET", path) == 200) Delete(key);
    Admin("POST", path, json::object());
  }
  void Delete(const std::string& key) {
    Admin("POST", "transit/keys/" + key + "/config", {{"deletion_allowed", true}});
    Admin("DELETE", "transit/keys/" + key);
  }

  std::string secretFile() const { return folder_ + "/secret"; }
  VaultOptions TokenFile() {
    return {.address = GetParam(), .key = "kveil", .secretFile = Environment("KVEIL_TEST_VAULT_TOKEN_FILE")};
  }
  VaultOptions AppRole(const json& role = json::object(), const json& secret = json::object()) {
    Ask(Environment("KVEIL_TEST_VAULT_ROOT"), "DELETE", "auth/approle/role/kveil");  // what another test made of it
    json fields = {{"token_policies", "kveil"}, {"token_ttl", "1h"}};
    fields.update(role);
    Admin("POST", "auth/approle/role/kveil", fields);
    Admin("GET", "auth/approle/role/kveil/role-id");
    const std::string roleId = last_["data"]["role_id"];
    NewSecretId(secret);
    return {.address = GetParam(),
            .key = "kveil",
            .auth = VaultOptions::Auth::kAppRole,
            .secretFile = secretFile(),
            .role = roleId,
            .authMount = "approle",
            .loginPause = milliseconds(0)};
  }
  void NewSecretId(const json& secret) {
    Admin("POST", "auth/approle/role/kveil/secret-id", secret);
    WriteFile(secretFile(), last_["data"]["secret_id"].get<std::string>() + "\n");
  }
  // All that were got by AppRole.
  void RevokeTokens() { Admin("POST", "sys/leases/revoke-prefix/auth/approle/login", json{{"sync", true}}); }

  static RootKey::DataKey Generate(RootKey& root) {
    auto made = root.GenerateDataKey(AsBytes("epoch 1"), Soon());
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : RootKey::DataKey();
  }
  static absl::Status Unwrap(RootKey& root, const RootKey::DataKey& made) {
    const RootKey::WrappedKey keys[] = {{made.wrapped, AsBytes("epoch 1")}};
    auto unwrapped = root.Unwrap(keys, Soon());
    EXPECT_TRUE(!unwrapped.at(0).ok() || unwrapped.at(0)->Equals(made.key));
    return unwrapped.at(0).status();
  }

  http::Client client_{{}};
  json last_;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(VaultEngineTest);

TEST_P(VaultEngineTest, ThePolicyIsEnoughAndNoMore) {
  VaultRootKey root(TokenFile());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_TRUE(Unwrap(root, Generate(root)).ok());
  std::string token = ReadFile(Environment("KVEIL_TEST_VAULT_TOKEN_FILE"));
  while (!token.empty() && token.back() == '\n') token.pop_back();
  for (const auto& [method, path] : std::vector<std::pair<std::string, std::string>>{
           {"POST", "transit/encrypt/kveil"},
           {"POST", "transit/keys/kveil/rotate"},
           {"POST", "transit/keys/kveil/config"},
           {"DELETE", "transit/keys/kveil"},
           {"POST", "transit/keys/another"},
           {"GET", "transit/export/encryption-key/kveil"},
           {"GET", "transit/backup/kveil"},
           {"POST", "transit/datakey/wrapped/kveil"},
           {"POST", "transit/decrypt/another"},
           {"GET", "sys/mounts"},
       }) {
    EXPECT_EQ(Ask(token, method, path, method == "POST" ? json::object() : json(nullptr)), 403) << path;
  }
}

TEST_P(VaultEngineTest, ARotatedKeyUnwrapsUntilItsMinimumIsRaised) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey old = Generate(root);
  Admin("POST", "transit/keys/kveil/rotate", json::object());
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(root, old).ok());
  EXPECT_TRUE(Unwrap(root, made).ok());
  Admin("POST", "transit/keys/kveil/config", {{"min_decryption_version", 2}});
  const absl::Status tooOld = Unwrap(root, old);
  EXPECT_EQ(tooOld.code(), Code::kFailedPrecondition) << tooOld;
  EXPECT_THAT(std::string(tooOld.message()), HasSubstr("min_decryption_version"));
  EXPECT_TRUE(Unwrap(root, made).ok());
  Admin("POST", "transit/keys/kveil/config", {{"min_decryption_version", 1}});
  EXPECT_TRUE(Unwrap(root, old).ok());
}

TEST_P(VaultEngineTest, AKeyThatIsRewrappedDoesNotNeedTheOldVersion) {
  VaultRootKey root(TokenFile());
  RootKey::DataKey made = Generate(root);
  const RootKey::WrappedKey wrapped[] = {{made.wrapped, AsBytes("epoch 1")}};
  EXPECT_EQ(root.VersionOf(wrapped[0]), "version 1");
  Admin("POST", "transit/keys/kveil/rotate", json::object());
  auto rewrapped = root.Rewrap(wrapped, Soon());
  ASSERT_TRUE(rewrapped.at(0).ok()) << rewrapped.at(0).status();
  Admin("POST", "transit/keys/kveil/config", {{"min_decryption_version", 2}});
  EXPECT_EQ(Unwrap(root, made).code(), Code::kFailedPrecondition);
  const auto tooOld = root.Rewrap(wrapped, Soon());
  EXPECT_EQ(tooOld.at(0).status().code(), Code::kFailedPrecondition) << tooOld.at(0).status();
  made.wrapped = *rewrapped.at(0);
  EXPECT_EQ(root.VersionOf({made.wrapped, AsBytes("epoch 1")}), "version 2");
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  made.wrapped.back() ^= 1;
  const RootKey::WrappedKey damaged[] = {{made.wrapped, AsBytes("epoch 1")}};
  EXPECT_EQ(root.Rewrap(damaged, Soon()).at(0).status().code(), Code::kDataLoss);
}

TEST_P(VaultEngineTest, ADeletedKeyStaysDeletedWhateverIsAsked) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  Delete("kveil");
  for (int i = 0; i < 2; ++i) {
    for (const absl::Status& status :
         {Unwrap(root, made), root.GenerateDataKey(AsBytes("epoch 1"), Soon()).status(), root.Check(Soon()),
          root.Rewrap(std::vector<RootKey::WrappedKey>{{made.wrapped, AsBytes("epoch 1")}}, Soon()).at(0).status()}) {
      EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status;
    }
  }
  EXPECT_EQ(Ask(Environment("KVEIL_TEST_VAULT_ROOT"), "GET", "transit/keys/kveil"), 404);
  Make("kveil");
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss) << "another key of the same name";
}

TEST_P(VaultEngineTest, AnUnfitKeyIsRefused) {
  VaultRootKey root(TokenFile());
  for (const json& fields : {json{{"derived", true}}, json{{"type", "rsa-2048"}}}) {
    Delete("kveil");
    Admin("POST", "transit/keys/kveil", fields);
    EXPECT_EQ(root.Check(Soon()).code(), Code::kFailedPrecondition) << fields;
  }
}

TEST_P(VaultEngineTest, ARevokedTokenIsReplacedByANewLogin) {
  VaultOptions options = AppRole();
  VaultRootKey root(options);
  options.loginPause = seconds(3600);
  VaultRootKey patient(options);
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(patient, made).ok());
  RevokeTokens();
  EXPECT_EQ(Unwrap(patient, made).code(), Code::kPermissionDenied) << "its token is new, so it asks for no other";
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
}

TEST_P(VaultEngineTest, ATokenIsRenewedAndReplacedAtTheEndOfItsLongestTime) {
  VaultOptions options = AppRole(json{{"token_ttl", "1s"}, {"token_max_ttl", "3s"}});
  VaultRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  const auto end = std::chrono::steady_clock::now() + seconds(8);
  while (std::chrono::steady_clock::now() < end) {
    EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
    usleep(50'000);
  }
}

TEST_P(VaultEngineTest, AnExpiredSecretIdIsARefusalUntilThereIsANewOne) {
  VaultRootKey root(AppRole(json::object(), json{{"ttl", "1s"}}));
  const RootKey::DataKey made = Generate(root);
  sleep(2);
  EXPECT_TRUE(Unwrap(root, made).ok()) << "the token holds";
  Admin("POST", "auth/approle/tidy/secret-id", json::object());  // begins what Vault does now and then by itself
  absl::Status refused;
  EXPECT_TRUE(Eventually([&] {
    RevokeTokens();
    refused = Unwrap(root, made);
    return refused.code() == Code::kPermissionDenied;
  })) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("login"));
  NewSecretId(json{{"ttl", "1m"}});
  EXPECT_TRUE(Unwrap(root, made).ok());
}

TEST_P(VaultEngineTest, ASealedServerIsAnOutage) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  Admin("PUT", "sys/seal", json::object());
  const absl::Status sealed = Unwrap(root, made);
  EXPECT_EQ(sealed.code(), Code::kUnavailable) << sealed;
  EXPECT_THAT(std::string(sealed.message()), HasSubstr("sealed"));
  EXPECT_EQ(root.Check(Soon()).code(), Code::kUnavailable);
  Admin("PUT", "sys/unseal", {{"key", Environment("KVEIL_TEST_VAULT_UNSEAL")}});
  EXPECT_TRUE(Eventually([&] { return Unwrap(root, made).ok(); }));
}

INSTANTIATE_TEST_SUITE_P(Engine, VaultEngineTest, testing::ValuesIn(Engines()));

}  // namespace
}  // namespace kveil::keys
