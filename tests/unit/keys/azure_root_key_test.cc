// A root key at Azure Key Vault or a Managed HSM: what it asks for, and what it makes of everything that goes wrong.
#include "keys/root/azure_root_key.h"

#include <gmock/gmock.h>

#include <thread>

#include "fake_azure.h"
#include "key_fixture.h"
#include "keys/root/remote_root_key.h"
#include "keys/root/wrapped_format.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Code = absl::StatusCode;

class AzureRootKeyTest : public KeyTest {
 protected:
  AzureRootKeyTest() : version_(azure_.Rotate("kveil")) {}
  ~AzureRootKeyTest() override { EXPECT_THAT(azure_.complaints(), IsEmpty()); }

  static RootKey::Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }
  static RootKey::Deadline Soon() { return In(seconds(10)); }

  AzureOptions Options() const { return azure_.Options("kveil"); }
  AzureOptions Application(AzureOptions::Auth auth) {
    AzureOptions options = Options();
    options.auth = auth;
    options.tenant = FakeAzure::kTenant;
    options.clientId = FakeAzure::kClient;
    options.secretFile = folder_ + "/secret";
    azure_.SetClientSecret("the~secret+/=");
    azure_.SetFederatedToken("ey.federated.token");
    azure_.SetIdentities({});
    WriteFile(options.secretFile, auth == AzureOptions::Auth::kClientSecret ? "the~secret+/=\n" : "ey.federated.token");
    return options;
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
  static void Expect(const absl::Status& status, Code code, const std::string& text) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr(text), HasSubstr("Azure key kveil at "), Not(HasSubstr("the~secret")),
                      Not(HasSubstr("ey.federated")), Not(HasSubstr("ey.token"))));
  }
  // What all three calls make of what the server does now.
  static void ExpectAll(RootKey& root, const RootKey::DataKey& made, Code code, const std::string& text,
                        milliseconds patience = seconds(10)) {
    Expect(Unwrap(root, made, "epoch 1", In(patience)), code, text);
    Expect(root.GenerateDataKey(AsBytes("epoch 1"), In(patience)).status(), code, text);
    Expect(root.Check(In(patience)), code, text);
  }
  // To requests for keys, or for tokens.
  void Answer(FakeAzure::Response response, bool isToken = false) {
    azure_.SetFault([=](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
      if (request.path.starts_with("/keys/") == isToken) return std::nullopt;
      return response;
    });
  }

  FakeAzure azure_;
  const std::string version_;
};

TEST_F(AzureRootKeyTest, AWrappedKeyBeginsWithTheProviderTheKeyItsVersionAndTheAlgorithm) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const std::string zero(1, '\0');
  const std::string header = StrCat("azureKeyVault", zero, "kveil/", version_, zero, "RSA-OAEP-256", zero);
  EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
  EXPECT_EQ(made.wrapped.size(), header.size() + 8 + 16 + 256);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());

  FakeAzure hsm(FakeAzure::Kind::kHsm);
  const std::string there = hsm.Rotate("kveil");
  AzureRootKey symmetric(hsm.Options("kveil"));
  const RootKey::DataKey small = Generate(symmetric);
  const std::string other = StrCat("azureKeyVault", zero, "kveil/", there, zero, "A256KW", zero);
  EXPECT_EQ(AsText(small.wrapped).substr(0, other.size()), other);
  EXPECT_EQ(small.wrapped.size(), other.size() + 8 + 16 + 40);
  EXPECT_TRUE(Unwrap(symmetric, small).ok());
  EXPECT_THAT(hsm.complaints(), IsEmpty());
}

TEST_F(AzureRootKeyTest, ARotatedKeyStillOpensWhatItsOldVersionWrapped) {
  AzureRootKey root(Options());
  const RootKey::DataKey old = Generate(root);
  const std::string newer = azure_.Rotate("kveil");
  const RootKey::DataKey made = Generate(root);
  EXPECT_THAT(std::string(AsText(made.wrapped)), HasSubstr("kveil/" + newer));
  EXPECT_TRUE(Unwrap(root, old).ok());
  EXPECT_TRUE(Unwrap(root, made).ok());

  azure_.Disable("kveil", version_);
  Expect(Unwrap(root, old), Code::kFailedPrecondition, "is disabled; enable it");
  EXPECT_TRUE(Unwrap(root, made).ok()) << "of another version";
  EXPECT_TRUE(root.Check(Soon()).ok());
  azure_.Disable("kveil", version_, false);
  EXPECT_TRUE(Unwrap(root, old).ok());
}

