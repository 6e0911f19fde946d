// A root key at Google Cloud KMS: what it asks for, and what it makes of everything that goes wrong.
#include "keys/root/gcp_root_key.h"

#include <gmock/gmock.h>

#include <thread>

#include "fake_gcp.h"
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

class GcpRootKeyTest : public KeyTest {
 protected:
  GcpRootKeyTest() { gcp_.Rotate("kveil"); }
  ~GcpRootKeyTest() override { EXPECT_THAT(gcp_.complaints(), IsEmpty()); }

  static RootKey::Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }
  static RootKey::Deadline Soon() { return In(seconds(10)); }

  GcpOptions Options() const { return gcp_.Options("kveil"); }
  GcpOptions ByFile(const nlohmann::json& file) const {
    GcpOptions options = Options();
    options.credentialsFile = folder_ + "/credentials.json";
    WriteFile(options.credentialsFile, file.dump(2) + "\n");
    return options;
  }
  nlohmann::json External(bool impersonates) {
    WriteFile(folder_ + "/token", "ey.federated.token\n");
    gcp_.SetFederatedToken("ey.federated.token");
    return gcp_.ExternalAccountFile(folder_ + "/token", impersonates);
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
                AllOf(HasSubstr(text), HasSubstr("Google Cloud KMS key projects/project-1/locations/"),
                      Not(HasSubstr("ey.federated")), Not(HasSubstr("ya29")), Not(HasSubstr("BEGIN"))));
  }
  // What all three calls make of what the server does now.
  static void ExpectAll(RootKey& root, const RootKey::DataKey& made, Code code, const std::string& text,
                        milliseconds patience = seconds(10)) {
    Expect(Unwrap(root, made, "epoch 1", In(patience)), code, text);
    Expect(root.GenerateDataKey(AsBytes("epoch 1"), In(patience)).status(), code, text);
    Expect(root.Check(In(patience)), code, text);
  }
  // To requests for keys, or to all others.
  void Answer(FakeGcp::Response response, bool isToken = false) {
    gcp_.SetFault([=](const FakeGcp::Request& request) -> std::optional<FakeGcp::Response> {
      if (request.path.starts_with("/v1/projects/project-1/") == isToken) return std::nullopt;
      return response;
    });
  }

  FakeGcp gcp_;
};

TEST_F(GcpRootKeyTest, AWrappedKeyBeginsWithTheProviderAndTheNameOfTheVersion) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const std::string zero(1, '\0');
  const std::string header = StrCat("gcpKms", zero, FakeGcp::NameOf("kveil"), "/cryptoKeyVersions/1", zero);
  EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_TRUE(Unwrap(root, Generate(root, ""), "").ok());
}

TEST_F(GcpRootKeyTest, ARotatedKeyStillOpensWhatItsOldVersionWrapped) {
  GcpRootKey root(Options());
  const RootKey::DataKey old = Generate(root);
  gcp_.Rotate("kveil");
  const RootKey::DataKey made = Generate(root);
  EXPECT_THAT(std::string(AsText(made.wrapped)), HasSubstr("/cryptoKeyVersions/2"));
  EXPECT_TRUE(Unwrap(root, old).ok());
  for (const char* state : {"DISABLED", "DESTROY_SCHEDULED", "DESTROYED"}) {
    gcp_.SetState("kveil", 1, state);
    Expect(Unwrap(root, old), Code::kFailedPrecondition,
           StrCat("/cryptoKeyVersions/1 is not enabled, current state is"));
    EXPECT_TRUE(Unwrap(root, made).ok()) << "of another version";
    EXPECT_TRUE(root.Check(Soon()).ok());
  }
  gcp_.SetState("kveil", 1, "ENABLED");
  EXPECT_TRUE(Unwrap(root, old).ok());
}

TEST_F(GcpRootKeyTest, AKeyThatCannotBeUsedNeedsTheOperatorAndIsNeverTakenForDamage) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (const auto& [state, text] :
       {std::pair("DISABLED", "enable it"), std::pair("DESTROYED", "make another version"),
        std::pair("DESTROY_SCHEDULED", "restore and enable it"), std::pair("IMPORT_FAILED", "IMPORT_FAILED")}) {
    gcp_.SetState("kveil", 1, state);
    Expect(Unwrap(root, made), Code::kFailedPrecondition, "is disabled, destroyed or not reachable");
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kFailedPrecondition, state);
    Expect(root.Check(Soon()), Code::kFailedPrecondition, text);
  }
  gcp_.SetState("kveil", 1, "PENDING_GENERATION");
  Expect(root.Check(Soon()), Code::kUnavailable, "PENDING_GENERATION");
  gcp_.SetState("kveil", 1, "ENABLED");
  gcp_.Describe("kveil", {{"purpose", "ASYMMETRIC_SIGN"}});
  Expect(root.Check(Soon()), Code::kFailedPrecondition, "has to be one for ENCRYPT_DECRYPT");
  gcp_.Describe("kveil", {{"primary", nullptr}});
  Expect(root.Check(Soon()), Code::kFailedPrecondition, "has no primary version");
  GcpRootKey missing(gcp_.Options("missing"));
  Expect(missing.Check(Soon()), Code::kFailedPrecondition, "get answers with HTTP 404 NOT_FOUND");
}

