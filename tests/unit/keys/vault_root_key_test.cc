// A root key at Vault: what it asks for, how it stays logged in, and what it makes of everything that goes wrong.
#include "keys/root/vault_root_key.h"

#include <gmock/gmock.h>

#include "fake_vault.h"
#include "key_fixture.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Code = absl::StatusCode;

class VaultRootKeyTest : public KeyTest {
 protected:
  VaultRootKeyTest() {
    vault_.MakeKey("kveil");
    vault_.AddToken("hvs.first");
    WriteFile(secretFile(), "hvs.first\n");
  }
  ~VaultRootKeyTest() override { EXPECT_THAT(vault_.complaints(), IsEmpty()); }

  std::string secretFile() const { return folder_ + "/secret"; }
  static RootKey::Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }
  static RootKey::Deadline Soon() { return In(seconds(10)); }

  VaultOptions TokenFile() { return {.address = vault_.address(), .key = "kveil", .secretFile = secretFile()}; }
  VaultOptions AppRole(int lease = 3600) {
    WriteFile(secretFile(), "the-secret-id\n");
    vault_.AllowLogin("/v1/auth/approle/login", {{"role_id", "the-\"role\""}, {"secret_id", "the-secret-id"}}, lease);
    return {.address = vault_.address(),
            .key = "kveil",
            .auth = VaultOptions::Auth::kAppRole,
            .secretFile = secretFile(),
            .role = "the-\"role\"",
            .authMount = "approle",
            .loginPause = milliseconds(0)};
  }

  static RootKey::DataKey Generate(RootKey& root, std::string_view context = "epoch 1") {
    auto made = root.GenerateDataKey(AsBytes(context), Soon());
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : RootKey::DataKey();
  }
  static absl::Status Unwrap(RootKey& root, const RootKey::DataKey& made, std::string_view context = "epoch 1",
                             RootKey::Deadline deadline = Soon()) {
    const RootKey::WrappedKey keys[] = {{made.wrapped, AsBytes(context)}};
    auto unwrapped = root.Unwrap(keys, deadline);
    EXPECT_EQ(unwrapped.size(), 1u);
    EXPECT_TRUE(!unwrapped.at(0).ok() || unwrapped.at(0)->Equals(made.key));
    return unwrapped.at(0).status();
  }
  // What all three calls make of what the server does now.
  void ExpectAll(RootKey& root, const RootKey::DataKey& made, Code code, const std::string& text,
                 milliseconds patience = seconds(10)) {
    for (const absl::Status& status :
         {Unwrap(root, made, "epoch 1", In(patience)), root.GenerateDataKey(AsBytes("epoch 1"), In(patience)).status(),
          root.Check(In(patience))}) {
      EXPECT_EQ(status.code(), code) << status;
      EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(text), HasSubstr("transit/kveil"),
                                                       Not(HasSubstr("hvs.")), Not(HasSubstr("secret-id"))));
    }
  }
  void Answer(int status, const std::string& body) {
    vault_.SetFault([=](const FakeVault::Request&) { return FakeVault::Response{status, body}; });
  }

  FakeVault vault_;
};

TEST_F(VaultRootKeyTest, AWrappedKeyBeginsWithTheProviderTheKeyAndItsVersion) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  const std::string header("vault\0transit/kveil\0\0\0\0\1", 24);
  EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
  EXPECT_EQ(made.wrapped.size(), header.size() + 16 + crypto::kWrappedKeySize);
}

TEST_F(VaultRootKeyTest, ARotatedKeyStillUnwrapsWhatItsOldVersionsWrapped) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey old = Generate(root);
  vault_.RotateKey("kveil");
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(made.wrapped[23], 2);
  EXPECT_TRUE(Unwrap(root, old).ok());
  EXPECT_TRUE(Unwrap(root, made).ok());
  vault_.SetMinDecryption("kveil", 2);
  const absl::Status tooOld = Unwrap(root, old);
  EXPECT_EQ(tooOld.code(), Code::kFailedPrecondition);
  EXPECT_THAT(std::string(tooOld.message()), HasSubstr("min_decryption_version"));
  EXPECT_TRUE(Unwrap(root, made).ok());
}