TEST_F(AzureRootKeyTest, ADisabledKeyWrapsNothingAlthoughAzureWouldLetIt) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const int before = azure_.Count("wrapkey");
  azure_.Disable("kveil", version_);
  ExpectAll(root, made, Code::kFailedPrecondition, "disabled");
  EXPECT_EQ(azure_.Count("wrapkey"), before);
  azure_.Disable("kveil", version_, false);
  EXPECT_TRUE(Unwrap(root, made).ok());
}

TEST_F(AzureRootKeyTest, AKeyThatCannotBeUsedNeedsTheOperatorAndIsNeverTakenForDamage) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (const auto& [fields, text] :
       {std::pair<nlohmann::json, const char*>({{"key", {{"kty", "EC"}}}}, "is of type EC"),
        {{{"key", {{"key_ops", {"wrapKey", "sign"}}}}}, "does not permit"},
        {{{"key", {{"key_ops", nullptr}}}}, "does not permit"}}) {
    azure_.Describe("kveil", fields);
    Expect(root.Check(Soon()), Code::kFailedPrecondition, text);
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kFailedPrecondition, text);
  }
  azure_.Describe("kveil", nlohmann::json::object());
  for (const char* inner : {"KeyDisabled", "KeyNotYetValid", "KeyExpired", "KeyOperationForbidden"}) {
    Answer(FakeAzure::Error(403, "Forbidden", inner));
    ExpectAll(root, made, Code::kFailedPrecondition, inner);
  }
  Answer(FakeAzure::Error(403, "Forbidden", "", "Operation unwrapKey is not allowed on a disabled key."));
  ExpectAll(root, made, Code::kFailedPrecondition, "enable it");
  azure_.SetFault(nullptr);
  azure_.Delete("kveil");
  ExpectAll(root, made, Code::kFailedPrecondition, "a deleted one can be recovered");
  azure_.Rotate("kveil");  // made anew: what it wrapped is gone
  Expect(Unwrap(root, made), Code::kFailedPrecondition, "no such key or version");
  EXPECT_TRUE(root.Check(Soon()).ok());
}

TEST_F(AzureRootKeyTest, WhatAnotherKeyWrappedIsRefusedWithoutARequest) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  azure_.Rotate("another");
  AzureRootKey another(azure_.Options("another"));
  EXPECT_EQ(Unwrap(another, made).code(), Code::kDataLoss);
  EXPECT_THAT(std::string(Unwrap(another, made).message()), HasSubstr("wrapped by another one, kveil"));
  Expect(Unwrap(root, made, "epoch 2"), Code::kDataLoss, "another purpose");
  // Of a version that would lead to another place.
  const std::string_view fields[] = {"kveil/../../secrets/x", "RSA-OAEP-256"};
  RootKey::DataKey forged;
  forged.wrapped = *PackWrapped("azureKeyVault", fields, AsBytes("epoch 1"), made.wrapped);
  Expect(Unwrap(root, forged), Code::kDataLoss, "is damaged");
  // By an algorithm that tells whoever may write to the registry something about what others have wrapped.
  const std::string id = "kveil/" + version_;
  for (const std::string_view algorithm : {"RSA1_5", "RSA-OAEP", "A128KW", "RSA-OAEP-256 ", ""}) {
    const std::string_view weak[] = {id, algorithm};
    forged.wrapped = *PackWrapped("azureKeyVault", weak, AsBytes("epoch 1"), made.wrapped);
    Expect(Unwrap(root, forged), Code::kDataLoss, "is damaged");
  }
  EXPECT_EQ(azure_.Count("unwrapkey"), 0);
  // In another vault, the same key and version may be one that was restored.
  FakeAzure elsewhere;
  elsewhere.Rotate("kveil");
  AzureRootKey there(elsewhere.Options("kveil"));
  Expect(Unwrap(there, made), Code::kFailedPrecondition, "no such key or version");
}

