// A root key in a PKCS#11 token: SoftHSM2's, which answers to damage and to much else in its own way.
#include "keys/root/pkcs11_root_key.h"

#include <gmock/gmock.h>

#include "key_fixture.h"
#include "soft_token.h"

namespace kveil::keys {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using Code = absl::StatusCode;
using Mechanism = Pkcs11Options::Mechanism;

class Pkcs11RootKeyTest : public KeyTest, public testing::WithParamInterface<Mechanism> {
 protected:
  Pkcs11RootKeyTest() {
    static int keys = 0;
    key_ = "kveil " + std::to_string(++keys);
    token_.MakeKey(key_);
    WriteFile(pinFile(), "4321\n");
  }

  std::string pinFile() const { return folder_ + "/pin"; }
  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }
  Pkcs11Options Options() const {
    return {.module = SoftToken::kModule,
            .token = SoftToken::kLabel,
            .key = key_,
            .pinFile = pinFile(),
            .mechanism = GetParam()};
  }
  static RootKey::DataKey Generate(RootKey& root) {
    auto made = root.GenerateDataKey(AsBytes("epoch 1"), Soon());
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : RootKey::DataKey();
  }
  static absl::Status Unwrap(RootKey& root, const RootKey::DataKey& made, std::string_view context = "epoch 1") {
    const RootKey::WrappedKey keys[] = {{made.wrapped, AsBytes(context)}};
    auto unwrapped = root.Unwrap(keys, Soon());
    EXPECT_TRUE(!unwrapped.at(0).ok() || unwrapped.at(0)->Equals(made.key));
    return unwrapped.at(0).status();
  }
  static void ExpectAll(RootKey& root, const RootKey::DataKey& made, Code code, const std::string& text) {
    for (const absl::Status& status :
         {Unwrap(root, made), root.GenerateDataKey(AsBytes("c"), Soon()).status(), root.Check(Soon())}) {
      EXPECT_EQ(status.code(), code) << status;
      EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(text), HasSubstr("PKCS#11"), Not(HasSubstr("4321"))));
    }
  }

  SoftToken& token_ = SoftToken::Get();
  std::string key_;
};

TEST_P(Pkcs11RootKeyTest, AWrappedKeyBeginsWithTheProviderTheTokenTheKeyAndTheMechanism) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  const bool isGcm = GetParam() == Mechanism::kAesGcm;
  const std::string header = std::string("pkcs11\0kveil test\0", 18) + key_ + '\0' + (isGcm ? '\1' : '\2');
  EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
  EXPECT_EQ(made.wrapped.size(), header.size() + 16 + (isGcm ? 60 : 40));
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
}

TEST_P(Pkcs11RootKeyTest, SessionsThatWereLostAreOpenedAnew) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (int i = 0; i < 3; ++i) {
    token_.CloseAllSessions();
    EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
    token_.CloseAllSessions();
    EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
    token_.CloseAllSessions();
    Generate(root);
  }
}

TEST_P(Pkcs11RootKeyTest, AKeyThatIsMissingOrUnfitNeedsTheOperatorAndIsNeverTakenForDamage) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  token_.MakeKey(key_);
  ExpectAll(root, made, Code::kFailedPrecondition, "several AES keys have this label");
  token_.DeleteKey(key_);
  token_.DeleteKey(key_);
  ExpectAll(root, made, Code::kFailedPrecondition, "there is no such AES key");
  token_.MakeKey(key_);
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss) << "another key of the same label";
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  if (GetParam() != Mechanism::kAesGcm) return;
  token_.DeleteKey(key_);
  token_.MakeKey(key_, CKA_DECRYPT);
  EXPECT_EQ(root.Check(Soon()).code(), Code::kFailedPrecondition) << root.Check(Soon());
  EXPECT_EQ(Unwrap(root, made).code(), Code::kFailedPrecondition) << Unwrap(root, made);
}

TEST_P(Pkcs11RootKeyTest, AnErrorThatPassesIsNotTakenForDamage) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  token_.FailOnce();
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  RootKey::DataKey damaged{made.key.Copy(), made.wrapped};
  damaged.wrapped.back() ^= 1;
  EXPECT_EQ(Unwrap(root, damaged).code(), Code::kDataLoss);
}

TEST_P(Pkcs11RootKeyTest, AKeyThatCanBeReadOutOfTheTokenIsRefused) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  for (const ck_attribute_type_t wrong : {CKA_PRIVATE, CKA_SENSITIVE, CKA_EXTRACTABLE}) {
    token_.DeleteKey(key_);
    token_.MakeKey(key_, wrong);
    ExpectAll(root, made, Code::kFailedPrecondition, "can be read out of the token");
  }
}