TEST_F(VaultRootKeyTest, AMissingOrUnfitKeyNeedsTheOperatorAndIsNeverMade) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  vault_.DeleteKey("kveil");
  ExpectAll(root, made, Code::kFailedPrecondition, "deleted");
  vault_.MakeKey("kveil");
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss) << "another key of the same name";
  for (const nlohmann::json& fields : {nlohmann::json{{"derived", true}}, nlohmann::json{{"type", "rsa-4096"}},
                                       nlohmann::json{{"soft_deleted", true}}}) {
    vault_.MakeKey("kveil", fields);
    EXPECT_EQ(root.Check(Soon()).code(), Code::kFailedPrecondition) << fields;
  }
}

TEST_F(VaultRootKeyTest, AsksForAtMost400AtOnce) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  const std::vector<RootKey::WrappedKey> keys(1000, {made.wrapped, AsBytes("epoch 1")});
  for (const auto& key : root.Unwrap(keys, Soon())) EXPECT_TRUE(key.ok()) << key.status();
  EXPECT_EQ(vault_.Count("/decrypt/"), 3);
}

TEST_F(VaultRootKeyTest, WhatAnotherKeyWrappedIsRefusedWithoutARequest) {
  VaultRootKey root(TokenFile());
  RootKey::DataKey made = Generate(root);
  VaultOptions other = TokenFile();
  other.key = "kveil2";
  VaultRootKey another(other);
  EXPECT_EQ(Unwrap(another, made).code(), Code::kDataLoss);
  EXPECT_EQ(vault_.Count("/decrypt/"), 0);
}

// None of these may send the operator to a backup or to a policy.
TEST_F(VaultRootKeyTest, AnOutageIsUnavailable) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  Answer(500, R"({"errors":["internal error"]})");
  ExpectAll(root, made, Code::kUnavailable, "HTTP 500: internal error");
  Answer(503, R"({"errors":["Vault is sealed"]})");
  ExpectAll(root, made, Code::kUnavailable, "Vault is sealed");
  Answer(429, R"({"errors":["request path \"transit\": rate limit quota exceeded"]})");
  ExpectAll(root, made, Code::kUnavailable, "rate limit");
  for (const int standby : {412, 429, 472, 473, 502}) {
    Answer(standby, "");
    ExpectAll(root, made, Code::kUnavailable, std::to_string(standby));
  }
  // Of a proxy in between: what it says is no word of Vault's about a key, a token or a path.
  for (const int foreign : {400, 401, 403, 404, 407, 451}) {
    Answer(foreign, "<html>Blocked by the company's gateway</html>");
    ExpectAll(root, made, Code::kUnavailable, std::to_string(foreign));
    Answer(foreign, R"({"message":"no route matched"})");
    ExpectAll(root, made, Code::kUnavailable, std::to_string(foreign));
  }
  Answer(307, "");
  ExpectAll(root, made, Code::kUnavailable, "redirect");
  EXPECT_EQ(vault_.Count("/elsewhere"), 0);
  vault_.SetFault(nullptr);
  vault_.SetSilent(true);
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(300));
  vault_.SetSilent(false);
  vault_.SetDelay(seconds(5));
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(300));
  vault_.SetDelay(milliseconds(0));
  vault_.Stop();
  ExpectAll(root, made, Code::kUnavailable, "");
  vault_.Start();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "restarted in between";
}

