// What every root key must do, whoever keeps it. A new provider adds itself to the list at the end and passes as it is.
#include <gmock/gmock.h>

#include <stdlib.h>

#include <functional>
#include <string>
#include <thread>

#include "fake_aws.h"
#include "fake_azure.h"
#include "fake_gcp.h"
#include "fake_vault.h"
#include "key_fixture.h"
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"
#include "soft_token.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;

struct Provider {
  std::string name;
  // Where to find the test's own key, in its folder. `which` tells apart two root keys of one test.
  std::function<RootKeyOptions(const std::string& folder, int which)> options;
};
void PrintTo(const Provider& provider, std::ostream* out) { *out << provider.name; }

class RootKeyConformanceTest : public KeyTest, public testing::WithParamInterface<Provider> {
 protected:
  std::unique_ptr<RootKey> OpenKey(int which = 1) {
    auto root = OpenRootKey(GetParam().options(folder_, which), /*mayCreate=*/true, Soon());
    EXPECT_TRUE(root.ok()) << root.status();
    return root.ok() ? *std::move(root) : nullptr;
  }
  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }
  static RootKey::DataKey Generate(RootKey& root, std::string_view context) {
    auto made = root.GenerateDataKey(AsBytes(context), Soon());
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *std::move(made) : RootKey::DataKey();
  }
  static absl::StatusOr<crypto::SecretKey> UnwrapOne(RootKey& root, Bytes wrapped, std::string_view context) {
    const RootKey::WrappedKey keys[] = {{wrapped, AsBytes(context)}};
    auto unwrapped = root.Unwrap(keys, Soon());
    EXPECT_EQ(unwrapped.size(), 1u);
    return std::move(unwrapped.at(0));
  }
  static void ExpectUnwraps(RootKey& root, const RootKey::DataKey& made, std::string_view context) {
    const absl::StatusOr<crypto::SecretKey> unwrapped = UnwrapOne(root, made.wrapped, context);
    ASSERT_TRUE(unwrapped.ok()) << unwrapped.status();
    EXPECT_TRUE(unwrapped->Equals(made.key));
  }
};

TEST_P(RootKeyConformanceTest, UnwrapsWhatItWrappedAlsoAfterARestart) {
  auto root = OpenKey();
  const RootKey::DataKey made = Generate(*root, "epoch 1");
  ExpectUnwraps(*root, made, "epoch 1");
  root = OpenKey();
  ExpectUnwraps(*root, made, "epoch 1");
}

TEST_P(RootKeyConformanceTest, NeverMakesTheSameDataKeyTwice) {
  auto root = OpenKey();
  const RootKey::DataKey one = Generate(*root, "epoch 1");
  const RootKey::DataKey other = Generate(*root, "epoch 1");
  EXPECT_FALSE(one.key.Equals(other.key));
  EXPECT_NE(one.wrapped, other.wrapped);
}

