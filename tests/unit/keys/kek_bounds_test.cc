// What one KEK, one workload or one reconnection may cost the others: KekKeys with clocks that stand still.
#include <gmock/gmock.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "key_fixture.h"
#include "keys/names/key_names.h"
#include "keys/service/kek_keys.h"
#include "slow_root_key.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class KekBoundsTest : public KeyTest {
 protected:
  KekBoundsTest() {
    KeyServiceOptions options = Options();
    options.timerNow = options.steadyNow;
    options.kekProviders["a"].openKek = [this](std::string_view key) {
      if (key.starts_with("bad")) return std::make_unique<SlowRootKey>(nullptr, bad_);
      auto inner = OpenRootKey({.file = absl::StrCat(folder_, "/", ToAbsl(key))}, true, Soon());
      EXPECT_TRUE(inner.ok()) << inner.status();
      return std::make_unique<SlowRootKey>(*std::move(inner), good_);
    };
    bad_->Set(absl::FailedPreconditionError("there is no such key"));
    registry_ = *OpenRegistry(options.registry, /*mustExist=*/false, Soon());
    registry_->SetDeadline(Soon());
    keks_.emplace(options, [](const KekName&, int64_t) { return ByteBuffer{1, 2, 3}; });
  }
  static std::chrono::steady_clock::time_point Soon() { return std::chrono::steady_clock::now() + seconds(60); }

  // As the service's thread does each half second.
  void Turn() {
    keks_->Take(*registry_, absl::UnixEpoch());
    keks_->DropExpired();
    keks_->Ask(*registry_);
  }
  absl::Status Find(const std::string& name, const std::string& workload = "app.service") {
    return keks_->FindToMake({"a", name}, 0, workload).status();
  }
  // Turns without time passing.
  template <typename Condition>
  bool TurnUntil(Condition condition) {
    return Eventually([&] {
      Turn();
      return condition();
    });
  }
  // Makes a key of the KEK, or fails the test.
  crypto::KeyId Make(const std::string& name) {
    crypto::KeyId id;
    EXPECT_TRUE(TurnUntil([&] {
      const auto found = keks_->FindToMake({"a", name}, 0, "app.service");
      if (found.ok()) id = found->key.id;
      return found.ok();
    }));
    return id;
  }
  // Asks for it until the provider's answer is this.
  void FailUntil(const std::string& name, const absl::Status& answer) {
    bad_->Set(answer);
    EXPECT_TRUE(TurnUntil([&] { return absl::StrContains(Find(name).message(), answer.message()); })) << name;
  }
  static absl::Status Refusal(int number) {
    return absl::FailedPreconditionError(absl::StrCat("there is no such key, ", number));
  }

  const std::shared_ptr<ProviderState> good_ = std::make_shared<ProviderState>();
  const std::shared_ptr<ProviderState> bad_ = std::make_shared<ProviderState>();
  std::unique_ptr<Registry> registry_;
  std::optional<KekKeys> keks_;
};

TEST_F(KekBoundsTest, OneKekThatIsOutStopsNoOtherOfItsProvider) {
  Make("good");
  for (int i = 1; i <= 8; ++i) {
    FailUntil("bad", absl::UnavailableError(absl::StrCat("answer ", i, " is 500")));
    Advance(seconds(16));  // more than the longest pause
    Turn();
    EXPECT_TRUE(Find("good").ok()) << "after " << i << " failures";
    // Half of the cache's time after it was unwrapped last, it is unwrapped again.
    EXPECT_TRUE(TurnUntil([&] {
      const auto found = keks_->FindToMake({"a", "good"}, 0, "app.service");
      return found.ok() && Options().steadyNow() - found->asked <= seconds(30);
    })) << "after "
        << i << " failures";
  }
  EXPECT_TRUE(keks_->Problem().ok()) << keks_->Problem();
}