TEST_F(VaultRootKeyTest, AResponseThatMakesNoSenseIsUnavailable) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  for (const std::string& body :
       {std::string(), std::string("<html>"), std::string("{"), std::string("[]"), std::string("{}"),
        std::string(R"({"data":null})"), std::string(R"({"data":{}})"),
        std::string(R"({"data":{"ciphertext":"vault:v0:AAAA","plaintext":"AAAA","type":3,"batch_results":[3]}})"),
        std::string(R"({"data":{"ciphertext":"vault:v1:AAAA","plaintext":"AAAA","batch_results":[{}]}})"),
        std::string(R"({"data":{"ciphertext":"vault:v1:AAAA","batch_results":[{"plaintext":"QUJD"}]}})"),
        std::string(R"({"data":{"ciphertext":"vault:v1:AA==","plaintext":"x","batch_results":[{"plaintext":"!"}]}})"),
        std::string(R"({"data":{"batch_results":[]}})"), std::string(size_t{8} << 20, '['),
        std::string(size_t{2} << 20, ' ')}) {
    Answer(200, body);
    ExpectAll(root, made, Code::kUnavailable, body.size() > 1 << 20 ? "longer than any" : "");
  }
}

TEST_F(VaultRootKeyTest, AnswersInAnotherOrderOrNumberAreNotTaken) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey one = Generate(root), two = Generate(root);
  const RootKey::WrappedKey keys[] = {{one.wrapped, AsBytes("epoch 1")}, {two.wrapped, AsBytes("epoch 1")}};
  const std::function<void(nlohmann::json&)> changes[] = {
      [](nlohmann::json& results) { std::swap(results[0], results[1]); },
      [](nlohmann::json& results) { results.erase(0); },
      [](nlohmann::json& results) { results.push_back(results[0]); },
  };
  for (const auto& change : changes) {
    vault_.SetChange([&](const FakeVault::Request& request, nlohmann::json& json) {
      if (absl::StrContains(request.path, "/decrypt/")) change(json["data"]["batch_results"]);
    });
    for (const auto& key : root.Unwrap(keys, Soon())) EXPECT_EQ(key.status().code(), Code::kUnavailable);
  }
  // What is said of one of them in words that are not known may be an outage.
  vault_.SetChange([&](const FakeVault::Request&, nlohmann::json& json) {
    json["data"]["batch_results"][0] = {{"error", "the HSM is on fire"}};
  });
  const auto answers = root.Unwrap(keys, Soon());
  EXPECT_EQ(answers[0].status().code(), Code::kUnavailable);
  EXPECT_TRUE(answers[1].ok());
}