TEST_P(RootKeyConformanceTest, BindsAWrappedKeyToItsContext) {
  auto root = OpenKey();
  const RootKey::DataKey made = Generate(*root, "epoch 1");
  EXPECT_EQ(UnwrapOne(*root, made.wrapped, "epoch 2").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(UnwrapOne(*root, made.wrapped, "").status().code(), absl::StatusCode::kDataLoss);
}

TEST_P(RootKeyConformanceTest, TakesADamagedOrForeignWrappedKeyForDataLossAndForNothingElse) {
  auto root = OpenKey();
  auto another = OpenKey(2);
  const RootKey::DataKey made = Generate(*root, "epoch 1");
  EXPECT_EQ(UnwrapOne(*another, made.wrapped, "epoch 1").status().code(), absl::StatusCode::kDataLoss);
  for (size_t i = 0; i < made.wrapped.size(); ++i) {
    ByteBuffer damaged = made.wrapped;
    damaged[i] ^= 1;
    EXPECT_EQ(UnwrapOne(*root, damaged, "epoch 1").status().code(), absl::StatusCode::kDataLoss) << i;
  }
  ByteBuffer longer = made.wrapped;
  longer.push_back(0);
  EXPECT_EQ(UnwrapOne(*root, longer, "epoch 1").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(UnwrapOne(*root, {}, "epoch 1").status().code(), absl::StatusCode::kDataLoss);
}

TEST_P(RootKeyConformanceTest, AnswersEveryKeyOfABatchInItsPlace) {
  constexpr size_t kKeys = 1000;  // more than a request to a KMS may hold
  auto root = OpenKey();
  std::vector<std::string> contexts;
  std::vector<RootKey::DataKey> made;
  for (size_t i = 0; i < kKeys; ++i) {
    contexts.push_back("epoch " + std::to_string(i));
    made.push_back(Generate(*root, contexts.back()));
  }
  made[500].wrapped.back() ^= 1;
  std::vector<RootKey::WrappedKey> wrapped;
  for (size_t i = 0; i < kKeys; ++i) wrapped.push_back({made[i].wrapped, AsBytes(contexts[i])});
  // AWS KMS takes one at a time.
  auto unwrapped = root->Unwrap(wrapped, std::chrono::steady_clock::now() + std::chrono::minutes(1));
  ASSERT_EQ(unwrapped.size(), kKeys);
  for (size_t i = 0; i < kKeys; ++i) {
    if (i == 500) {
      EXPECT_EQ(unwrapped[i].status().code(), absl::StatusCode::kDataLoss);
    } else {
      ASSERT_TRUE(unwrapped[i].ok()) << i << " " << unwrapped[i].status();
      EXPECT_TRUE(unwrapped[i]->Equals(made[i].key)) << i;
    }
  }
  EXPECT_TRUE(root->Unwrap({}, Soon()).empty());
}

TEST_P(RootKeyConformanceTest, WrapsTheSameKeysAnewOrSaysThatItHasNoVersions) {
  auto root = OpenKey();
  const RootKey::DataKey made[] = {Generate(*root, "epoch 1"), Generate(*root, "epoch 2"), Generate(*root, "epoch 3")};
  ByteBuffer damaged = made[1].wrapped;
  damaged[0] ^= 1;
  const RootKey::WrappedKey wrapped[] = {
      {made[0].wrapped, AsBytes("epoch 1")}, {damaged, AsBytes("epoch 2")}, {made[2].wrapped, AsBytes("epoch 3")}};
  const auto rewrapped = root->Rewrap(wrapped, Soon());
  ASSERT_EQ(rewrapped.size(), 3u);
  const bool hasVersions = GetParam().name != "file";
  if (!hasVersions) {
    for (const auto& one : rewrapped) EXPECT_EQ(one.status().code(), absl::StatusCode::kUnimplemented) << one.status();
    return;
  }
  EXPECT_EQ(rewrapped[1].status().code(), absl::StatusCode::kDataLoss) << rewrapped[1].status();
  EXPECT_EQ(root->VersionOf(wrapped[1]), "");
  for (const size_t i : {0, 2}) {
    ASSERT_TRUE(rewrapped[i].ok()) << rewrapped[i].status();
    const auto key = UnwrapOne(*root, *rewrapped[i], i == 0 ? "epoch 1" : "epoch 3");
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_TRUE(key->Equals(made[i].key));
    EXPECT_NE(root->VersionOf({*rewrapped[i], wrapped[i].context}), "");
  }
  EXPECT_FALSE(UnwrapOne(*root, *rewrapped[0], "epoch 3").ok()) << "still bound to its context";
  EXPECT_TRUE(root->Rewrap({}, Soon()).empty());
}

TEST_P(RootKeyConformanceTest, IsWellWhenItIsThere) {
  auto root = OpenKey();
  EXPECT_TRUE(root->Check(Soon()).ok()) << root->Check(Soon());
  EXPECT_FALSE(root->name().empty());
}

TEST_P(RootKeyConformanceTest, WhenItIsMissingItIsMadeOnlyWhereItMayBe) {
  const RootKeyOptions options = GetParam().options(folder_, 1);
  if (OpenRootKey(options, /*mayCreate=*/false, Soon()).ok()) {  // the operator has made it
    EXPECT_EQ(RootKeyOfSomeRegistry(options), std::nullopt);
    return;
  }
  EXPECT_EQ(OpenRootKey(options, /*mayCreate=*/false, Soon()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(RootKeyOfSomeRegistry(options), std::nullopt);
  auto root = OpenKey();
  EXPECT_TRUE(OpenRootKey(options, /*mayCreate=*/false, Soon()).ok());
}

TEST_P(RootKeyConformanceTest, ThreadsMayUseItTogether) {
  auto root = OpenKey();
  const RootKey::DataKey made = Generate(*root, "epoch 1");
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        ExpectUnwraps(*root, made, "epoch 1");
        EXPECT_TRUE(root->GenerateDataKey(AsBytes("epoch 2"), Soon()).ok());
        EXPECT_TRUE(root->Check(Soon()).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// One server for all tests, which keeps the keys that they make.
RootKeyOptions FakeVaultOptions(const std::string& folder, int which) {
  static FakeVault vault;
  static std::atomic<int> keys{0};
  const std::string path = folder + "/key" + std::to_string(which);
  std::string key = KeyTest::ReadFile(path);
  if (key.empty()) {
    key = "kveil-" + std::to_string(++keys);
    KeyTest::WriteFile(path, key);
    vault.MakeKey(key);
  }
  vault.AddToken("hvs.token");
  KeyTest::WriteFile(folder + "/token", "hvs.token");
  return {.vault = VaultOptions{.address = vault.address(), .key = key, .secretFile = folder + "/token"}};
}

// tests/vault/run has made the keys, and says where.
RootKeyOptions RealVaultOptions(const std::string&, int which) {
  return {.vault = VaultOptions{.address = getenv("KVEIL_TEST_VAULT"),
                                .key = "kveil-conformance-" + std::to_string(which),
                                .secretFile = getenv("KVEIL_TEST_VAULT_TOKEN_FILE")}};
}

RootKeyOptions FakeAwsOptions(const std::string& folder, int which) {
  static FakeAws aws;
  aws.AddIdentity("AKIAUSER", {.secret = "secret", .token = ""});
  const std::string path = folder + "/key" + std::to_string(which);
  std::string id = KeyTest::ReadFile(path);
  if (id.empty()) {
    id = aws.MakeKey();
    KeyTest::WriteFile(path, id);
  }
  return {.aws = aws.Options(FakeAws::ArnOf("key/" + id),
                             {{"AWS_ACCESS_KEY_ID", "AKIAUSER"}, {"AWS_SECRET_ACCESS_KEY", "secret"}})};
}

// tests/aws/run has made the keys, and the user whose credentials are in the environment.
RootKeyOptions MotoOptions(const std::string&, int which) {
  return {.aws = AwsOptions{.key = getenv(StrCat("KVEIL_TEST_AWS_KEY_", which).c_str()),
                            .region = FakeAws::kRegion,
                            .endpoint = getenv("KVEIL_TEST_AWS"),
                            .stsEndpoint = getenv("KVEIL_TEST_AWS")}};
}

template <FakeAzure::Kind kKind>
RootKeyOptions FakeAzureOptions(const std::string& folder, int which) {
  static FakeAzure azure(kKind);
  static std::atomic<int> keys{0};
  const std::string path = folder + "/key" + std::to_string(which);
  std::string key = KeyTest::ReadFile(path);
  if (key.empty()) {
    key = StrCat("kveil-", ++keys);
    KeyTest::WriteFile(path, key);
    azure.Rotate(key);
  }
  return {.azure = azure.Options(key)};
}

RootKeyOptions FakeGcpOptions(const std::string& folder, int which) {
  static FakeGcp gcp;
  static std::atomic<int> keys{0};
  const std::string path = folder + "/key" + std::to_string(which);
  std::string key = KeyTest::ReadFile(path);
  if (key.empty()) {
    key = StrCat("kveil-", ++keys);
    KeyTest::WriteFile(path, key);
    gcp.Rotate(key);
  }
  return {.gcp = gcp.Options(key)};
}

template <Pkcs11Options::Mechanism kMechanism>
RootKeyOptions SoftTokenOptions(const std::string& folder, int which) {
  static std::atomic<int> keys{0};
  const std::string path = folder + "/key" + std::to_string(which);
  std::string key = KeyTest::ReadFile(path);
  if (key.empty()) {
    key = StrCat("conformance ", static_cast<int>(kMechanism), " ", ++keys);
    KeyTest::WriteFile(path, key);
    SoftToken::Get().MakeKey(key);
  }
  KeyTest::WriteFile(folder + "/pin", SoftToken::kPin);
  return {.pkcs11 = Pkcs11Options{.module = SoftToken::kModule,
                                  .token = SoftToken::kLabel,
                                  .key = key,
                                  .pinFile = folder + "/pin",
                                  .mechanism = kMechanism}};
}

std::vector<Provider> Providers() {
  std::vector<Provider> providers = {
      {"file", [](const std::string& folder,
                  int which) { return RootKeyOptions{.file = folder + "/root" + std::to_string(which) + ".key"}; }},
      {"fakeVault", FakeVaultOptions},
      {"fakeAws", FakeAwsOptions},
      {"fakeAzureVault", FakeAzureOptions<FakeAzure::Kind::kVault>},
      {"fakeAzureHsm", FakeAzureOptions<FakeAzure::Kind::kHsm>},
      {"fakeGcp", FakeGcpOptions},
      {"softHsmAesGcm", SoftTokenOptions<Pkcs11Options::Mechanism::kAesGcm>},
      {"softHsmAesKeyWrap", SoftTokenOptions<Pkcs11Options::Mechanism::kAesKeyWrap>},
  };
  if (getenv("KVEIL_TEST_VAULT") != nullptr) providers.push_back({"realVault", RealVaultOptions});
  if (getenv("KVEIL_TEST_AWS") != nullptr) providers.push_back({"moto", MotoOptions});
  return providers;
}
INSTANTIATE_TEST_SUITE_P(Providers, RootKeyConformanceTest, testing::ValuesIn(Providers()),
                         [](const auto& info) { return info.param.name; });

// What is the file's own.
TEST(FileRootKeyTest, TellsAMissingFileFromAnotherKey) {
  char path[] = "/tmp/kveil-keys-XXXXXX";
  const std::string folder = mkdtemp(path);
  const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  auto root = OpenRootKey({.file = folder + "/root.key"}, true, soon);
  ASSERT_TRUE(root.ok()) << root.status();
  ASSERT_TRUE(OpenRootKey({.file = folder + "/other.key"}, true, soon).ok());
  std::filesystem::rename(folder + "/root.key", folder + "/away");
  EXPECT_EQ((*root)->Check(soon).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string((*root)->Check(soon).message()), HasSubstr("missing"));
  std::filesystem::rename(folder + "/other.key", folder + "/root.key");
  EXPECT_EQ((*root)->Check(soon).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string((*root)->Check(soon).message()), HasSubstr("another key"));
  std::filesystem::rename(folder + "/away", folder + "/root.key");
  EXPECT_TRUE((*root)->Check(soon).ok());
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace kveil::keys