TEST_F(GcpRootKeyTest, TheContextIsBoundByGoogleToo) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  Expect(Unwrap(root, made, "epoch 2"), Code::kDataLoss, "another purpose");
  EXPECT_EQ(gcp_.Count("decrypt"), 0) << "refused without a request";
  // With a check that somebody has made to fit.
  const auto parts = UnpackWrapped("gcpKms", 1, made.wrapped, AsBytes("epoch 1"));
  ASSERT_TRUE(parts.has_value());
  RootKey::DataKey moved;
  moved.wrapped = *PackWrapped("gcpKms", parts->fields, AsBytes("epoch 2"), parts->rest);
  Expect(Unwrap(root, moved, "epoch 2"), Code::kDataLoss, "Decryption failed: the ciphertext is invalid.");
  EXPECT_EQ(gcp_.Count("decrypt"), 1);
}

TEST_F(GcpRootKeyTest, WhatAnotherKeyWrappedIsRefusedWithoutARequest) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  gcp_.Rotate("kveil2");
  GcpRootKey another(gcp_.Options("kveil2"));
  Expect(Unwrap(another, made), Code::kDataLoss, "wrapped by another one, projects/project-1/");
  EXPECT_EQ(gcp_.Count("decrypt"), 0);
  // A project has an id and a number.
  gcp_.SetChange([](nlohmann::json& json) {
    if (json.contains("name")) json["name"] = "projects/1234" + std::string(json["name"]).substr(18);
  });
  const RootKey::DataKey byNumber = Generate(root);
  EXPECT_THAT(std::string(AsText(byNumber.wrapped)), HasSubstr("projects/1234/locations/"));
  EXPECT_TRUE(Unwrap(root, byNumber).ok());
}

// Of a request or an answer that was damaged on its way, nothing is kept and nothing is concluded.
TEST_F(GcpRootKeyTest, AChecksumThatDoesNotFitPassesByItself) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const auto expect = [&](const FakeGcp::Change& change) {
    gcp_.SetChange(change);
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, "damaged on its way");
  };
  expect([](nlohmann::json& json) { json["verifiedPlaintextCrc32c"] = false; });
  expect([](nlohmann::json& json) { json.erase("verifiedAdditionalAuthenticatedDataCrc32c"); });
  expect([](nlohmann::json& json) { json["ciphertextCrc32c"] = "1"; });
  expect([](nlohmann::json& json) { json.erase("ciphertextCrc32c"); });
  expect([](nlohmann::json& json) { json["ciphertext"] = "QUJD"; });
  gcp_.SetChange([](nlohmann::json& json) { json["plaintextCrc32c"] = "1"; });
  Expect(Unwrap(root, made), Code::kUnavailable, "damaged on its way");
  gcp_.SetChange([](nlohmann::json& json) { json.erase("plaintextCrc32c"); });
  Expect(Unwrap(root, made), Code::kUnavailable, "damaged on its way");
  gcp_.SetChange(nullptr);
  Answer(FakeGcp::Error(400, "INVALID_ARGUMENT",
                        "The checksum in field ciphertext_crc32c did not match the data in field ciphertext."));
  ExpectAll(root, made, Code::kUnavailable, "did not match");
  Answer(FakeGcp::Error(400, "INVALID_ARGUMENT",
                        "Decryption failed: verify that 'name' refers to the correct CryptoKey."));
  Expect(Unwrap(root, made), Code::kDataLoss, "verify that 'name'");
  Expect(root.Check(Soon()), Code::kFailedPrecondition, "INVALID_ARGUMENT");
}

TEST_F(GcpRootKeyTest, ARequestThatGoogleDoesNotTakeNeedsTheOperator) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  Answer(FakeGcp::Error(400, "INVALID_ARGUMENT", "The resource name is not valid for this location."));
  ExpectAll(
      root, made, Code::kFailedPrecondition,
      "HTTP 400 INVALID_ARGUMENT: The resource name is not valid for this location. (it does not take the request");
}

