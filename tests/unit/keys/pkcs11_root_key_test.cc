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
  // As it was before keys had versions.
  RootKey::DataKey GenerateOlder(RootKey& root) const {
    RootKey::DataKey made = Generate(root);
    const bool isGcm = GetParam() == Mechanism::kAesGcm;
    std::string older = std::string("pkcs11") + '\0' + SoftToken::kLabel + '\0' + key_ + '\0';
    older += isGcm ? '\1' : '\2';
    older += AsText(made.wrapped).substr(made.wrapped.size() - 16 - (isGcm ? 60 : 40));
    made.wrapped.assign(older.begin(), older.end());
    return made;
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

TEST_P(Pkcs11RootKeyTest, AWrappedKeyBeginsWithTheProviderTheTokenTheKeyItsIdAndTheMechanism) {
  Pkcs11RootKey root(Options());
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\x0a\x0b");
  const RootKey::DataKey made = Generate(root);
  const bool isGcm = GetParam() == Mechanism::kAesGcm;
  std::string header;
  for (const std::string& part : {std::string("pkcs11"), std::string(SoftToken::kLabel), key_, std::string("0a0b"),
                                  std::string(isGcm ? "AES-GCM" : "AES-KEY-WRAP")}) {
    header += part + '\0';
  }
  EXPECT_EQ(AsText(made.wrapped).substr(0, header.size()), header);
  EXPECT_EQ(made.wrapped.size(), header.size() + 8 + 16 + (isGcm ? 60 : 40));
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
}

TEST_P(Pkcs11RootKeyTest, AnOlderWrappedKeyStaysReadableUntilItsVersionIsGone) {
  Pkcs11RootKey root(Options());
  RootKey::DataKey made = GenerateOlder(root);
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  EXPECT_EQ(root.VersionOf({made.wrapped, AsBytes("epoch 1")}), "");
  const auto next = root.MakeVersion();
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  EXPECT_EQ(Unwrap(root, made, "epoch 2").code(), Code::kDataLoss);
  const RootKey::WrappedKey wrapped[] = {{made.wrapped, AsBytes("epoch 1")}};
  const auto rewrapped = root.Rewrap(wrapped, Soon());
  ASSERT_TRUE(rewrapped.at(0).ok()) << rewrapped.at(0).status();
  EXPECT_EQ(root.VersionOf({*rewrapped[0], AsBytes("epoch 1")}), *next);
  token_.DeleteKey(key_, "");
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss) << "it does not say by which key it was wrapped";
  made.wrapped = *rewrapped[0];
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  made.wrapped.resize(8);
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss);
}

TEST_P(Pkcs11RootKeyTest, AnOlderWrappedKeyIsNotLostToKeysThatAreMadeBeforeIt) {
  token_.DeleteKey(key_);
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\x05");
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = GenerateOlder(root);
  token_.MakeKey(key_);
  token_.MakeKey(key_, CKA_EXTRACTABLE, "\x03");
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  EXPECT_EQ(Unwrap(root, made, "epoch 2").code(), Code::kFailedPrecondition) << "nobody knows what the unfit one opens";
  token_.DeleteKey(key_, "\x03");
  EXPECT_EQ(Unwrap(root, made, "epoch 2").code(), Code::kDataLoss);
  token_.DeleteKey(key_, "\x05");
  EXPECT_EQ(Unwrap(root, made).code(), Code::kDataLoss);
  EXPECT_THAT(std::string(Unwrap(root, made).message()), HasSubstr("not among the keys with this label"));
}

TEST_P(Pkcs11RootKeyTest, TheGreatestIdWrapsAndTheOneThatIsNamedUnwraps) {
  Pkcs11RootKey root(Options());
  const auto madeBy = [&](const std::string& version) {
    RootKey::DataKey made = Generate(root);
    EXPECT_EQ(root.VersionOf({made.wrapped, AsBytes("epoch 1")}), version);
    return made;
  };
  const auto expectMissing = [&](const RootKey::DataKey& made, const std::string& version) {
    EXPECT_EQ(Unwrap(root, made).code(), Code::kFailedPrecondition) << Unwrap(root, made);
    EXPECT_THAT(std::string(Unwrap(root, made).message()), HasSubstr("no AES key with this label and " + version));
  };
  std::vector<RootKey::DataKey> made;
  made.push_back(madeBy("no CKA_ID"));
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\xff");
  made.push_back(madeBy("CKA_ID ff"));
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, std::string("\x00\x0a", 2));  // less: it is 10
  made.push_back(madeBy("CKA_ID ff"));
  const auto next = root.MakeVersion();
  ASSERT_TRUE(next.ok()) << next.status();
  made.push_back(madeBy(*next));
  for (const RootKey::DataKey& one : made) EXPECT_TRUE(Unwrap(root, one).ok()) << Unwrap(root, one);
  token_.DeleteKey(key_, "\xff");
  for (const size_t lost : {1, 2}) expectMissing(made[lost], "CKA_ID ff");
  for (const size_t kept : {0, 3}) EXPECT_TRUE(Unwrap(root, made[kept]).ok()) << Unwrap(root, made[kept]);
  token_.DeleteKey(key_, "");
  expectMissing(made[0], "no CKA_ID");
  // One that is lost says nothing of the others.
  const RootKey::WrappedKey wrapped[] = {{made[1].wrapped, AsBytes("epoch 1")}, {made[3].wrapped, AsBytes("epoch 1")}};
  const auto unwrapped = root.Unwrap(wrapped, Soon());
  EXPECT_EQ(unwrapped.at(0).status().code(), Code::kFailedPrecondition);
  EXPECT_TRUE(unwrapped.at(1).ok()) << unwrapped.at(1).status();
}