TEST_F(KekBoundsTest, MadeUpNamesPushOutNoKeyInUseAndNoOtherWorkloads) {
  Make("good");
  int taken = 0;
  for (int i = 0; i < 1'000; ++i) {
    if (i % 10 == 0) Advance(milliseconds(334));  // time for ten more
    taken += absl::StrContains(Find(absl::StrCat("bad", i), "greedy.service").message(), "is being asked") ? 1 : 0;
  }
  EXPECT_GT(taken, 900) << "more than it may have at once";
  // The last one to ask.
  EXPECT_TRUE(TurnUntil([&] { return Find("mine", "modest.service").ok(); }));
  EXPECT_TRUE(Find("good").ok());
  EXPECT_LE(bad_->generates, 200) << "hers came in her turn";
}

TEST_F(KekBoundsTest, ARefusedNewcomerIsAskedForAtPausesThatGrow) {
  FailUntil("bad", Refusal(1));
  int asked = 1;
  for (const int pause : {5, 10, 20, 40, 60, 60}) {
    const milliseconds half(500 * pause);  // a pause is between three quarters of that and all of it
    Advance(half);
    for (int i = 0; i < 5; ++i) {
      (void)Find("bad");
      Turn();
      usleep(2'000);
    }
    EXPECT_EQ(bad_->generates, asked) << "within " << pause << " s";
    Advance(half);
    FailUntil("bad", Refusal(++asked));
    EXPECT_EQ(bad_->generates, asked) << "after " << pause << " s";
  }
}

TEST_F(KekBoundsTest, AskingForARefusedNewcomerAgainCostsAToken) {
  for (int i = 1; i <= 5; ++i) FailUntil(absl::StrCat("bad", i), Refusal(i));
  for (int i = 0; i < 2'000; ++i) (void)Find(absl::StrCat("x", i));  // all tokens
  Advance(milliseconds(5'000));                                      // 150 tokens
  for (int i = 0; i < 150; ++i) (void)Find(absl::StrCat("y", i));
  EXPECT_TRUE(absl::StrContains(Find("bad1").message(), "more than 30 new KEKs per second"));
}

TEST_F(KekBoundsTest, AReconnectionKeepsTheKeysThatHaveTheirRows) {
  const crypto::KeyId good = Make("good"), gone = Make("gone");
  good_->Set(absl::UnavailableError("no route to the KMS"));
  registry_->Reopen();
  ASSERT_TRUE(registry_->EnsureOpen().ok());
  Turn();
  EXPECT_TRUE(Find("good").ok()) << "while the provider is out";
  EXPECT_TRUE(keks_->Find(good, "app.service").ok());
  registry_.reset();
  std::filesystem::remove(registryFile());
  for (const char* more : {"-wal", "-shm"}) std::filesystem::remove(registryFile() + more);
  registry_ = *OpenRegistry(Options().registry, /*mustExist=*/false, Soon());
  registry_->SetDeadline(Soon());
  registry_->Reopen();
  ASSERT_TRUE(registry_->EnsureOpen().ok());
  registry_->Reopen();
  ASSERT_TRUE(registry_->EnsureOpen().ok());
  Turn();
  EXPECT_FALSE(Find("gone").ok()) << "nothing is made under a key that the registry lacks";
  EXPECT_FALSE(keks_->Find(gone, "app.service").ok());
}

// Each might have been wrapped anew: the registry is asked once for all of them.
TEST_F(KekBoundsTest, KeysThatAreRefusedTogetherAreToldInOneTurn) {
  constexpr int kKeks = 24;
  for (int i = 0; i < kKeks; ++i) Make(absl::StrCat("k", i));
  good_->Set(absl::FailedPreconditionError("disabled"));
  Advance(seconds(31));
  Turn();
  EXPECT_TRUE(Eventually([&] { return good_->unwraps == kKeks; })) << good_->unwraps;
  Turn();
  EXPECT_GE(keks_->stats().at(0).troubles[2], kKeks - 2u) << "two threads may be about to answer";
  EXPECT_FALSE(keks_->Problem().ok());
}

TEST_F(KekBoundsTest, RefusedNamesAreANoteAndNoProblem) {
  for (int i = 1; i <= 10; ++i) {
    FailUntil(absl::StrCat("bad", 20 - i), Refusal(i));
    Turn();
    EXPECT_TRUE(keks_->Problem().ok()) << keks_->Problem();
  }
  EXPECT_EQ(
      keks_->note(),
      "KEK a/bad10 cannot be used: there is no such key, 10 (and other KEKs); no record is sealed or opened under it");
}

TEST_F(KekBoundsTest, TheSameTroubleOfAKekWithKeysIsToldInTheSameWords) {
  Make("good");
  good_->Set(absl::UnavailableError("request 1 took too long"));
  Advance(seconds(31));
  EXPECT_TRUE(TurnUntil([&] { return !keks_->Problem().ok(); }));
  good_->Set(absl::UnavailableError("request 2 took too long"));
  Advance(seconds(6));
  EXPECT_TRUE(TurnUntil([&] { return good_->unwraps == 2; }));
  Turn();
  EXPECT_EQ(keks_->Problem().message(),
            "KEK a/good is out of reach: request 1 took too long; its keys serve until keys.cacheTtl is over");
  Advance(seconds(24));
  EXPECT_TRUE(TurnUntil([&] {
    (void)Find("good");
    return keks_->Problem().message() ==
           "KEK a/good is out of reach: request 2 took too long; no record is sealed or opened under it";
  })) << keks_->Problem();
}

TEST_F(KekBoundsTest, NewcomersLeaveInTheirTurn) {
  KekNewcomers newcomers;
  const auto place = [](size_t i) { return KekPlace{{"a", absl::StrCat(i)}, 0}; };
  for (size_t i = 0; i < KekNewcomers::kMostOfAWorkload; ++i) {
    EXPECT_EQ(newcomers.InTheWay("greedy"), nullptr);
    newcomers.Add("greedy", place(i));
  }
  newcomers.MoveToEnd(place(0));
  ASSERT_NE(newcomers.InTheWay("greedy"), nullptr);
  EXPECT_EQ(*newcomers.InTheWay("greedy"), place(1));
  EXPECT_EQ(newcomers.InTheWay("modest"), nullptr);
  for (size_t i = newcomers.size(); i < KekNewcomers::kMost; ++i) newcomers.Add(absl::StrCat("w", i), place(i));
  ASSERT_NE(newcomers.InTheWay("modest"), nullptr);
  EXPECT_EQ(*newcomers.InTheWay("modest"), place(1)) << "of the workload that has most";
  newcomers.Remove(place(1));
  EXPECT_EQ(newcomers.InTheWay("modest"), nullptr);
}

TEST(KeyNamesTest, EachProviderHasItsOwn) {
  EXPECT_TRUE(IsVaultKeyName("kafka-payments.x_1"));
  for (const char* name : {"", "a/b", "..", ".a", "a b", "a\x1b"}) EXPECT_FALSE(IsVaultKeyName(name)) << name;
  EXPECT_TRUE(IsAzureKeyName("kafka-payments"));
  for (const char* name : {"", "payments.x", "a_b", "a/1"}) EXPECT_FALSE(IsAzureKeyName(name)) << name;
  const std::string ring = "projects/p/locations/eu/keyRings/r/cryptoKeys/";
  EXPECT_TRUE(IsGcpKeyName(ring + "orders"));
  for (const char* name : {"", "payments.x", "orders/cryptoKeyVersions/1", "a:b"}) {
    EXPECT_FALSE(IsGcpKeyName(ring + name)) << name;
  }
  EXPECT_TRUE(IsAwsKeyName("alias/kafka-orders"));
  EXPECT_TRUE(IsAwsKeyName("arn:aws:kms:eu-central-1:111122223333:alias/kafka-orders"));
  for (const char* name : {"", "orders", "alias/", "alias/payments.x", "alias/aws/s3", "arn:aws:s3:::x"}) {
    EXPECT_FALSE(IsAwsKeyName(name)) << name;
  }
  EXPECT_FALSE(IsPkcs11KeyName(std::string(129, 'x')));
}

// Of a provider that takes slashes, no other key than the policy's author meant.
TEST(KeyNamesTest, AKekOfGoogleIsNoVersionOfOne) {
  RootKeyOptions options;
  options.gcp.emplace();
  const auto refused =
      KekOpener(options).Open("projects/p/locations/eu/keyRings/r/cryptoKeys/orders/cryptoKeyVersions/1");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kveil::keys