// None of these may send the operator to a backup or to a policy.
TEST_F(GcpRootKeyTest, AnOutageIsUnavailable) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  Answer(FakeGcp::Error(429, "RESOURCE_EXHAUSTED", "Quota exceeded"));
  ExpectAll(root, made, Code::kUnavailable, "HTTP 429 RESOURCE_EXHAUSTED: Quota exceeded");
  for (const char* status : {"PERMISSION_DENIED", "NOT_FOUND", "FAILED_PRECONDITION", "UNAVAILABLE"}) {
    Answer(FakeGcp::Error(503, status, "Decryption failed"));
    ExpectAll(root, made, Code::kUnavailable, StrCat("HTTP 503 ", status));
  }
  Answer(FakeGcp::Error(409, "ABORTED"));
  ExpectAll(root, made, Code::kUnavailable, "ABORTED");
  // Of a proxy in between: what it says is no word of Google about a key or about rights.
  for (const int foreign : {400, 401, 403, 404, 407, 429}) {
    for (const std::string body :
         {"<html>Blocked by the company's gateway</html>", R"({"error":"no route"})", "[]", "", R"({"error":{}})"}) {
      Answer(FakeGcp::Response{foreign, body});
      ExpectAll(root, made, Code::kUnavailable, "and not as Google does");
    }
  }
  gcp_.SetFault(nullptr);
  gcp_.SetSilent(true);
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(200));
  gcp_.SetSilent(false);
  gcp_.SetDelay(seconds(5));
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(200));
  gcp_.SetDelay(milliseconds(0));
  gcp_.Stop();
  ExpectAll(root, made, Code::kUnavailable, "");
  gcp_.Start();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "restarted in between";
}

TEST_F(GcpRootKeyTest, AResponseThatMakesNoSenseIsUnavailable) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (const std::string& body :
       {std::string(), std::string("<html>"), std::string("{"), std::string("[]"), std::string("{}"),
        std::string(R"({"purpose":"ENCRYPT_DECRYPT","primary":{},"plaintext":"QUJD","name":"n"})"),
        std::string(R"({"plaintext":"!","name":"n","ciphertext":"!"})"), std::string(size_t{2} << 20, ' ')}) {
    Answer(FakeGcp::Response{200, body});
    ExpectAll(root, made, Code::kUnavailable, "");
  }
  gcp_.SetFault(nullptr);
  gcp_.SetChange([](nlohmann::json& json) { json["name"] = FakeGcp::NameOf("other") + "/cryptoKeyVersions/1"; });
  Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, "another key was used");
}

// What could not be unwrapped again is not wrapped.
TEST_F(GcpRootKeyTest, AVersionWhoseNameCannotBeKeptIsRefusedWhenAKeyIsMade) {
  GcpRootKey root(Options());
  const auto expect = [&](const std::string& name, const std::string& text) {
    gcp_.SetChange([&](nlohmann::json& json) { json["name"] = name; });
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, text);
  };
  const std::string prefix = FakeGcp::NameOf("kveil") + "/cryptoKeyVersions/";
  for (const std::string& number : {std::string(), std::string("1/x"), std::string("x"), std::string("1\0", 2),
                                    std::string(21, '1'), std::string(1'000, '1')}) {
    expect(prefix + number, "another key was used");
  }
  const std::string place = prefix.substr(prefix.find("/locations/"));
  expect("projects/" + std::string(500, 'p') + place + "1", "cannot be kept");
  expect("projects/" + std::string("p\0", 2) + place + "1", "cannot be kept");
}

// Whoever may encrypt by the key can have made it. It takes no other key along.
TEST_F(GcpRootKeyTest, AKeyOfAnotherLengthIsDamageOfThatKeyAlone) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root), strange = Generate(root);
  const auto parts = UnpackWrapped("gcpKms", 1, strange.wrapped, AsBytes("epoch 1"));
  gcp_.SetFault([&](const FakeGcp::Request& request) -> std::optional<FakeGcp::Response> {
    if (request.text.empty() || request.body["ciphertext"] != FakeGcp::Base64(parts->rest)) return std::nullopt;
    return FakeGcp::Response::Of({{"plaintext", "QUJD"}, {"plaintextCrc32c", std::to_string(Crc32c(AsBytes("ABC")))}});
  });
  const RootKey::WrappedKey keys[] = {{strange.wrapped, AsBytes("epoch 1")}, {made.wrapped, AsBytes("epoch 1")}};
  const auto unwrapped = root.Unwrap(keys, Soon());
  Expect(unwrapped.at(0).status(), Code::kDataLoss, "does not have 32 bytes");
  EXPECT_TRUE(unwrapped.at(1).ok()) << unwrapped.at(1).status();
}