TEST_P(Pkcs11RootKeyTest, TwoNewestKeysWrapNothing) {
  Pkcs11RootKey root(Options());
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\x02");
  const RootKey::DataKey made = Generate(root);
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\x03");
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, std::string("\x00\x03", 2));  // the same number
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  for (const absl::Status& status :
       {root.GenerateDataKey(AsBytes("c"), Soon()).status(), root.Check(Soon()), root.MakeVersion().status()}) {
    EXPECT_EQ(status.code(), Code::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr("several AES keys have this label and CKA_ID"));
  }
}

TEST_P(Pkcs11RootKeyTest, ATokenThatMakesNoKeyLeavesItToTheOperator) {
  Pkcs11RootKey root(Options());
  const RootKey::DataKey made = Generate(root);
  std::string id;
  token_.SetOnGenerate([&](const std::string& wanted) {
    id = wanted;
    return ck_rv_t{CKR_FUNCTION_NOT_SUPPORTED};
  });
  const absl::Status refused = root.MakeVersion().status();
  token_.SetOnGenerate(nullptr);
  EXPECT_EQ(refused.code(), Code::kFailedPrecondition);
  EXPECT_EQ(
      refused.message(),
      StrCat("PKCS#11 key ", key_,
             " in token kveil test: the token does not make the next key: CKR_FUNCTION_NOT_SUPPORTED. Make it by "
             "the token's own tools: an AES key of 256 bits with this label and ",
             pkcs11::NameOfId(id), ", private, sensitive and not extractable. Agents use it as soon as it is there"));
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, id);
  const RootKey::DataKey next = Generate(root);
  EXPECT_EQ(root.VersionOf({next.wrapped, AsBytes("epoch 1")}), pkcs11::NameOfId(id));
  for (const RootKey::DataKey* one : {&made, &next}) EXPECT_TRUE(Unwrap(root, *one).ok()) << Unwrap(root, *one);
}

// An agent may have wrapped by a key before whoever had it made looks at it.
TEST_P(Pkcs11RootKeyTest, OfTwoThatMakeTheNextVersionAtOnceBothAreKept) {
  Pkcs11RootKey root(Options());
  const std::string other = pkcs11::IdAfter("");  // somebody else has seen the same newest one
  RootKey::DataKey made;
  token_.SetOnGenerate(nullptr, [&] {
    made = Generate(root);
    token_.MakeKey(key_, CKA_VENDOR_DEFINED, other);
  });
  const auto version = root.MakeVersion();
  token_.SetOnGenerate(nullptr);
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(root.VersionOf({made.wrapped, AsBytes("epoch 1")}), *version);
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_EQ(token_.CountKeys(key_), 3u);
}

TEST_P(Pkcs11RootKeyTest, AKeyThatWasMadeIsKeptAlsoIfTheTokenFailsThen) {
  Pkcs11RootKey root(Options());
  RootKey::DataKey made;
  token_.SetOnGenerate(nullptr, [&] {
    made = Generate(root);
    token_.FailNextLook();
  });
  const absl::Status unknown = root.MakeVersion().status();
  token_.SetOnGenerate(nullptr);
  EXPECT_EQ(unknown.code(), Code::kUnavailable) << unknown;
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("has made the next key, with CKA_ID"));
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  // The session is lost while it makes one: it is asked once more, for another one.
  token_.SetOnGenerate([&](const std::string& id) {
    token_.MakeKey(key_, CKA_VENDOR_DEFINED, id);
    made = Generate(root);
    return ck_rv_t{CKR_DEVICE_ERROR};
  });
  const auto version = root.MakeVersion();
  token_.SetOnGenerate(nullptr);
  EXPECT_TRUE(version.ok()) << version.status();
  EXPECT_TRUE(Unwrap(root, made).ok()) << Unwrap(root, made);
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_EQ(token_.CountKeys(key_), 4u);
}

TEST(Pkcs11VersionsTest, TheNextIdIsGreaterAndAnotherOneEachTime) {
  EXPECT_NE(pkcs11::IdAfter("\x01"), pkcs11::IdAfter("\x01"));
  for (const std::string& id :
       {std::string(), std::string("\xff"), std::string("\0\xff", 2), std::string(64, '\x7f')}) {
    const std::string next = pkcs11::IdAfter(id);
    const size_t size = std::max(id.size(), next.size());
    const auto padded = [size](const std::string& text) { return std::string(size - text.size(), '\0') + text; };
    EXPECT_GT(padded(next), padded(id));
    EXPECT_LE(next.size(), std::max<size_t>(id.size(), 5));
  }
}

TEST_P(Pkcs11RootKeyTest, ManyKeysOfALabelAreRefused) {
  Pkcs11RootKey root(Options());
  for (char id = 1; id < 64; ++id) token_.MakeKey(key_, CKA_VENDOR_DEFINED, {id});
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  EXPECT_THAT(std::string(root.MakeVersion().status().message()), HasSubstr("64 AES keys have this label"));
  EXPECT_TRUE(root.Check(Soon()).ok()) << "none was made: " << root.Check(Soon());
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, "\x70");
  EXPECT_THAT(std::string(root.Check(Soon()).message()), HasSubstr("more than 64 AES keys have this label"));
  token_.DeleteKey(key_, "\x70");
  token_.DeleteKey(key_, "");
  token_.MakeKey(key_, CKA_VENDOR_DEFINED, std::string(65, '\1'));
  EXPECT_THAT(std::string(root.Check(Soon()).message()), HasSubstr("a CKA_ID of more than 64 bytes"));
  token_.DeleteKey(key_, std::string(65, '\1'));
  EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
  while (token_.CountKeys(key_) > 0) token_.DeleteKey(key_);  // SoftHSM looks through all of them each time
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