TEST_F(AzureRootKeyTest, WhatAzureDoesNotTakeNeedsTheOperatorAndIsNotTakenForDamage) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (const std::string text : {"The parameter is incorrect.", "The specified version (7.4) isn't recognized"}) {
    Answer(FakeAzure::Error(400, "BadParameter", "", text));
    ExpectAll(root, made, Code::kFailedPrecondition, StrCat("HTTP 400 BadParameter: ", text, " (Azure does not take"));
  }
}

// As anybody can have made it who knows the public half of the key. It takes no other key along.
TEST_F(AzureRootKeyTest, ASeedOfAnotherLengthIsDamageOfThatKeyAlone) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root), strange = Generate(root);
  const auto ciphertext = UnpackWrapped("azureKeyVault", 2, strange.wrapped, AsBytes("epoch 1"))->rest.subspan(16);
  const std::string text = FakeAzure::Base64Url(ciphertext);
  for (const std::string value : {"", "QUJD"}) {
    azure_.SetFault([&](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
      if (!request.path.ends_with("/unwrapkey?api-version=7.4") || request.body["value"] != text) return std::nullopt;
      return FakeAzure::Response::Of({{"kid", StrCat("https://v/keys/kveil/", version_)}, {"value", value}});
    });
    const RootKey::WrappedKey keys[] = {{strange.wrapped, AsBytes("epoch 1")}, {made.wrapped, AsBytes("epoch 1")}};
    const auto unwrapped = root.Unwrap(keys, Soon());
    Expect(unwrapped.at(0).status(), Code::kDataLoss, "does not have 32 bytes");
    EXPECT_TRUE(unwrapped.at(1).ok()) << unwrapped.at(1).status();
  }
}

// A ciphertext whose check is right, but whose seed is another: what RSA-OAEP lets anybody make.
TEST_F(AzureRootKeyTest, ASeedOfAnotherCheckIsRefused) {
  AzureRootKey root(Options());
  const RootKey::DataKey one = Generate(root), other = Generate(root);
  const auto parts = UnpackWrapped("azureKeyVault", 2, one.wrapped, AsBytes("epoch 1"));
  const auto others = UnpackWrapped("azureKeyVault", 2, other.wrapped, AsBytes("epoch 1"));
  ASSERT_TRUE(parts.has_value() && others.has_value());
  ByteBuffer rest;
  Append(rest, parts->rest.first(16));
  Append(rest, others->rest.subspan(16));
  RootKey::DataKey mixed;
  mixed.wrapped = *PackWrapped("azureKeyVault", parts->fields, AsBytes("epoch 1"), rest);
  Expect(Unwrap(root, mixed), Code::kDataLoss, "wrapped for another purpose");
}

// None of these may send the operator to a backup or to a policy.
TEST_F(AzureRootKeyTest, AnOutageIsUnavailable) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  Answer(FakeAzure::Error(429, "Throttled", "", "too many requests"));
  ExpectAll(root, made, Code::kUnavailable, "HTTP 429 Throttled: too many requests");
  for (const char* code : {"Forbidden", "KeyNotFound", "BadParameter", "InternalServerError"}) {
    Answer(FakeAzure::Error(500, code, "AccessDenied"));
    ExpectAll(root, made, Code::kUnavailable, StrCat("HTTP 500 ", code));
  }
  Answer(FakeAzure::Error(409, "Conflict"));
  ExpectAll(root, made, Code::kUnavailable, "Conflict");
  // Of a proxy in between: what it says is no word of Azure about a key or about rights.
  for (const int foreign : {400, 401, 403, 404, 407, 429}) {
    for (const std::string body :
         {"<html>Blocked by the company's gateway</html>", R"({"error":"no route"})", "[]", "", R"({"error":{}})"}) {
      if (foreign == 401 && body.empty()) continue;  // a Managed HSM
      Answer(FakeAzure::Response{foreign, body});
      ExpectAll(root, made, Code::kUnavailable, "and not as Azure does");
    }
  }
  Answer(FakeAzure::Response{302, ""});
  ExpectAll(root, made, Code::kUnavailable, "302");
  azure_.SetFault(nullptr);
  azure_.SetSilent(true);
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(200));
  azure_.SetSilent(false);
  azure_.SetDelay(seconds(5));
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(200));
  azure_.SetDelay(milliseconds(0));
  azure_.Stop();
  ExpectAll(root, made, Code::kUnavailable, "");
  azure_.Start();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "restarted in between";
}

