// A root key at AWS KMS: what it asks for, and what it makes of everything that goes wrong.
#include "keys/root/aws_root_key.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "absl/strings/str_join.h"
#include "fake_aws.h"
#include "key_fixture.h"
#include "keys/root/aws_messages.h"
#include "keys/root/remote_root_key.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Code = absl::StatusCode;

class AwsRootKeyTest : public KeyTest {
 protected:
  AwsRootKeyTest() : id_(aws_.MakeKey()) {
    aws_.AddIdentity("AKIAUSER", {.secret = "the-secret", .token = ""});
    aws_.SetAlias("alias/kveil", id_);
  }
  ~AwsRootKeyTest() override { EXPECT_THAT(aws_.complaints(), IsEmpty()); }

  static RootKey::Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }
  static RootKey::Deadline Soon() { return In(seconds(10)); }

  AwsOptions Options(const std::string& key) const {
    return aws_.Options(key, {{"AWS_ACCESS_KEY_ID", "AKIAUSER"}, {"AWS_SECRET_ACCESS_KEY", "the-secret"}});
  }
  AwsOptions ById() const { return Options(id_); }
  // By the role of an instance, whose credentials can be had anew.
  AwsOptions ByRole() {
    aws_.SetInstanceRole("kveil");
    AwsOptions options = aws_.Options(id_, {{"HOME", folder_}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT", aws_.address()}});
    options.leastAge = seconds(60);
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
                AllOf(HasSubstr(text), HasSubstr("AWS KMS key"), Not(HasSubstr("the-secret"))));
  }
  // What all three calls make of what the server does now.
  void ExpectAll(RootKey& root, const RootKey::DataKey& made, Code code, const std::string& text,
                 milliseconds patience = seconds(10)) {
    Expect(Unwrap(root, made, "epoch 1", In(patience)), code, text);
    Expect(root.GenerateDataKey(AsBytes("epoch 1"), In(patience)).status(), code, text);
    Expect(root.Check(In(patience)), code, text);
  }
  void Answer(FakeAws::Response response) {
    aws_.SetFault([response](const FakeAws::Request&) { return response; });
  }
  void Answer(int status, const std::string& type, const std::string& message = "") {
    Answer(FakeAws::Error(status, type, message));
  }

  FakeAws aws_;
  const std::string id_;
};

TEST_F(AwsRootKeyTest, AWrappedKeyBeginsWithTheProviderAndTheKeysArn) {
  for (const std::string& name :
       {id_, FakeAws::ArnOf("key/" + id_), std::string("alias/kveil"), FakeAws::ArnOf("alias/kveil")}) {
    AwsRootKey root(Options(name));
    const RootKey::DataKey made = Generate(root);
    const std::string header = StrCat(std::string("awsKms\0", 7), FakeAws::ArnOf("key/" + id_), std::string(1, '\0'));
    EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
    EXPECT_TRUE(Unwrap(root, made).ok());
    EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  }
}

TEST_F(AwsRootKeyTest, TheContextIsBoundByAws) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  const int before = aws_.Count("Decrypt");
  Expect(Unwrap(root, made, "epoch 2"), Code::kDataLoss, "InvalidCiphertextException");
  EXPECT_EQ(aws_.Count("Decrypt"), before + 1);
  EXPECT_TRUE(Unwrap(root, Generate(root, ""), "").ok());
}

TEST_F(AwsRootKeyTest, WhatAnotherKeyWrappedIsRefusedWithoutARequest) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  for (const std::string& name : {aws_.MakeKey(), FakeAws::ArnOf("key/" + aws_.MakeKey()),
                                  StrCat("arn:aws:kms:eu-central-1:444455556666:key/", id_),
                                  StrCat("arn:aws-cn:kms:eu-central-1:111122223333:key/", id_)}) {
    AwsRootKey another(Options(name));
    Expect(Unwrap(another, made), Code::kDataLoss, "wrapped by another one");
  }
  AwsOptions elsewhere = ById();
  elsewhere.region = "eu-west-1";
  AwsRootKey there(elsewhere);
  Expect(Unwrap(there, made), Code::kDataLoss, "wrapped by another one");
  RootKey::DataKey foreign = Generate(root);
  for (const std::string& header :
       {std::string("vault\0transit/kveil\0", 20), std::string("awsKms\0", 7), std::string()}) {
    foreign.wrapped.clear();
    Append(foreign.wrapped, AsBytes(header));
    Expect(Unwrap(root, foreign), Code::kDataLoss, "another provider, or is damaged");
  }
  EXPECT_EQ(aws_.Count("Decrypt"), 0);
}