TEST_P(Pkcs11RootKeyTest, ARefusedPinIsNotTriedAgainUntilItChanges) {
  token_.CloseAllSessions();
  for (const std::string& pin : {std::string("1234"), std::string("1"), std::string(300, '1')}) {
    WriteFile(pinFile(), pin);
    Pkcs11RootKey root(Options());
    const absl::Status refused = root.Check(Soon());
    EXPECT_EQ(refused.code(), Code::kPermissionDenied) << refused;
    EXPECT_THAT(std::string(refused.message()), HasSubstr("is refused: CKR_PIN_"));
    EXPECT_THAT(std::string(root.Check(Soon()).message()), HasSubstr("was refused; it is not tried again"));
    WriteFile(pinFile(), SoftToken::kPin);
    EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
    token_.CloseAllSessions();
  }
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  token_.CloseAllSessions();
  unlink(pinFile().c_str());
  ExpectAll(root, made, Code::kFailedPrecondition, "No such file");
}

// An agent that ended would be started again at once, and the token would be locked in a few seconds.
TEST_P(Pkcs11RootKeyTest, AtTheStartARefusedPinIsTriedOnceAndItsChangeIsWaitedFor) {
  token_.CloseAllSessions();
  WriteFile(pinFile(), "1234");
  KeyServiceOptions options = KeyTest::Options();
  options.root = {.pkcs11 = Options()};
  options.rootKeyPatience = std::chrono::milliseconds(0);
  std::vector<std::string> reasons;
  options.mayWait = [&](const absl::Status& reason) {
    if (reasons.empty() || reasons.back() != reason.message()) reasons.emplace_back(reason.message());
    if (reasons.size() == 2) WriteFile(pinFile(), SoftToken::kPin);
    return true;
  };
  const auto service = KeyService::Open(std::move(options));
  EXPECT_TRUE(service.ok()) << service.status();
  ASSERT_EQ(reasons.size(), 2u);
  EXPECT_THAT(reasons[0], HasSubstr("is refused: CKR_PIN_INCORRECT"));
  EXPECT_THAT(reasons[1], HasSubstr("was refused; it is not tried again"));
}

TEST_P(Pkcs11RootKeyTest, AtTheStartOfAnAgentThatHasNeverRunARefusedPinIsNotWaitedFor) {
  token_.CloseAllSessions();
  WriteFile(pinFile(), "1234");
  KeyServiceOptions options = KeyTest::Options();
  options.root = {.pkcs11 = Options()};
  options.waitsForPin = false;
  options.mayWait = [](const absl::Status& reason) {
    ADD_FAILURE() << "it waits: " << reason;
    return false;
  };
  EXPECT_EQ(KeyService::Open(std::move(options)).status().code(), Code::kPermissionDenied);
}

TEST_P(Pkcs11RootKeyTest, APinIsNotTriedWhenTheTokenSaysThatWrongOnesWere) {
  Pkcs11RootKey known(Options());
  EXPECT_TRUE(known.Check(Soon()).ok());
  token_.CloseAllSessions();
  token_.TryPin("1111");
  EXPECT_TRUE(known.Check(Soon()).ok()) << "one that was accepted before: " << known.Check(Soon());
  token_.CloseAllSessions();
  token_.TryPin("1111");
  WriteFile(pinFile(), "2222");
  Pkcs11RootKey root(Options());
  for (int i = 0; i < 2; ++i) {
    const absl::Status held = root.Check(Soon());
    EXPECT_EQ(held.code(), Code::kPermissionDenied) << held;
    EXPECT_THAT(std::string(held.message()), HasSubstr("so it is not tried"));
  }
  WriteFile(pinFile(), SoftToken::kPin);
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
}

TEST_P(Pkcs11RootKeyTest, ATokenThatIsNotThereIsAnOutageAndAModuleThatIsNoneIsNot) {
  Pkcs11Options options = Options();
  options.token = "another";
  Pkcs11RootKey absent(options);
  EXPECT_EQ(absent.Check(Soon()).code(), Code::kUnavailable) << absent.Check(Soon());
  for (const std::string& module : {std::string("/nowhere/module.so"), folder_, std::string("libz.so.1")}) {
    options = Options();
    options.module = module;
    Pkcs11RootKey none(options);
    EXPECT_EQ(none.Check(Soon()).code(), Code::kFailedPrecondition) << none.Check(Soon());
    EXPECT_THAT(std::string(none.Check(Soon()).message()), HasSubstr("PKCS#11 module " + module));
  }
}

TEST_P(Pkcs11RootKeyTest, EndsSoonAfterStop) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  root.Stop();
  ExpectAll(root, made, Code::kUnavailable, "the agent is ending");
}

// SoftHSM never says so.
TEST(Pkcs11TokenTest, LeavesTheLastTryToTheOperator) {
  EXPECT_TRUE(MayTryPin(CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_USER_PIN_COUNT_LOW).ok());
  for (const ck_flags_t flag : {CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED}) {
    EXPECT_EQ(MayTryPin(CKF_LOGIN_REQUIRED | CKF_USER_PIN_COUNT_LOW | flag).code(), Code::kPermissionDenied);
  }
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, Pkcs11RootKeyTest, testing::Values(Mechanism::kAesGcm, Mechanism::kAesKeyWrap),
                         [](const auto& info) { return info.param == Mechanism::kAesGcm ? "AesGcm" : "AesKeyWrap"; });

}  // namespace
}  // namespace kveil::keys