TEST_F(GcpRootKeyTest, ATokenThatIsRefusedIsReplacedOnceThenItIsARefusal) {
  GcpRootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_EQ(gcp_.Count("metadata"), 1) << "one token for all";
  gcp_.RevokeTokens();
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_EQ(gcp_.Count("metadata"), 2);
  Answer(FakeGcp::Error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."));
  Expect(Unwrap(root, made), Code::kPermissionDenied, "decrypt answers with HTTP 401 UNAUTHENTICATED");
  EXPECT_EQ(gcp_.Count("metadata"), 3) << "once each time";
  gcp_.SetFault(nullptr);
  gcp_.Deny({"decrypt"});
  Expect(Unwrap(root, made), Code::kPermissionDenied, "Permission 'cloudkms.decrypt' denied");
  gcp_.Deny({});
  EXPECT_TRUE(Unwrap(root, made).ok());
}

TEST_F(GcpRootKeyTest, AMachineGivesATokenForKmsAlone) {
  GcpRootKey root(Options());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  gcp_.SetHasServiceAccount(false);
  GcpRootKey without(Options());
  Expect(without.Check(Soon()), Code::kUnavailable, "Google's metadata server answers with HTTP 404");
}

TEST_F(GcpRootKeyTest, AServiceAccountSignsForItsToken) {
  const GcpOptions options = ByFile(gcp_.ServiceAccountFile());
  GcpRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(gcp_.Count("token"), 1);
  nlohmann::json file = gcp_.ServiceAccountFile();
  const auto expect = [&](const nlohmann::json& wrong, Code code, const std::string& text) {
    ByFile(wrong);
    gcp_.RevokeTokens();
    Expect(Unwrap(root, made), code, text);
  };
  file["client_email"] = "nobody@project-1.iam.gserviceaccount.com";
  expect(file, Code::kPermissionDenied, "invalid_grant: Invalid grant: account not found");
  file = gcp_.ServiceAccountFile();
  file["token_uri"] = "http://oauth2.example/token";
  expect(file, Code::kFailedPrecondition, "its token_uri has to be https://");
  for (const std::string pem : {"", "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"}) {
    file = gcp_.ServiceAccountFile();
    file["private_key"] = pem;
    expect(file, Code::kFailedPrecondition, "no RSA key of 2,048 bits or more");
  }
  for (const char* missing : {"client_email", "token_uri", "private_key"}) {
    file = gcp_.ServiceAccountFile();
    file.erase(missing);
    expect(file, Code::kFailedPrecondition, "has no client_email, token_uri or private_key");
  }
  expect({{"type", "authorized_user"}}, Code::kFailedPrecondition,
         "its type is \"authorized_user\", and has to be service_account or external_account");
  expect(nlohmann::json::array(), Code::kFailedPrecondition, "it is no JSON object");
  std::filesystem::remove(options.credentialsFile);
  Expect(Unwrap(root, made), Code::kFailedPrecondition, "No such file");
  ByFile(gcp_.ServiceAccountFile());
  EXPECT_TRUE(Unwrap(root, made).ok()) << "the file is read anew";
  Answer(
      FakeGcp::TokenError(400, "invalid_grant",
                          "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."),
      /*isToken=*/true);
  gcp_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kUnavailable, "is this node's clock right?");
}

TEST_F(GcpRootKeyTest, AKeyOfAnotherServiceAccountIsRefused) {
  nlohmann::json file = gcp_.ServiceAccountFile();
  EVP_PKEY* const other = EVP_RSA_gen(2048);
  BIO* const bio = BIO_new(BIO_s_mem());
  ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(bio, other, nullptr, nullptr, 0, nullptr, nullptr), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  file["private_key"] = std::string(data, static_cast<size_t>(size));
  BIO_free(bio);
  EVP_PKEY_free(other);
  GcpRootKey root(ByFile(file));
  Expect(root.Check(Soon()), Code::kPermissionDenied, "invalid_grant: Invalid JWT Signature.");
}