TEST_F(AwsRootKeyTest, AnAliasThatWasMovedStillOpensWhatItsOldKeyWrapped) {
  AwsRootKey root(Options("alias/kveil"));
  const RootKey::DataKey old = Generate(root);
  const std::string next = aws_.MakeKey();
  aws_.SetAlias("alias/kveil", next);
  const RootKey::DataKey made = Generate(root);
  EXPECT_THAT(std::string(AsText(made.wrapped)), HasSubstr(next));
  EXPECT_TRUE(Unwrap(root, old).ok());
  EXPECT_TRUE(Unwrap(root, made).ok());
  AwsRootKey restarted(Options("alias/kveil"));
  EXPECT_TRUE(Unwrap(restarted, old).ok()) << Unwrap(restarted, old);
  aws_.DeleteKey(id_);
  Expect(Unwrap(root, old), Code::kFailedPrecondition, "it was deleted");
  EXPECT_TRUE(Unwrap(root, made).ok());
}

// Whoever can write the registry must not be able to choose the keys in it.
TEST_F(AwsRootKeyTest, AKeyOfAnotherAccountIsNoneOfAnAlias) {
  const std::string theirs = StrCat("arn:aws:kms:eu-central-1:444455556666:key/", id_);
  const std::string key = FakeAws::Base64(crypto::SecretKey::Random().bytes());
  Answer(FakeAws::Response::Of({{"CiphertextBlob", "QUJD"}, {"KeyId", theirs}, {"Plaintext", key}}));
  AwsRootKey other(Options("alias/kveil"));
  const RootKey::DataKey made = Generate(other);
  aws_.SetFault(nullptr);
  for (const std::string& name : {FakeAws::ArnOf("alias/kveil"), std::string("alias/kveil")}) {
    AwsRootKey root(Options(name));
    Expect(Unwrap(root, made), Code::kDataLoss, "wrapped by another one, " + theirs);
  }
  EXPECT_EQ(aws_.Count("Decrypt"), 0);
}

// Two accounts may have the same alias, and other credentials may come while the agent runs.
TEST_F(AwsRootKeyTest, AnAliasIsThatOfTheFirstAccount) {
  const std::string theirs = StrCat("arn:aws:kms:eu-central-1:444455556666:key/", id_);
  const std::string key = FakeAws::Base64(crypto::SecretKey::Random().bytes());
  for (const std::string& name : {std::string("alias/kveil"), id_}) {
    AwsRootKey root(Options(name));
    const RootKey::DataKey made = Generate(root);
    Answer(FakeAws::Response::Of({{"CiphertextBlob", "QUJD"}, {"KeyId", theirs}, {"Plaintext", key}}));
    const auto moved = root.GenerateDataKey(AsBytes("epoch 1"), Soon());
    Expect(moved.status(), Code::kFailedPrecondition, "another account now: the key is " + theirs);
    Answer(FakeAws::Response::Of({{"KeyMetadata",
                                   {{"Arn", theirs},
                                    {"KeyState", "Enabled"},
                                    {"KeyUsage", "ENCRYPT_DECRYPT"},
                                    {"KeySpec", "SYMMETRIC_DEFAULT"},
                                    {"Enabled", true}}}}));
    Expect(root.Check(Soon()), Code::kFailedPrecondition, "another account now");
    aws_.SetFault(nullptr);
    EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
    EXPECT_TRUE(Unwrap(root, made).ok());
  }
}

TEST_F(AwsRootKeyTest, ManyKeysAreUnwrappedSeveralAtATime) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  const std::vector<RootKey::WrappedKey> keys(40, {made.wrapped, AsBytes("epoch 1")});
  aws_.SetDelay(milliseconds(50));
  const auto begun = std::chrono::steady_clock::now();
  const auto answers = root.Unwrap(keys, Soon());
  const auto took = std::chrono::steady_clock::now() - begun;
  for (const auto& answer : answers) EXPECT_TRUE(answer.ok()) << answer.status();
  EXPECT_LT(took, milliseconds(1500)) << "40 times 50 ms: one after the other";
  EXPECT_GE(took, milliseconds(300)) << "more than 8 at once";
  EXPECT_EQ(root.Unwrap({}, Soon()).size(), 0u);
}