TEST_F(AzureRootKeyTest, AResponseThatMakesNoSenseIsUnavailable) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const std::string key = FakeAzure::Base64Url(crypto::SecretKey::Random().bytes());
  const auto operation = [](const std::string& kid, const std::string& value) {
    return nlohmann::json{
        {"kid", kid}, {"value", value}, {"key", {{"kid", kid}, {"kty", "RSA"}, {"key_ops", {"wrapKey", "unwrapKey"}}}}}
        .dump();
  };
  const std::string mine = "https://v.vault.azure.net/keys/kveil/" + version_;
  for (const std::string& body :
       {std::string(), std::string("<html>"), std::string("{"), std::string("[]"), std::string("{}"),
        operation("no id", key), operation("https://v/keys/kveil/../x", key), operation("https://v/keys/other/1", key),
        operation(mine, "!"), std::string(size_t{2} << 20, ' ')}) {
    Answer(FakeAzure::Response{200, body});
    ExpectAll(root, made, Code::kUnavailable, "");
  }
  // In the place of the ciphertext only.
  for (const auto& [value, text] :
       {std::pair(std::string(2'000, 'A'), "too long"), {std::string("*"), "base64"}, {std::string(), "base64"}}) {
    azure_.SetFault([&, value = value](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
      if (!request.path.ends_with("wrapkey?api-version=7.4")) return std::nullopt;
      return FakeAzure::Response{200, operation(mine, value)};
    });
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, text);
  }
}

TEST_F(AzureRootKeyTest, ATokenThatIsRefusedIsReplacedOnceThenItIsARefusal) {
  AzureRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_EQ(azure_.Count("metadata"), 1) << "one token for all";
  azure_.RevokeTokens();
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_EQ(azure_.Count("metadata"), 2);

  Answer(FakeAzure::Error(401, "Unauthorized", "", "AKV10032: Invalid issuer."));
  Expect(Unwrap(root, made), Code::kPermissionDenied, "unwrapKey answers with HTTP 401 Unauthorized: AKV10032");
  EXPECT_EQ(azure_.Count("metadata"), 3) << "once each time";
  EXPECT_EQ(azure_.Count("unwrapkey"), 5) << "two for each that was refused";

  // When the source itself is out, nothing was refused.
  azure_.SetFault([](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
    if (request.path.starts_with("/metadata/")) return FakeAzure::Response{503, ""};
    return FakeAzure::Error(401, "Unauthorized");
  });
  Expect(Unwrap(root, made), Code::kUnavailable, "Azure's instance metadata service answers with HTTP 503");
  // But a denial is one whatever the source says.
  azure_.SetFault([](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
    if (request.path.starts_with("/metadata/")) return FakeAzure::Response{503, ""};
    return FakeAzure::Error(403, "Forbidden", "ForbiddenByRbac");
  });
  Expect(Unwrap(root, made), Code::kPermissionDenied, "ForbiddenByRbac");
}

TEST_F(AzureRootKeyTest, ATokenThatAManagedHsmRefusesWithoutAWordIsReplacedOnceThenItIsARefusal) {
  FakeAzure hsm(FakeAzure::Kind::kHsm);
  hsm.Rotate("kveil");
  AzureRootKey root(hsm.Options("kveil"));
  const RootKey::DataKey made = Generate(root);
  hsm.RevokeTokens();
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_EQ(hsm.Count("metadata"), 2);
  hsm.SetFault([](const FakeAzure::Request& request) -> std::optional<FakeAzure::Response> {
    if (request.path.starts_with("/metadata/")) return std::nullopt;
    return FakeAzure::Challenge();
  });
  ExpectAll(root, made, Code::kPermissionDenied, "answers with HTTP 401");
  EXPECT_EQ(hsm.Count("metadata"), 5) << "once each time";
  EXPECT_THAT(hsm.complaints(), IsEmpty());

  // Whoever else says 401 may have seen a token that has ended, but refuses nothing in Azure's name.
  azure_.SetFault(nullptr);
  AzureRootKey behind(Options());
  EXPECT_TRUE(behind.Check(Soon()).ok());
  Answer(FakeAzure::Response{401, "<html>"});
  Expect(behind.Check(Soon()), Code::kUnavailable, "and not as Azure does");
  EXPECT_EQ(azure_.Count("metadata"), 2);
}

TEST_F(AzureRootKeyTest, ARefusalNeedsTheOperatorAndDoesNotAskForTokensAllTheTime) {
  AzureOptions options = Options();
  options.replacePause = seconds(3600);
  options.leastAge = seconds(3600);
  AzureRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  azure_.Deny({"unwrapkey"});
  for (int i = 0; i < 5; ++i) {
    Expect(Unwrap(root, made), Code::kPermissionDenied, "Forbidden (ForbiddenByRbac): Caller is not authorized.");
  }
  EXPECT_EQ(azure_.Count("metadata"), 1);
  azure_.Deny({});
  EXPECT_TRUE(Unwrap(root, made).ok());
  for (const auto& [inner, text] :
       {std::pair("ForbiddenByFirewall", "firewall"), std::pair("ForbiddenByConnection", "private endpoints"),
        std::pair("AccessDenied", ""), std::pair("ForbiddenByPolicy", ""), std::pair("SomethingNew", "")}) {
    Answer(FakeAzure::Error(403, "Forbidden", inner));
    ExpectAll(root, made, Code::kPermissionDenied, text);
  }
}

TEST_F(AzureRootKeyTest, ATokenThatHasEndedIsNotSent) {
  azure_.SetLifetime(absl::Seconds(1));
  AzureRootKey root(Options());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  azure_.SetLifetime(absl::Hours(1));
  std::this_thread::sleep_for(milliseconds(1'100));
  Answer(FakeAzure::Response{503, ""}, /*isToken=*/true);
  Expect(root.Check(Soon()), Code::kUnavailable, "Azure's instance metadata service answers with HTTP 503");
  EXPECT_EQ(azure_.Count("get"), 1) << "not with the one that has ended";
  azure_.SetFault(nullptr);
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_EQ(azure_.Count("expired"), 0);
}

TEST_F(AzureRootKeyTest, AMachineGivesTheIdentityThatIsNamed) {
  azure_.SetIdentities({FakeAzure::kClient});
  AzureOptions options = Options();
  AzureRootKey system(options);
  Expect(system.Check(Soon()), Code::kFailedPrecondition,
         "Azure's instance metadata service answers with HTTP 400 invalid_request: Identity not found");
  options.clientId = FakeAzure::kClient;
  AzureRootKey user(options);
  EXPECT_TRUE(user.Check(Soon()).ok()) << user.Check(Soon());
  for (const int passes : {404, 410, 429, 500}) {
    Answer(FakeAzure::EntraError(passes, passes == 500 ? "invalid_request" : "not_ready", ""), /*isToken=*/true);
    AzureRootKey fresh(options);
    Expect(fresh.Check(Soon()), Code::kUnavailable, StrCat("HTTP ", passes));
  }
  for (const std::string body :
       {"", "<html>", "[]", "{}", R"({"access_token":"a"})", R"({"access_token":"","expires_in":"1"})",
        R"({"access_token":"a b","expires_in":1})", R"({"access_token":"a","expires_in":"soon"})"}) {
    Answer(FakeAzure::Response{200, body}, /*isToken=*/true);
    AzureRootKey fresh(options);
    Expect(fresh.Check(Soon()), Code::kUnavailable, "answers with what is no token");
  }
}

TEST_F(AzureRootKeyTest, AnApplicationShowsItsSecret) {
  const AzureOptions options = Application(AzureOptions::Auth::kClientSecret);
  AzureRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(azure_.Count("entra"), 1);
  WriteFile(options.secretFile, "the~secret-of-yesterday");
  azure_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kPermissionDenied,
         "Microsoft Entra ID answers with HTTP 401 invalid_client: AADSTS7000215: Invalid client secret provided.");
  WriteFile(options.secretFile, "the~secret+/=");
  EXPECT_TRUE(Unwrap(root, made).ok()) << "the file is read anew";
  std::filesystem::remove(options.secretFile);
  azure_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kFailedPrecondition, "No such file");
  AzureOptions wrong = Application(AzureOptions::Auth::kClientSecret);
  wrong.tenant = "another.example";
  AzureRootKey elsewhere(wrong);
  Expect(elsewhere.Check(Soon()), Code::kFailedPrecondition, "AADSTS90002");
  wrong = Application(AzureOptions::Auth::kClientSecret);
  wrong.clientId = "99999999-2222-3333-4444-555555555555";
  AzureRootKey unknown(wrong);
  Expect(unknown.Check(Soon()), Code::kPermissionDenied, "unauthorized_client");
}

TEST_F(AzureRootKeyTest, AWorkloadShowsItsFederatedToken) {
  const AzureOptions options = Application(AzureOptions::Auth::kWorkloadIdentity);
  AzureRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  azure_.SetFederatedToken("ey.federated.next");
  azure_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kPermissionDenied, "AADSTS70021");
  WriteFile(options.secretFile, "ey.federated.next\n");
  EXPECT_TRUE(Unwrap(root, made).ok()) << "a token that was projected anew is read";
  for (const auto& [status, error, description] :
       {std::tuple(400, "temporarily_unavailable", "AADSTS90033: A transient error has occurred."),
        std::tuple(503, "invalid_client", "down"), std::tuple(429, "invalid_grant", "slow down"),
        std::tuple(401, "invalid_client", "AADSTS700024: Client assertion is not within its valid time range.")}) {
    Answer(FakeAzure::EntraError(status, error, description), /*isToken=*/true);
    azure_.RevokeTokens();
    Expect(Unwrap(root, made), Code::kUnavailable, description);
  }
  Answer(FakeAzure::Response{403, "<html>Blocked</html>"}, /*isToken=*/true);
  Expect(Unwrap(root, made), Code::kUnavailable, "HTTP 403");
}

