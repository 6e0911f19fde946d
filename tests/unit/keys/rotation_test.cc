// Rotating root keys and KEKs: what was wrapped is wrapped anew, the old version is not needed any more, and whatever
// fails on the way leaves a registry that opens.
#include <gmock/gmock.h>

#include <atomic>
#include <future>
#include <set>

#include "absl/strings/escaping.h"
#include "epochs_fixture.h"
#include "fake_aws.h"
#include "fake_azure.h"
#include "fake_gcp.h"
#include "fake_vault.h"
#include "keys/service/rotation_slot.h"
#include "slow_root_key.h"
#include "soft_token.h"

namespace kveil::keys {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Code = absl::StatusCode;

// A key at a provider, as its operator has it.
struct Operated {
  virtual ~Operated() = default;
  virtual RootKeyOptions options(const std::string& folder) = 0;
  virtual std::string Rotate() = 0;  // returns the name of the new version
  virtual void DisableOld() = 0;
  virtual std::vector<std::string> complaints() = 0;
};

struct OperatedVault : Operated {
  OperatedVault() { vault.MakeKey("kveil"), vault.AddToken("hvs.token"); }
  RootKeyOptions options(const std::string& folder) override {
    KeyTest::WriteFile(folder + "/token", "hvs.token");
    return {.vault = VaultOptions{.address = vault.address(), .key = "kveil", .secretFile = folder + "/token"}};
  }
  std::string Rotate() override {
    vault.RotateKey("kveil");
    return StrCat("version ", ++newest);
  }
  void DisableOld() override { vault.SetMinDecryption("kveil", newest); }
  std::vector<std::string> complaints() override { return vault.complaints(); }
  FakeVault vault;
  int newest = 1;
};

// By an alias that is moved: AWS keeps all material of a key.
struct OperatedAws : Operated {
  OperatedAws() : key(aws.MakeKey()) {
    aws.SetAlias("alias/kveil", key);
    aws.AddIdentity("AKIAUSER", {.secret = "secret", .token = ""});
  }
  RootKeyOptions options(const std::string&) override {
    return {.aws =
                aws.Options("alias/kveil", {{"AWS_ACCESS_KEY_ID", "AKIAUSER"}, {"AWS_SECRET_ACCESS_KEY", "secret"}})};
  }
  std::string Rotate() override {
    old = std::exchange(key, aws.MakeKey());
    aws.SetAlias("alias/kveil", key);
    return FakeAws::ArnOf("key/" + key);
  }
  void DisableOld() override { aws.SetState(old, "Disabled"); }
  std::vector<std::string> complaints() override { return aws.complaints(); }
  FakeAws aws;
  std::string key, old;
};

template <FakeAzure::Kind kKind>
struct OperatedAzure : Operated {
  OperatedAzure() : version(azure.Rotate("kveil")) {}
  RootKeyOptions options(const std::string&) override { return {.azure = azure.Options("kveil")}; }
  std::string Rotate() override {
    old = std::exchange(version, azure.Rotate("kveil"));
    return "version " + version;
  }
  void DisableOld() override { azure.Disable("kveil", old); }
  std::vector<std::string> complaints() override { return azure.complaints(); }
  FakeAzure azure{kKind};
  std::string version, old;
};

struct OperatedGcp : Operated {
  OperatedGcp() { gcp.Rotate("kveil"); }
  RootKeyOptions options(const std::string&) override { return {.gcp = gcp.Options("kveil")}; }
  std::string Rotate() override {
    gcp.Rotate("kveil");
    return StrCat("version ", ++newest);
  }
  void DisableOld() override {
    for (int version = 1; version < newest; ++version) gcp.SetState("kveil", static_cast<size_t>(version), "DESTROYED");
  }
  std::vector<std::string> complaints() override { return gcp.complaints(); }
  FakeGcp gcp;
  int newest = 1;
};

template <Pkcs11Options::Mechanism kMechanism>
struct OperatedToken : Operated {
  OperatedToken() {
    static int keys = 0;
    key.key = StrCat("rotated ", static_cast<int>(kMechanism), " ", ++keys);
    SoftToken::Get().MakeKey(key.key);
  }
  RootKeyOptions options(const std::string& folder) override {
    key.pinFile = folder + "/pin";
    KeyTest::WriteFile(key.pinFile, SoftToken::kPin);
    return {.pkcs11 = key};
  }
  std::string Rotate() override {
    const std::string made = *MakePkcs11Version(key);
    const std::string before = StrCat("PKCS#11 key ", key.key, " in token kveil test: ");
    EXPECT_EQ(made.substr(0, before.size()), before);
    const std::string version = made.substr(before.size());
    ids.push_back(absl::HexStringToBytes(ToAbsl(version.substr(std::string("CKA_ID ").size()))));
    return version;
  }
  void DisableOld() override { SoftToken::Get().DeleteKey(key.key, ids.at(ids.size() - 2)); }
  std::vector<std::string> complaints() override { return {}; }
  Pkcs11Options key{
      .module = SoftToken::kModule, .token = SoftToken::kLabel, .key = "", .pinFile = "", .mechanism = kMechanism};
  std::vector<std::string> ids = {""};
};

struct RotatedProvider {
  std::string name;
  std::function<std::unique_ptr<Operated>()> make;
};
void PrintTo(const RotatedProvider& provider, std::ostream* out) { *out << provider.name; }

class RotatedTokenTest : public KeyTest {};

class RotatedProviderTest : public KeyTest, public testing::WithParamInterface<RotatedProvider> {};

TEST_P(RotatedProviderTest, AfterItTheOldVersionIsNotNeededAndOldCopiesDoNotOpen) {
  const std::unique_ptr<Operated> key = GetParam().make();
  KeyServiceOptions options = Options();
  options.root = key->options(folder_);
  auto service = Open(options);
  Misses user;
  user.scopes.emplace_back(User("38"));
  const FetchResult made = Ask(*service, std::move(user));
  ASSERT_TRUE(made.status.ok()) << made.status;
  const crypto::KeyId id = made.scopes.front().key.id;
  service.reset();
  std::filesystem::copy_file(registryFile(), folder_ + "/old.db");
  service = Open(options);
  const std::string version = key->Rotate();
  const auto rotated = service->RotateRootKey();
  ASSERT_TRUE(rotated.ok()) << rotated.status();
  EXPECT_EQ(rotated->keys, 2u);
  EXPECT_THAT(rotated->versions, ElementsAre(version));
  key->DisableOld();
  EXPECT_TRUE(Eventually([&] { return TryUnwrap(*service).ok(); })) << "the agent goes on";
  service.reset();
  service = Open(options);
  ASSERT_NE(service, nullptr);
  Misses byId;
  byId.ids.push_back(id);
  const FetchResult found = Ask(*service, std::move(byId));
  ASSERT_TRUE(found.status.ok()) << found.status;
  EXPECT_TRUE(found.ids.front().key.key.Equals(made.scopes.front().key.key));
  service.reset();
  options.registry.sqlite = folder_ + "/old.db";
  EXPECT_EQ(KeyService::Open(options).status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(key->complaints(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Providers, RotatedProviderTest,
    testing::Values(
        RotatedProvider{"vault", [] { return std::make_unique<OperatedVault>(); }},
        RotatedProvider{"aws", [] { return std::make_unique<OperatedAws>(); }},
        RotatedProvider{"azureVault", [] { return std::make_unique<OperatedAzure<FakeAzure::Kind::kVault>>(); }},
        RotatedProvider{"azureHsm", [] { return std::make_unique<OperatedAzure<FakeAzure::Kind::kHsm>>(); }},
        RotatedProvider{"gcp", [] { return std::make_unique<OperatedGcp>(); }},
        RotatedProvider{"softHsmAesGcm",
                        [] { return std::make_unique<OperatedToken<Pkcs11Options::Mechanism::kAesGcm>>(); }},
        RotatedProvider{"softHsmAesKeyWrap",
                        [] { return std::make_unique<OperatedToken<Pkcs11Options::Mechanism::kAesKeyWrap>>(); }}),
    [](const auto& info) { return info.param.name; });

// A registry of each kind, and Vault.
class RotationTest : public EpochsTest {
 protected:
  KeyServiceOptions WithVault(const std::string& agent = "node-1") {
    KeyServiceOptions options = OptionsOf(agent);
    options.root = key_.options(folder_);
    return options;
  }
  void FailOnUpdateOfEpochs(bool fails) {
    if (GetParam().prefix.empty()) {
      return Execute(fails ? "CREATE TRIGGER no BEFORE UPDATE ON epochs BEGIN SELECT RAISE(ABORT, 'a full disk'); END"
                           : "DROP TRIGGER no");
    }
    Execute(fails ? "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'a full disk';"
                    " END$$; CREATE TRIGGER no BEFORE UPDATE ON kveil.epochs FOR EACH ROW EXECUTE FUNCTION no()"
                  : "DROP TRIGGER no ON kveil.epochs; DROP FUNCTION no()");
  }
  OperatedVault key_;
};

TEST_P(RotationTest, AFaultAtEachStepLeavesARegistryThatOpens) {
  auto service = Open(WithVault());
  const Keys before = KeysOf(*service, 0, 3);
  key_.Rotate();
  const auto expectFailure = [&](Code code) {
    const auto rotated = service->RotateRootKey();
    EXPECT_EQ(rotated.status().code(), code) << rotated.status();
  };
  const std::string rewrap = "/v1/transit/rewrap/kveil";
  // The provider refuses: this is no trouble of the agent.
  key_.vault.Deny(rewrap);
  expectFailure(Code::kPermissionDenied);
  EXPECT_TRUE(TryUnwrap(*service).ok()) << TryUnwrap(*service);
  key_.vault.Deny(rewrap, false);
  // It gives something else back.
  const auto other = crypto::WrapKey(crypto::SecretKey::Random(), crypto::SecretKey::Random(), {});
  std::string text;
  absl::Base64Escape(ToAbsl(AsText(other)), &text);
  key_.vault.SetChange([&](const FakeVault::Request& request, nlohmann::json& json) {
    if (request.path == rewrap) json["data"]["batch_results"][1]["ciphertext"] = "vault:v2:" + text;
  });
  expectFailure(Code::kDataLoss);
  // Its newest version is not everywhere yet.
  key_.vault.SetChange([&](const FakeVault::Request& request, nlohmann::json& json) {
    if (request.path == rewrap) {
      json["data"]["batch_results"][0]["ciphertext"] = request.body["batch_input"][0]["ciphertext"];
    }
  });
  expectFailure(Code::kUnavailable);
  key_.vault.SetChange(nullptr);
  // The registry fails in the middle.
  FailOnUpdateOfEpochs(true);
  expectFailure(Code::kUnavailable);
  FailOnUpdateOfEpochs(false);
  service.reset();
  service = Open(WithVault());
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(KeysOf(*service, 0, 3), before);
  // All is as it was, so it can be done now.
  EXPECT_TRUE(Eventually([&] { return service->RotateRootKey().ok(); }));
  key_.DisableOld();
  service.reset();
  service = Open(WithVault());
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(KeysOf(*service, 0, 3), before);
  EXPECT_THAT(key_.complaints(), IsEmpty());
}

TEST_P(RotationTest, OtherAgentsGoOnAndTurnTheEpochs) {
  auto one = Open(WithVault("node-1"));
  auto other = Open(WithVault("node-2"));
  const Keys before = KeysOf(*one, 0, 300);
  const std::string version = key_.Rotate();
  // Both at once.
  std::thread both([&] { EXPECT_TRUE(other->RotateRootKey().ok()); });
  const auto rotated = one->RotateRootKey();
  both.join();
  ASSERT_TRUE(rotated.ok()) << rotated.status();
  EXPECT_THAT(rotated->versions, ElementsAre(version));
  key_.DisableOld();
  Turn(*other);
  for (KeyService* service : {one.get(), other.get()}) {
    EXPECT_TRUE(Eventually([&] { return TryUnwrap(*service).ok(); })) << service->health();
    EXPECT_EQ(KeysOf(*service, 0, 300), before);
  }
  EXPECT_THAT(key_.complaints(), IsEmpty());
}

// A provider that wraps something else, and well.
class OtherKeysRootKey : public RootKey {
 public:
  explicit OtherKeysRootKey(std::unique_ptr<RootKey> file) : file_(std::move(file)) {}
  const std::string& name() const override { return file_->name(); }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override {
    return file_->GenerateDataKey(context, deadline);
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override {
    return file_->Unwrap(keys, deadline);
  }
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline deadline) override {
    std::vector<absl::StatusOr<ByteBuffer>> others;
    for (const WrappedKey& key : keys) others.emplace_back(file_->GenerateDataKey(key.context, deadline)->wrapped);
    return others;
  }
  absl::Status Check(Deadline deadline) override { return file_->Check(deadline); }

 private:
  const std::unique_ptr<RootKey> file_;
};

TEST_P(RotationTest, AnotherKeyNeverTakesThePlaceOfOne) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 3);
  service.reset();
  KeyServiceOptions options = OptionsOf("node-1");
  options.root.open = [this](RootKey::Deadline deadline) -> absl::StatusOr<std::unique_ptr<RootKey>> {
    return std::make_unique<OtherKeysRootKey>(*OpenRootKey({.file = keyFile()}, false, deadline));
  };
  service = Open(options);
  EXPECT_EQ(service->RotateRootKey().status().code(), Code::kDataLoss);
  service = OpenAgent();
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(KeysOf(*service, 0, 3), before);
}

TEST_P(RotationTest, AFileSaysThatItsEpochsTurn) {
  auto service = OpenAgent();
  const auto rotated = service->RotateRootKey();
  EXPECT_EQ(rotated.status().code(), Code::kUnimplemented);
  EXPECT_THAT(std::string(rotated.status().message()), HasSubstr("kveil epochs turn"));
}

// KEKs: an agent has the old wrapped form in memory, and meets the new one.
TEST_P(RotationTest, AKekIsRotatedWhileAgentsUseIt) {
  for (const char* name : {"orders", "clicks", "gone"}) key_.vault.MakeKey(name);
  KeyServiceOptions options = WithVault();
  options.kekProviders["v"] = options.root;
  auto service = Open(options);
  const auto fetch = [&](const std::string& topic) {
    FetchResult result;
    EXPECT_TRUE(Eventually([&] {
      Misses misses;
      misses.scopes.emplace_back(Scope::kTopic, KeyspaceUnder("main", {"v", topic}), topic);
      result = Ask(*service, std::move(misses));
      return result.status.ok();
    })) << result.status;
    return result.scopes.empty() ? crypto::KeyId() : result.scopes.front().key.id;
  };
  const crypto::KeyId orders = fetch("orders");
  fetch("clicks"), fetch("gone");
  for (const char* name : {"orders", "clicks"}) key_.vault.RotateKey(name);
  key_.vault.DeleteKey("gone");
  const auto rotated = service->RotateKekKeys("v", "", {});
  ASSERT_TRUE(rotated.ok()) << rotated.status();
  ASSERT_EQ(rotated->keks.size(), 3u);
  EXPECT_EQ(rotated->next, std::nullopt);
  for (const KeyService::RotatedKek& one : rotated->keks) {
    EXPECT_EQ(one.status.code(), one.kek.key == "gone" ? Code::kFailedPrecondition : Code::kOk) << one.status;
    EXPECT_EQ(one.version, one.kek.key == "gone" ? "version 1" : "version 2");
  }
  for (const char* name : {"orders", "clicks"}) key_.vault.SetMinDecryption(name, 2);
  // The agent has the old form, asks again with it, and is refused: then it looks into the registry.
  Advance(seconds(61));
  EXPECT_EQ(fetch("orders"), orders);
  service.reset();
  service = Open(options);
  EXPECT_EQ(fetch("orders"), orders);
  EXPECT_EQ(service->RotateKekKeys("v", "orders", {})->keks.size(), 1u);
  // Another agent is quicker.
  key_.vault.SetChange([&](const FakeVault::Request& request, nlohmann::json&) {
    if (request.path != "/v1/transit/rewrap/orders") return;
    Execute(GetParam().prefix.empty() ? "UPDATE kekKeys SET wrappedKey = x'00'"
                                      : "UPDATE kveil.kek_keys SET wrapped_key = '\\x00'");
  });
  const auto raced = service->RotateKekKeys("v", "orders", {});
  key_.vault.SetChange(nullptr);
  EXPECT_EQ(raced->keks.front().status.code(), Code::kUnavailable) << raced->keks.front().status;
  EXPECT_EQ(raced->keks.front().version, "");
  EXPECT_EQ(service->RotateKekKeys("w", "", {}).status().code(), Code::kNotFound);
  EXPECT_THAT(key_.complaints(), IsEmpty());
}

TEST_F(RotatedTokenTest, AKekInATokenIsRotated) {
  OperatedToken<Pkcs11Options::Mechanism::kAesGcm> key;
  KeyServiceOptions options = Options();
  options.kekProviders["hsm"] = key.options(folder_);
  options.kekProviders["hsm"].pkcs11->key.clear();  // policies name it
  auto service = Open(options);
  const auto idOfTopic = [&] {
    FetchResult result;
    EXPECT_TRUE(Eventually([&] {
      Misses misses;
      misses.scopes.emplace_back(Scope::kTopic, KeyspaceUnder("main", {"hsm", key.key.key}), "orders");
      result = Ask(*service, std::move(misses));
      return result.status.ok();
    })) << result.status;
    return result.scopes.empty() ? crypto::KeyId() : result.scopes.front().key.id;
  };
  const crypto::KeyId id = idOfTopic();
  for (int i = 0; i < 2; ++i) {
    const std::string version = key.Rotate();
    const auto rotated = service->RotateKekKeys("hsm", key.key.key, {});
    ASSERT_TRUE(rotated.ok()) << rotated.status();
    ASSERT_EQ(rotated->keks.size(), 1u);
    EXPECT_TRUE(rotated->keks.front().status.ok()) << rotated->keks.front().status;
    EXPECT_EQ(rotated->keks.front().version, version);
    key.DisableOld();
    service.reset();
    service = Open(options);
    EXPECT_EQ(idOfTopic(), id);
  }
}

// One that may not unwrap what it has wrapped anew is no trouble of what is in use.
TEST_P(RotationTest, AFailedCheckOfWhatIsNewSaysNothingOfWhatIsInUse) {
  auto service = Open(WithVault());
  key_.Rotate();
  const auto refused = [&] {
    const auto calls = service->rootKeyStats().calls;
    return calls[static_cast<size_t>(RootKey::Operation::kUnwrap)].errors;
  };
  ASSERT_EQ(refused(), 0u);
  key_.vault.SetFault([](const FakeVault::Request& request) -> std::optional<FakeVault::Response> {
    if (request.body.dump().find("vault:v2:") == std::string::npos) return std::nullopt;
    return FakeVault::Response{403, R"({"errors": ["permission denied"]})"};
  });
  EXPECT_EQ(service->RotateRootKey().status().code(), Code::kPermissionDenied);
  EXPECT_EQ(refused(), 0u);
  key_.vault.SetFault(nullptr);
  EXPECT_TRUE(service->RotateRootKey().ok());
}

TEST_P(RotationTest, OneIsMadeAtATimeAndTheEndOfTheAgentWaitsForNone) {
  key_.vault.MakeKey("orders");
  KeyServiceOptions options = WithVault();
  options.kekProviders["v"] = options.root;
  for (const bool isOfRoot : {true, false}) {
    auto service = Open(options);
    Eventually([&] {
      Misses misses;
      misses.scopes.emplace_back(Scope::kTopic, KeyspaceUnder("main", {"v", "orders"}), "orders");
      return Ask(*service, std::move(misses)).status.ok();
    });
    struct Gate {
      std::promise<void> asked, goOn;
      std::shared_future<void> mayGoOn = goOn.get_future().share();
      std::atomic<bool> isFirst{true};
    };
    const auto gate = std::make_shared<Gate>();  // an answer that nobody waits for may outlive the test
    key_.vault.SetChange([gate](const FakeVault::Request& request, nlohmann::json&) {
      if (!request.path.starts_with("/v1/transit/rewrap/") || !gate->isFirst.exchange(false)) return;
      gate->asked.set_value();
      gate->mayGoOn.wait_for(seconds(60));
    });
    auto rotating = std::async(std::launch::async, [&] {
      return isOfRoot ? service->RotateRootKey().status() : service->RotateKekKeys("v", "", {}).status();
    });
    ASSERT_EQ(gate->asked.get_future().wait_for(seconds(60)), std::future_status::ready);
    EXPECT_THAT(std::string(service->RotateRootKey().status().message()), HasSubstr("a rotation is under way"));
    EXPECT_THAT(std::string(service->RotateKekKeys("v", "", {}).status().message()), HasSubstr("is under way"));
    const auto begun = std::chrono::steady_clock::now();
    service->EndRotation();
    EXPECT_EQ(rotating.get().code(), Code::kUnavailable);
    EXPECT_LT(std::chrono::steady_clock::now() - begun, KeyService::kRotationTime / 4) << "it waited for the provider";
    EXPECT_EQ(service->RotateRootKey().status().message(), "the agent is ending");
    gate->goOn.set_value();
    key_.vault.SetChange(nullptr);
  }
}

TEST_P(RotationTest, KeksThatThereWasNoTimeForAreTheNextPages) {
  KeyServiceOptions options = WithVault();
  options.kekProviders["v"] = options.root;
  std::atomic<int> rewraps{0};
  options.timerNow = [&rewraps] { return std::chrono::steady_clock::now() + rewraps.load() * seconds(5); };
  auto service = Open(options);
  for (const char* name : {"one", "two", "three", "four"}) {
    key_.vault.MakeKey(name);
    EXPECT_TRUE(Eventually([&] {
      Misses misses;
      misses.scopes.emplace_back(Scope::kTopic, KeyspaceUnder("main", {"v", name}), name);
      return Ask(*service, std::move(misses)).status.ok();
    }));
    key_.vault.RotateKey(name);
  }
  key_.vault.SetChange([&](const FakeVault::Request& request, nlohmann::json&) {
    if (request.path.starts_with("/v1/transit/rewrap/")) ++rewraps;
  });
  std::set<std::string> rotated;
  std::optional<crypto::KeyId> after = crypto::KeyId{};
  for (int pages = 1; after.has_value() && pages <= 4; ++pages) {
    const auto page = service->RotateKekKeys("v", "", *after);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_GE(page->keks.size(), 1u);
    EXPECT_LE(page->keks.size(), 2u) << "there is no time for more";
    for (const KeyService::RotatedKek& one : page->keks) {
      EXPECT_EQ(one.version, "version 2");
      EXPECT_TRUE(rotated.insert(one.kek.key).second);
    }
    after = page->next;
  }
  key_.vault.SetChange(nullptr);
  EXPECT_EQ(rotated.size(), 4u);
  EXPECT_EQ(rewraps, 4);
}

struct CountedStops : SlowRootKey {
  CountedStops() : SlowRootKey(nullptr, std::make_shared<ProviderState>()) {}
  void Stop() override { ++stops; }
  int stops = 0;
};

// Whoever is refused may let go of it at once.
TEST(RotationSlotTest, WhatIsEndedKeepsNoRootKey) {
  RotationSlot slot;
  RotationSlot::Rotation rotation(slot);
  CountedStops before, after;
  EXPECT_TRUE(rotation.Asks(&before).ok());
  slot.End();
  EXPECT_EQ(before.stops, 1);
  EXPECT_TRUE(absl::IsUnavailable(rotation.Asks(&after)));
  slot.End();
  EXPECT_EQ(after.stops, 0);
}

INSTANTIATE_TEST_SUITE_P(Backends, RotationTest, testing::Values(kSqliteEpochs, kPostgresEpochs),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kveil::keys