TEST_F(VaultRootKeyTest, ATokenFileIsReadAgainWhenItChanges) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  vault_.RevokeTokens();
  ExpectAll(root, made, Code::kPermissionDenied, "does not allow");
  vault_.AddToken("hvs.second");
  WriteFile(secretFile(), "hvs.second");
  EXPECT_TRUE(Unwrap(root, made).ok());
  for (const std::string& bad : {std::string(), std::string("\n"), std::string("two words"),
                                 std::string("hvs.x\r\nX-Other: 1"), std::string(100'000, 'x')}) {
    WriteFile(secretFile(), bad);
    ExpectAll(root, made, Code::kFailedPrecondition, secretFile());
  }
  unlink(secretFile().c_str());
  ExpectAll(root, made, Code::kFailedPrecondition, "No such file");
}

// Read between two requests: the refusal of the old token is none of the new one.
TEST_F(VaultRootKeyTest, ATokenThatIsReplacedDuringARequestIsNoRefusal) {
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  vault_.AddToken("hvs.second");
  vault_.SetFault([this](const FakeVault::Request& request) -> std::optional<FakeVault::Response> {
    if (request.headers.at("x-vault-token") != "hvs.first") return std::nullopt;
    WriteFile(secretFile(), "hvs.second");
    return FakeVault::Response::Error(403, "permission denied");
  });
  EXPECT_TRUE(Unwrap(root, made).ok());
}

TEST_F(VaultRootKeyTest, ATokenOfAFileIsRenewedIfItMayBe) {
  vault_.AddToken("hvs.first", /*lease=*/1, /*isRenewable=*/true);
  VaultRootKey root(TokenFile());
  const RootKey::DataKey made = Generate(root);
  const auto end = In(seconds(3));
  while (std::chrono::steady_clock::now() < end) {
    EXPECT_TRUE(Unwrap(root, made).ok());
    usleep(50'000);
  }
  EXPECT_GE(vault_.Count("renew-self"), 3);
}

TEST_F(VaultRootKeyTest, ATokenOfAFileWhoseFirstLookupFailedIsLookedUpAndRenewedLater) {
  vault_.AddToken("hvs.first", /*lease=*/2, /*isRenewable=*/true);
  vault_.SetFault([](const FakeVault::Request& request) -> std::optional<FakeVault::Response> {
    if (!absl::EndsWith(request.path, "lookup-self")) return std::nullopt;
    return FakeVault::Response::Error(503, "Vault is sealed");
  });
  VaultOptions options = TokenFile();
  options.askAgain = milliseconds(10);
  VaultRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  vault_.SetFault(nullptr);
  const auto end = In(seconds(10));
  while (vault_.Count("renew-self") < 2 && std::chrono::steady_clock::now() < end) {
    EXPECT_TRUE(Unwrap(root, made).ok());
    usleep(20'000);
  }
  EXPECT_GE(vault_.Count("renew-self"), 2);
}

TEST_F(VaultRootKeyTest, LogsInByAppRoleRenewsAndLogsInAgainWhenItsTokenEnded) {
  VaultRootKey root(AppRole(/*lease=*/1));
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(vault_.Count("/login"), 1);
  const auto end = In(seconds(3));
  while (std::chrono::steady_clock::now() < end) {
    EXPECT_TRUE(Unwrap(root, made).ok());
    usleep(50'000);
  }
  EXPECT_EQ(vault_.Count("/login"), 1) << "it was renewed in time";
  EXPECT_GE(vault_.Count("renew-self"), 3);
  vault_.RevokeTokens();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "a revoked token is replaced";
  sleep(2);
  EXPECT_TRUE(Unwrap(root, made).ok()) << "and one that has expired";
}

TEST_F(VaultRootKeyTest, ARefusalWithANewTokenIsOneAndDoesNotLogInAllTheTime) {
  VaultOptions options = AppRole();
  options.loginPause = seconds(3600);
  VaultRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  vault_.Deny("/v1/transit/decrypt/kveil");
  for (int i = 0; i < 10; ++i) {
    const absl::Status denied = Unwrap(root, made);
    EXPECT_EQ(denied.code(), Code::kPermissionDenied);
    EXPECT_THAT(std::string(denied.message()), HasSubstr("POST transit/decrypt/kveil"));
  }
  EXPECT_EQ(vault_.Count("/login"), 1);
  vault_.Deny("/v1/transit/decrypt/kveil", false);
  EXPECT_TRUE(Unwrap(root, made).ok());
}

// A policy that denies looks like a token that has ended.
TEST_F(VaultRootKeyTest, ATokenIsRevokedWhenAnotherTakesItsPlaceAndAtTheEnd) {
  {
    VaultRootKey root(AppRole());
    const RootKey::DataKey made = Generate(root);
    EXPECT_EQ(vault_.tokens(), 2u) << "with that of the fixture";
    vault_.Deny("/v1/transit/decrypt/kveil");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Unwrap(root, made).code(), Code::kPermissionDenied);
    EXPECT_EQ(vault_.Count("/login"), 4);
    EXPECT_EQ(vault_.tokens(), 2u);
    root.Stop();
  }
  EXPECT_EQ(vault_.tokens(), 1u);
  {
    VaultRootKey root(TokenFile());
    WriteFile(secretFile(), "hvs.first");
    EXPECT_TRUE(root.Check(Soon()).ok());
  }
  EXPECT_EQ(vault_.tokens(), 1u) << "the token of a file is somebody else's";
}

TEST_F(VaultRootKeyTest, ALoginThatIsRefusedIsARefusalAndOneThatFailsIsAnOutage) {
  VaultRootKey root(AppRole(/*lease=*/3600));
  const RootKey::DataKey made = Generate(root);
  vault_.ForbidLogin("/v1/auth/approle/login");
  EXPECT_TRUE(Unwrap(root, made).ok()) << "the token holds";
  vault_.RevokeTokens();
  ExpectAll(root, made, Code::kPermissionDenied, "refuses the login");
  vault_.SetFault([](const FakeVault::Request& request) -> std::optional<FakeVault::Response> {
    if (!request.path.ends_with("/login")) return std::nullopt;
    return FakeVault::Response::Error(500, "no leader");
  });
  ExpectAll(root, made, Code::kUnavailable, "no leader");
  vault_.SetFault(nullptr);
  WriteFile(secretFile(), "another-secret-id");
  vault_.AllowLogin("/v1/auth/approle/login", {{"role_id", "the-\"role\""}, {"secret_id", "another-secret-id"}}, 60);
  EXPECT_TRUE(Unwrap(root, made).ok()) << "a new secret id is taken";
}

TEST_F(VaultRootKeyTest, LogsInByKubernetesWithinANamespace) {
  WriteFile(secretFile(), "ey.service.account");
  vault_.ExpectNamespace("team/a");
  vault_.AllowLogin("/v1/auth/cluster-1/login", {{"role", "kveil"}, {"jwt", "ey.service.account"}}, 3600);
  VaultRootKey root({.address = vault_.address(),
                     .key = "kveil",
                     .nameSpace = "team/a",
                     .auth = VaultOptions::Auth::kKubernetes,
                     .secretFile = secretFile(),
                     .role = "kveil",
                     .authMount = "cluster-1"});
  EXPECT_TRUE(Unwrap(root, Generate(root)).ok());
  EXPECT_TRUE(root.Check(Soon()).ok());
}

TEST_F(VaultRootKeyTest, AnAuthMethodThatIsNotThereNeedsTheOperator) {
  VaultOptions options = AppRole();
  options.authMount = "elsewhere";
  VaultRootKey root(options);
  EXPECT_EQ(root.Check(Soon()).code(), Code::kFailedPrecondition);
}

TEST_F(VaultRootKeyTest, AnswersOnlyAServerWithACertificateThatItTrusts) {
  io::TestAuthority mine("authority"), other("another authority");
  FakeVault server(mine.Issue("vault", "IP:127.0.0.1,DNS:localhost"));
  server.MakeKey("kveil");
  server.AddToken("hvs.first");
  VaultOptions options = TokenFile();
  options.address = server.address();
  options.ca = mine.path();
  VaultRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_TRUE(root.Check(Soon()).ok());
  EXPECT_THAT(server.complaints(), IsEmpty());

  options.ca = other.path();
  VaultRootKey untrusting(options);
  ExpectAll(untrusting, made, Code::kUnavailable, "certificate");
  options.ca.clear();
  VaultRootKey ofTheSystem(options);
  ExpectAll(ofTheSystem, made, Code::kUnavailable, "certificate");
  options.ca = folder_ + "/missing.pem";
  VaultRootKey without(options);
  ExpectAll(without, made, Code::kFailedPrecondition, "missing.pem");

  FakeVault misnamed(mine.Issue("vault2", "DNS:vault.example"));
  options.ca = mine.path();
  options.address = misnamed.address();
  VaultRootKey unnamed(options);
  ExpectAll(unnamed, made, Code::kUnavailable, "");
  EXPECT_EQ(misnamed.Count("/"), 0) << "nothing was sent to it";
  FakeVault old(mine.Issue("vault3", "IP:127.0.0.1", -60));
  options.address = old.address();
  VaultRootKey expired(options);
  ExpectAll(expired, made, Code::kUnavailable, "certificate");
}

TEST_F(VaultRootKeyTest, TakesNoProxyFromTheEnvironment) {
  setenv("http_proxy", "http://127.0.0.1:1", 1);
  setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
  VaultRootKey root(TokenFile());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  unsetenv("http_proxy");
  unsetenv("ALL_PROXY");
}

}  // namespace
}  // namespace kveil::keys