TEST_F(GcpRootKeyTest, AFederatedWorkloadExchangesItsToken) {
  GcpRootKey root(ByFile(External(/*impersonates=*/false)));
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(gcp_.Count("sts"), 1);
  EXPECT_EQ(gcp_.Count("impersonate"), 0);
  gcp_.SetFederatedToken("ey.federated.next");
  gcp_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kPermissionDenied,
         "Google's Security Token Service answers with HTTP 400 invalid_grant");
  WriteFile(folder_ + "/token", "ey.federated.next");
  EXPECT_TRUE(Unwrap(root, made).ok()) << "a token that was projected anew is read";
  nlohmann::json file = External(false);
  file["audience"] = "//iam.googleapis.com/elsewhere";
  GcpRootKey elsewhere(ByFile(file));
  Expect(elsewhere.Check(Soon()), Code::kFailedPrecondition, "invalid_target");
  for (const auto& [name, value, text] :
       {std::tuple<const char*, nlohmann::json, const char*>("credential_source", {{"url", "http://169.254.169.254/"}},
                                                             "has no audience"),
        {"credential_source", {{"file", "/t"}, {"format", {{"type", "json"}}}}, "has to be text"},
        {"token_url", "http://sts.example", "its token_url has to be https://"},
        {"token_url", "http://169.254.170.2/sts", "its token_url has to be https://"},
        {"token_url", "http://[fd00:ec2::254]/sts", "its token_url has to be https://"},
        {"token_url", "http://localhost.example/sts", "its token_url has to be https://"},
        {"service_account_impersonation_url", "http://iam.example",
         "its service_account_impersonation_url has to be"}}) {
    file = External(false);
    file[name] = value;
    GcpRootKey wrong(ByFile(file));
    Expect(wrong.Check(Soon()), Code::kFailedPrecondition, text);
  }
}

TEST_F(GcpRootKeyTest, AnIssuerThatGoogleDoesNotReachRefusesNothing) {
  GcpRootKey root(ByFile(External(/*impersonates=*/false)));
  Answer(FakeGcp::TokenError(400, "invalid_grant", "Error connecting to the given credential's issuer."),
         /*isToken=*/true);
  Expect(root.Check(Soon()), Code::kUnavailable, "invalid_grant: Error connecting to");
}

TEST_F(GcpRootKeyTest, AFederatedWorkloadMayActAsAServiceAccount) {
  GcpRootKey root(ByFile(External(/*impersonates=*/true)));
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(gcp_.Count("sts"), 1);
  EXPECT_EQ(gcp_.Count("impersonate"), 1);
  gcp_.Deny({"impersonate"});
  gcp_.RevokeTokens();
  Expect(Unwrap(root, made), Code::kPermissionDenied,
         "Google's IAM Credentials answers with HTTP 403 PERMISSION_DENIED");
  gcp_.Deny({});
  EXPECT_TRUE(Unwrap(root, made).ok());
  for (const std::string body : {"{}", R"({"accessToken":"t"})", R"({"accessToken":"t","expireTime":"soon"})"}) {
    gcp_.SetFault([body](const FakeGcp::Request& request) -> std::optional<FakeGcp::Response> {
      if (request.path != FakeGcp::ImpersonationPath()) return std::nullopt;
      return FakeGcp::Response{200, body};
    });
    gcp_.RevokeTokens();
    Expect(Unwrap(root, made), Code::kUnavailable, "answers with what is no token");
  }
}

TEST_F(GcpRootKeyTest, ATokenThatHasEndedIsNotSent) {
  gcp_.SetLifetime(absl::Seconds(1));
  GcpRootKey root(Options());
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  gcp_.SetLifetime(absl::Hours(1));
  std::this_thread::sleep_for(milliseconds(1'100));
  Answer(FakeGcp::Response{503, ""}, /*isToken=*/true);
  Expect(root.Check(Soon()), Code::kUnavailable, "Google's metadata server answers with HTTP 503");
  EXPECT_EQ(gcp_.Count("get"), 1) << "not with the one that has ended";
  gcp_.SetFault(nullptr);
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_EQ(gcp_.Count("expired"), 0);
}

TEST_F(GcpRootKeyTest, ThrottlingIsWaitedOutWithPauses) {
  RemoteRootKey root(std::make_unique<GcpRootKey>(Options()),
                     {.provider = "gcpKms", .firstPause = milliseconds(20), .longestPause = milliseconds(50)});
  const RootKey::DataKey made = Generate(root);
  std::atomic<int> calls{0};
  gcp_.SetFault([&](const FakeGcp::Request&) -> std::optional<FakeGcp::Response> {
    if (++calls % 3 != 0) return std::nullopt;
    return FakeGcp::Error(429, "RESOURCE_EXHAUSTED");
  });
  const std::vector<RootKey::WrappedKey> keys(20, {made.wrapped, AsBytes("epoch 1")});
  for (const auto& answer : root.Unwrap(keys, Soon())) EXPECT_TRUE(answer.ok()) << answer.status();
}

}  // namespace
}  // namespace kveil::keys