TEST_F(AwsRootKeyTest, AMultiRegionKeyIsTheSameInEveryRegion) {
  const std::string id = aws_.MakeKey(/*isMultiRegion=*/true);
  AwsRootKey root(Options(FakeAws::ArnOf("key/" + id)));
  const RootKey::DataKey made = Generate(root);
  const AwsKeyName there(FakeAws::ArnOf("key/" + id, "us-east-1"), "us-east-1");
  const AwsKeyName byId(id, "us-east-1"), alias("alias/kveil", "us-east-1");
  const std::optional<AwsArn> here = AwsArn::Parse(FakeAws::ArnOf("key/" + id));
  ASSERT_TRUE(here.has_value());
  EXPECT_TRUE(there.Covers(*here, std::nullopt));
  EXPECT_TRUE(byId.Covers(*here, std::nullopt));
  EXPECT_FALSE(alias.Covers(*here, std::nullopt));
  EXPECT_TRUE(alias.Covers(*here, AwsArn::Parse(FakeAws::ArnOf("key/" + id, "us-east-1"))));
  EXPECT_EQ(there.ForDecrypt(*here), FakeAws::ArnOf("key/" + id, "us-east-1"));
  EXPECT_EQ(alias.ForDecrypt(*here), FakeAws::ArnOf("key/" + id, "us-east-1"));
  const std::optional<AwsArn> single = AwsArn::Parse(FakeAws::ArnOf("key/" + id_));
  EXPECT_FALSE(AwsKeyName(id_, "us-east-1").Covers(*single, std::nullopt));
  EXPECT_FALSE(alias.Covers(*single, AwsArn::Parse(FakeAws::ArnOf("key/" + id, "us-east-1"))));
}