TEST_F(AzureRootKeyTest, ThrottlingIsWaitedOutWithPauses) {
  RemoteRootKey root(std::make_unique<AzureRootKey>(Options()),
                     {.provider = "azureKeyVault", .firstPause = milliseconds(20), .longestPause = milliseconds(50)});
  const RootKey::DataKey made = Generate(root);
  int calls = 0;
  azure_.SetFault([&](const FakeAzure::Request&) -> std::optional<FakeAzure::Response> {
    if (++calls % 3 != 0) return std::nullopt;
    return FakeAzure::Error(429, "Throttled");
  });
  const std::vector<RootKey::WrappedKey> keys(20, {made.wrapped, AsBytes("epoch 1")});
  for (const auto& answer : root.Unwrap(keys, Soon())) EXPECT_TRUE(answer.ok()) << answer.status();
}

TEST_F(AzureRootKeyTest, AnswersOnlyAServerWithACertificateThatItTrusts) {
  io::TestAuthority mine("authority"), other("another authority");
  FakeAzure server(FakeAzure::Kind::kVault, mine.Issue("vault", "IP:127.0.0.1,DNS:localhost"));
  server.Rotate("kveil");
  AzureOptions options = server.Options("kveil");
  options.metadata = azure_.address();
  options.ca = mine.path();
  AzureRootKey root(options);
  // The token is the other server's.
  Expect(root.Check(Soon()), Code::kPermissionDenied, "AKV10032");
  options.ca = other.path();
  AzureRootKey untrusting(options);
  Expect(untrusting.Check(Soon()), Code::kUnavailable, "certificate");
}

}  // namespace
}  // namespace kveil::keys
