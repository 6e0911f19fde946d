// What wraps the registry's keys, when the root key answers late, not at all, or with a refusal.
#include "keys/service/registry_keys.h"

#include <gmock/gmock.h>

#include "key_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/root/open_root_key.h"

namespace kveil::keys {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Passes everything on, until it is told to fail.
class FailingRootKey : public RootKey {
 public:
  explicit FailingRootKey(std::unique_ptr<RootKey> inner) : inner_(std::move(inner)) {}

  const std::string& name() const override { return inner_->name(); }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) override {
    if (!status.ok()) return status;
    return inner_->GenerateDataKey(context, deadline);
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline deadline) override {
    ++unwraps;
    auto unwrapped = inner_->Unwrap(keys, deadline);
    if (!status.ok()) {
      for (auto& key : unwrapped) key = status;
    }
    return unwrapped;
  }
  absl::Status Check(Deadline deadline) override { return status.ok() ? inner_->Check(deadline) : status; }

  absl::Status status;  // what every call says, when it is not OK
  int unwraps = 0;

 private:
  const std::unique_ptr<RootKey> inner_;
};

class RegistryKeysTest : public KeyTest {
 protected:
  const RootKey::Deadline soon_ = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  FailingRootKey root_{*OpenRootKey({.file = keyFile()}, true, soon_)};
  std::unique_ptr<Registry> registry_ = *OpenRegistry({.sqlite = registryFile()}, false, soon_);

  absl::StatusOr<RegistryKeys> Load() {
    return RegistryKeys::Load(root_, *registry_, **registry_->ReadIdentity(), soon_);
  }
  absl::Status UnwrapAgain(const RegistryKeys& keys) {
    return RegistryKeys::UnwrapEpochs(root_, keys.owner(), *RegistryKeys::ReadEpochs(*registry_), soon_).status();
  }
};

TEST_F(RegistryKeysTest, AnOutageOfTheRootKeyIsNeverTakenForDamage) {
  ASSERT_TRUE(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).ok());
  auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  for (const absl::Status& status :
       {absl::UnavailableError("the KMS is out of reach"), absl::PermissionDeniedError("the KMS refuses the agent"),
        absl::FailedPreconditionError("the KMS has disabled the key")}) {
    root_.status = status;
    for (const absl::Status& seen : {Load().status(), UnwrapAgain(*keys)}) {
      EXPECT_EQ(seen.code(), status.code());
      EXPECT_THAT(std::string(seen.message()),
                  AllOf(HasSubstr("the KMS"), Not(HasSubstr("damaged")), Not(HasSubstr("does not fit"))));
    }
  }
  // The keys in use go on.
  const RegistryKeys::NewKey made = keys->MakeKey(Scope::kUser, {keys->SubjectOf(User("38")), 0});
  const auto unwrapped = keys->Unwrap(made.row);
  ASSERT_TRUE(unwrapped.ok()) << unwrapped.status();
  EXPECT_TRUE(unwrapped->Equals(made.key));
  root_.status = absl::OkStatus();
  EXPECT_TRUE(UnwrapAgain(*keys).ok());
}

TEST_F(RegistryKeysTest, NothingIsWrittenWhenTheRootKeyDoesNotAnswerOnTheFirstStart) {
  root_.status = absl::UnavailableError("the KMS is out of reach");
  EXPECT_EQ(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(*registry_->ReadIdentity(), std::nullopt);
  EXPECT_TRUE(registry_->ReadEpochs()->empty());
}

TEST_F(RegistryKeysTest, TheEpochKeysAreUnwrappedInOneCall) {
  ASSERT_TRUE(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).ok());
  root_.unwraps = 0;
  ASSERT_TRUE(Load().ok());
  EXPECT_EQ(root_.unwraps, 2) << "one for the registry's secret, one for all epochs";
}