TEST_F(AwsRootKeyTest, AKeyThatCannotBeUsedNeedsTheOperatorAndIsNeverTakenForDamage) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  const std::pair<const char*, const char*> states[] = {{"Disabled", "disabled"},
                                                        {"PendingDeletion", "about to be deleted"},
                                                        {"PendingReplicaDeletion", "about to be deleted"},
                                                        {"PendingImport", "has no key material"},
                                                        {"Unavailable", "state"},
                                                        {"Strange", "state"}};
  for (const auto& [state, text] : states) {
    aws_.SetState(id_, state, {{"DeletionDate", 1'796'000'000.5}});
    Expect(Unwrap(root, made), Code::kFailedPrecondition, "");
    Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kFailedPrecondition, "");
    Expect(root.Check(Soon()), Code::kFailedPrecondition, state == std::string("Unavailable") ? "key store" : text);
  }
  aws_.SetState(id_, "PendingDeletion", {{"DeletionDate", 1'796'000'000.5}});
  Expect(root.Check(Soon()), Code::kFailedPrecondition, "on 2026-11-30 at");
  Expect(Unwrap(root, made), Code::kFailedPrecondition, "KMSInvalidStateException");
  aws_.SetState(id_, "Creating");
  Expect(root.Check(Soon()), Code::kUnavailable, "Creating");
  for (const nlohmann::json& fields :
       {nlohmann::json{{"KeyUsage", "SIGN_VERIFY"}}, nlohmann::json{{"KeySpec", "RSA_2048"}}}) {
    aws_.SetState(id_, "Enabled", fields);
    Expect(root.Check(Soon()), Code::kFailedPrecondition, "has to be one for ENCRYPT_DECRYPT");
  }
  aws_.SetState(id_, "Enabled");
  EXPECT_TRUE(Unwrap(root, made).ok());
  aws_.DeleteKey(id_);
  ExpectAll(root, made, Code::kFailedPrecondition, "deleted, never made, or is in another region");
}

// None of these may send the operator to a backup or to a policy.
TEST_F(AwsRootKeyTest, AnOutageIsUnavailable) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  for (const char* type : {"ThrottlingException", "Throttling", "LimitExceededException", "RequestLimitExceeded",
                           "com.amazonaws.kms#ThrottlingException", "NobodyKnowsThis"}) {
    Answer(400, type, "Rate exceeded");
    ExpectAll(root, made, Code::kUnavailable, "Rate exceeded");
  }
  for (const char* type : {"KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException",
                           "AccessDeniedException", "InvalidCiphertextException", "ServiceUnavailable"}) {
    Answer(500, type);
    ExpectAll(root, made, Code::kUnavailable, StrCat("HTTP 500 ", type));
  }
  // Of a proxy in between: what it says is no word of AWS about a key or about rights.
  for (const int foreign : {400, 401, 403, 404, 407, 429, 451}) {
    for (const std::string body : {"<html>Blocked by the company's gateway</html>", R"({"message":"no route"})", "[]",
                                   "", R"({"__type":3})", "<Error><Code>AccessDenied</Code></Error>"}) {
      Answer(FakeAws::Response{foreign, body});
      ExpectAll(root, made, Code::kUnavailable, "and not as AWS does");
    }
  }
  for (const int status : {502, 503, 504}) {
    Answer(FakeAws::Response{status, "Bad gateway"});
    ExpectAll(root, made, Code::kUnavailable, std::to_string(status));
  }
  Answer(FakeAws::Response{307, ""});
  ExpectAll(root, made, Code::kUnavailable, "307");
  aws_.SetFault(nullptr);
  aws_.SetSilent(true);
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(300));
  aws_.SetSilent(false);
  aws_.SetDelay(seconds(5));
  ExpectAll(root, made, Code::kUnavailable, "", milliseconds(300));
  aws_.SetDelay(milliseconds(0));
  aws_.Stop();
  ExpectAll(root, made, Code::kUnavailable, "");
  aws_.Start();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "restarted in between";
}

TEST_F(AwsRootKeyTest, AClockThatIsWrongIsNamedAndPassesByItself) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  for (const auto& [type, message] :
       {std::pair("InvalidSignatureException", "Signature expired: 20261129T000000Z is now earlier than 20261129T1"),
        std::pair("InvalidSignatureException", "Signature not yet current: 20261129T000000Z"),
        std::pair("RequestTimeTooSkewed", ""), std::pair("RequestExpired", "")}) {
    Answer(400, type, message);
    ExpectAll(root, made, Code::kUnavailable, "is this node's clock right?");
  }
}

TEST_F(AwsRootKeyTest, AResponseThatMakesNoSenseIsUnavailable) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  const std::string arn = FakeAws::ArnOf("key/" + id_);
  const std::string key = FakeAws::Base64(crypto::SecretKey::Random().bytes());
  const auto object = [&](const std::string& plaintext, const std::string& blob, const std::string& name) {
    return nlohmann::json{
        {"Plaintext", plaintext}, {"CiphertextBlob", blob}, {"KeyId", name}, {"KeyMetadata", {{"Arn", name}}}}
        .dump();
  };
  for (const std::string& body :
       {std::string(), std::string("<html>"), std::string("{"), std::string("[]"), std::string("{}"),
        std::string(R"({"Plaintext":null,"KeyMetadata":null})"), std::string(R"({"KeyMetadata":{}})"),
        object("QUJD", "QUJD", "no arn"), object(key, "QUJD", "arn:aws:kms:eu-central-1:111122223333:alias/kveil"),
        object("!", "QUJD", "arn:aws:kms::1:key/x"), object(key, "QUJD", FakeAws::ArnOf("key/other")),
        object("QUJD", "", FakeAws::ArnOf("key/other")), std::string(size_t{2} << 20, ' ')}) {
    Answer(FakeAws::Response{200, body});
    ExpectAll(root, made, Code::kUnavailable, "");
  }
  Answer(FakeAws::Response{200, object(key, "", arn)});
  Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, "no ciphertext");
  Answer(FakeAws::Response{200, object(key, std::string(12'000, 'A'), arn)});
  Expect(root.GenerateDataKey(AsBytes("c"), Soon()).status(), Code::kUnavailable, "too long");
  // JSON may escape a slash.
  std::string escaped = "8///////////////////////////////////////////";
  escaped.back() = '8';
  std::string text = object(escaped.substr(0, 43) + "=", "QUJD", arn);
  for (size_t at = 0; (at = text.find('/', at)) != std::string::npos; at += 2) text.insert(at, "\\");
  Answer(FakeAws::Response{200, text});
  EXPECT_TRUE(root.GenerateDataKey(AsBytes("c"), Soon()).ok());
}

// AWS does not promise an order.
TEST(AwsMessagesTest, MembersMayComeInAnyOrder) {
  const auto inEveryOrder = [](std::vector<std::string> members, const auto& parse) {
    std::sort(members.begin(), members.end());
    do {
      const std::string body = absl::StrJoin(members, ",");
      EXPECT_TRUE(parse(body).ok()) << body << " " << parse(body);
    } while (std::next_permutation(members.begin(), members.end()));
  };
  const std::string arn = StrCat("\"", FakeAws::ArnOf("key/1"), "\"");
  const std::string plain = StrCat(R"("Plaintext":")", FakeAws::Base64(crypto::SecretKey::Random().bytes()), "\"");
  inEveryOrder({plain, R"("CiphertextBlob":"QUJD")", R"("KeyId":)" + arn, R"("A":[{"KeyId":1}])", R"("Z":null)"},
               [](const std::string& body) {
                 const crypto::SecretText text = crypto::MakeSecretText(StrCat("{", body, "}"));
                 return aws::ParseDecrypt(text).ok() ? aws::ParseDataKey(text).status() : absl::InternalError("");
               });
  inEveryOrder({R"("Arn":)" + arn, R"("KeyState":"Enabled")", R"("KeyUsage":"ENCRYPT_DECRYPT")",
                R"("KeySpec":"SYMMETRIC_DEFAULT")", R"("A":["KeyState"])", R"("DeletionDate":null)"},
               [](const std::string& body) {
                 const std::string all = StrCat(R"({"KeyMetadata":{)", body, "}}");
                 return aws::ParseDescription(crypto::MakeSecretText(all)).status();
               });
}

TEST_F(AwsRootKeyTest, CredentialsThatAreRefusedAreReplacedOnceThenItIsARefusal) {
  AwsRootKey root(ByRole());
  const RootKey::DataKey made = Generate(root);
  EXPECT_EQ(aws_.Count("instance token"), 1);
  aws_.RevokeSessions();
  EXPECT_TRUE(Unwrap(root, made).ok()) << "those that were forgotten are replaced";
  EXPECT_EQ(aws_.Count("instance token"), 2);
  aws_.SetLifetime(absl::Milliseconds(300));
  aws_.RevokeSessions();
  EXPECT_TRUE(Unwrap(root, made).ok());
  usleep(400'000);
  aws_.SetLifetime(absl::Hours(1));
  EXPECT_TRUE(Unwrap(root, made).ok()) << "and those that have ended";
  aws_.Deny("ASIA4", {"Decrypt", "GenerateDataKey", "DescribeKey"});
  EXPECT_TRUE(Unwrap(root, made).ok()) << "a session that was revoked by a policy";

  aws_.SetGivesStale(true);
  aws_.RevokeSessions();
  const int before = aws_.Count("instance token");
  Expect(Unwrap(root, made), Code::kPermissionDenied, "UnrecognizedClientException");
  EXPECT_EQ(aws_.Count("instance token"), before + 1);
  EXPECT_EQ(aws_.Count("Decrypt"), 10) << "two each time";
  aws_.SetGivesStale(false);
  EXPECT_TRUE(Unwrap(root, made).ok());
  // When the source itself is out, nothing was refused.
  aws_.RevokeSessions();
  aws_.SetFault([](const FakeAws::Request& request) -> std::optional<FakeAws::Response> {
    if (request.path != "/latest/api/token") return std::nullopt;
    return FakeAws::Response{503, ""};
  });
  Expect(Unwrap(root, made), Code::kUnavailable, "the instance metadata service answers with HTTP 503");
}

TEST_F(AwsRootKeyTest, APolicyThatDeniesIsARefusalAlsoWhileOtherCredentialsAreNotToBeHad) {
  AwsRootKey root(ByRole());
  const RootKey::DataKey made = Generate(root);
  aws_.Deny("ASIA1", {"Decrypt", "GenerateDataKey", "DescribeKey"});
  aws_.SetFault([](const FakeAws::Request& request) -> std::optional<FakeAws::Response> {
    if (request.path != "/latest/api/token") return std::nullopt;
    return FakeAws::Response{503, ""};
  });
  Expect(Unwrap(root, made), Code::kPermissionDenied, "AccessDenied");
}

TEST_F(AwsRootKeyTest, ARefusalNeedsTheOperatorAndDoesNotAskForCredentialsAllTheTime) {
  AwsOptions options = ByRole();
  options.replacePause = seconds(3600);
  AwsRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  aws_.Deny("ASIA1", {"Decrypt"});
  for (int i = 0; i < 10; ++i) {
    Expect(Unwrap(root, made), Code::kPermissionDenied,
           "Decrypt answers with HTTP 400 AccessDeniedException: User is not authorized to perform: kms:Decrypt");
  }
  EXPECT_EQ(aws_.Count("instance token"), 1);
  aws_.Deny("ASIA1", {});
  EXPECT_TRUE(Unwrap(root, made).ok());

  AwsOptions wrong = ById();
  wrong.environment = [](const char* name) -> const char* {
    if (name == std::string("AWS_ACCESS_KEY_ID")) return "AKIAUSER";
    return name == std::string("AWS_SECRET_ACCESS_KEY") ? "the-secret-of-another" : nullptr;
  };
  AwsRootKey unsigned_(wrong);
  ExpectAll(unsigned_, made, Code::kPermissionDenied, "InvalidSignatureException");
}

TEST_F(AwsRootKeyTest, ARefusalOfOneKeyIsNotAskedForAgainForEachOfTheOthers) {
  AwsRootKey root(ById());
  const RootKey::DataKey made = Generate(root);
  RootKey::DataKey damaged = Generate(root);
  damaged.wrapped.back() ^= 1;
  std::vector<RootKey::WrappedKey> keys(20, {made.wrapped, AsBytes("epoch 1")});
  keys[3] = {damaged.wrapped, AsBytes("epoch 1")};
  auto answers = root.Unwrap(keys, Soon());
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(answers[i].status().code(), i == 3 ? Code::kDataLoss : Code::kOk) << answers[i].status();
  }
  EXPECT_EQ(aws_.Count("Decrypt"), 19);
  for (const char* type : {"ThrottlingException", "AccessDeniedException"}) {
    Answer(400, type);
    const int before = aws_.Count("Decrypt");
    answers = root.Unwrap(keys, Soon());
    for (const auto& answer : answers) EXPECT_THAT(std::string(answer.status().message()), HasSubstr(type));
    EXPECT_EQ(aws_.Count("Decrypt"), before + 1);
  }
}

// Those that were answered are not asked for again.
TEST_F(AwsRootKeyTest, ThrottlingIsWaitedOutWithPauses) {
  RemoteRootKey root(std::make_unique<AwsRootKey>(ById()),
                     {.provider = "awsKms", .firstPause = milliseconds(20), .longestPause = milliseconds(50)});
  const RootKey::DataKey made = Generate(root);
  int calls = 0;
  aws_.SetFault([&](const FakeAws::Request&) -> std::optional<FakeAws::Response> {
    if (++calls % 3 != 0) return std::nullopt;
    return FakeAws::Error(400, "ThrottlingException", "Rate exceeded");
  });
  const std::vector<RootKey::WrappedKey> keys(20, {made.wrapped, AsBytes("epoch 1")});
  for (const auto& answer : root.Unwrap(keys, Soon())) EXPECT_TRUE(answer.ok()) << answer.status();
  aws_.SetFault(nullptr);
  EXPECT_EQ(calls, 29) << "20 answers, and 9 refusals";
}

TEST_F(AwsRootKeyTest, AnswersOnlyAServerWithACertificateThatItTrusts) {
  io::TestAuthority mine("authority"), other("another authority");
  FakeAws server(mine.Issue("kms", "IP:127.0.0.1,DNS:localhost"));
  server.AddIdentity("AKIAUSER", {.secret = "the-secret", .token = ""});
  AwsOptions options =
      server.Options(server.MakeKey(), {{"AWS_ACCESS_KEY_ID", "AKIAUSER"}, {"AWS_SECRET_ACCESS_KEY", "the-secret"}});
  options.ca = mine.path();
  AwsRootKey root(options);
  const RootKey::DataKey made = Generate(root);
  EXPECT_TRUE(Unwrap(root, made).ok());
  EXPECT_THAT(server.complaints(), IsEmpty());
  options.ca = other.path();
  AwsRootKey untrusting(options);
  ExpectAll(untrusting, made, Code::kUnavailable, "certificate");
  options.ca = folder_ + "/missing.pem";
  AwsRootKey without(options);
  ExpectAll(without, made, Code::kFailedPrecondition, "missing.pem");
}

}  // namespace
}  // namespace kveil::keys