TEST_F(RegistryKeysTest, ARowThatIsPutInAnothersPlaceDoesNotUnwrap) {
  ASSERT_TRUE(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).ok());
  auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  const RegistryKeys::NewKey made = keys->MakeKey(Scope::kUser, {keys->SubjectOf(User("38")), 0});
  const RegistryKeys::NewKey other = keys->MakeKey(Scope::kUser, {keys->SubjectOf(User("39")), 0});
  std::vector<Registry::Row> moved(6, made.row);
  moved[0].id = other.row.id;
  moved[1].scope = Scope::kTopic;
  moved[2].name.subject = other.row.name.subject;
  moved[3].name.window = 1;
  moved[4].epoch = 2;
  moved[5].wrappedKey = other.row.wrappedKey;
  for (size_t i = 0; i < moved.size(); ++i) {
    EXPECT_EQ(keys->Unwrap(moved[i]).status().code(), absl::StatusCode::kDataLoss) << i;
  }
}

TEST_F(RegistryKeysTest, ARowUnderAKekIsRewrappedWithoutTheKekAndOpenedWithItOnly) {
  ASSERT_TRUE(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).ok());
  auto keys = Load();
  ASSERT_TRUE(keys.ok()) << keys.status();
  const crypto::SecretKey kek = crypto::SecretKey::Random(), another = crypto::SecretKey::Random();
  const RegistryKeys::KekKey key{crypto::ComputeKeyId(kek), &kek}, wrong{crypto::ComputeKeyId(another), &another};
  const Subject orders = keys->SubjectOf({Scope::kTopic, "main", "orders"});
  const RegistryKeys::NewKey made = keys->MakeKey(Scope::kTopic, {orders, 7}, &key);
  const RegistryKeys::NewKey other = keys->MakeKey(Scope::kTopic, {orders, 8}, &key);
  EXPECT_FALSE(RegistryKeys::IsUnderKek(keys->MakeKey(Scope::kTopic, {orders, 7}).row));
  const auto rewrapped = keys->Rewrap(made.row);
  ASSERT_TRUE(rewrapped.ok()) << rewrapped.status();
  EXPECT_NE(rewrapped->wrappedKey, made.row.wrappedKey);
  for (const Registry::Row& row : {made.row, *rewrapped}) {
    ASSERT_TRUE(RegistryKeys::IsUnderKek(row));
    const auto under = keys->OpenUnderKek(row);
    ASSERT_TRUE(under.ok()) << under.status();
    EXPECT_EQ(under->kek, key.id);
    const auto unwrapped = keys->Unwrap(row, *under, kek);
    ASSERT_TRUE(unwrapped.ok()) << unwrapped.status();
    EXPECT_TRUE(unwrapped->Equals(made.key));
    EXPECT_TRUE(absl::IsDataLoss(keys->Unwrap(row, *under, another).status()));
    EXPECT_TRUE(absl::IsDataLoss(keys->Unwrap(row, {wrong.id, under->wrapped}, kek).status())) << "bound to its id";
    EXPECT_TRUE(absl::IsDataLoss(keys->Unwrap(row).status())) << "the epoch key alone does not open it";
  }
  Registry::Row moved = made.row;
  moved.wrappedKey = other.row.wrappedKey;
  EXPECT_TRUE(absl::IsDataLoss(keys->OpenUnderKek(moved).status()));
}

// Two nodes make the registry at once. Nobody may take the other's for his own.
TEST_F(RegistryKeysTest, WhoeverIsSlowerGetsTheRegistryOfTheOtherOrIsTold) {
  ASSERT_TRUE(RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_).ok());
  const auto same = RegistryKeys::MakeFirst(root_, *registry_, absl::Now(), soon_);
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(same->owner().id, (*registry_->ReadIdentity())->id);
  auto another = OpenRootKey({.file = folder_ + "/another.key"}, true, soon_);
  ASSERT_TRUE(another.ok()) << another.status();
  const absl::Status refused = RegistryKeys::MakeFirst(**another, *registry_, absl::Now(), soon_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), HasSubstr("does not fit"));
}

}  // namespace
}  // namespace kveil::keys
