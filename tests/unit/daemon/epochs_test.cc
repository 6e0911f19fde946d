// What the agent does when it is asked about epochs.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "daemon/commands/commands.h"
#include "daemon/irrecoverable_receipts.h"
#include "keys/registry/open_registry.h"

namespace kveil::daemon {
namespace {

class EpochsCommandTest : public testing::Test {
 protected:
  EpochsCommandTest() {
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry = registryOptions_;
    keys_ = *keys::KeyService::Open(std::move(options));
    EXPECT_TRUE(store_.Prepare().ok());
  }
  ~EpochsCommandTest() override {
    keys_.reset();
    std::filesystem::remove_all(folder_);
  }
  static std::string MakeFolder() {
    char path[] = "/tmp/kveil-epochs-XXXXXX";
    return mkdtemp(path);
  }

  const std::string folder_ = MakeFolder();
  const keys::RegistryOptions registryOptions_{.sqlite = folder_ + "/registry.db"};
  const receipts::Store store_{folder_ + "/receipts"};
  std::unique_ptr<keys::KeyService> keys_;
};

TEST_F(EpochsCommandTest, TurnsAndTellsOfEachEpoch) {
  const auto first = ListEpochs(*keys_);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->epochs.size(), 1u);
  EXPECT_EQ(first->epochs[0].number, 1u);
  EXPECT_EQ(first->epochs[0].state, "inUse");
  EXPECT_FALSE(first->epochs[0].destroyed.has_value());
  const auto begun = TurnEpochs(*keys_, {.uid = 1000});
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_EQ(begun->ending, 1u);
  absl::StatusOr<admin::ListEpochsCommand::Response> after;
  for (int i = 0; i < 3000; ++i) {
    after = ListEpochs(*keys_);
    ASSERT_TRUE(after.ok()) << after.status();
    if (after->epochs.front().state == "destroyed") break;
    usleep(10'000);
  }
  ASSERT_EQ(after->epochs.size(), 2u);
  EXPECT_EQ(after->epochs[0].state, "destroyed");
  EXPECT_EQ(after->epochs[0].destroyed.value_or("").size(), std::string("2026-11-29T06:10:31Z").size());
  EXPECT_EQ(after->epochs[1].state, "inUse");
}

TEST_F(EpochsCommandTest, WritesOneReceiptOfWhatHasBecomeIrrecoverable) {
  const auto turn = [&] {
    const auto begun = TurnEpochs(*keys_, {.uid = 1000});
    ASSERT_TRUE(begun.ok()) << begun.status();
    EXPECT_FALSE(begun->waits.has_value()) << *begun->waits;
    for (int i = 0; i < 3000; ++i) {
      const auto known = keys_->epochNow().irrecoverable;
      if (known.has_value() && known->epoch > static_cast<int64_t>(begun->ending)) return;
      usleep(10'000);
    }
    FAIL() << "the turn does not end";
  };
  IrrecoverableReceipts receipts(store_.folder(), "root key file x");
  EXPECT_TRUE(receipts.Watch(*keys_).ok());
  turn();
  EXPECT_TRUE(receipts.Watch(*keys_).ok());
  EXPECT_EQ(*store_.ReadCount(), 0u) << "nobody was erased";
  keys::Misses misses;
  misses.scopes.emplace_back(keys::ScopeName{keys::Scope::kUser, "clicks", "user-1"});
  std::promise<void> made;
  keys_->Fetch(std::move(misses), "app", [&](const keys::FetchResult&) { made.set_value(); });
  made.get_future().wait();
  const auto erased = keys_->Erase("clicks", "user-1");
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_TRUE(receipts.Watch(*keys_).ok());
  EXPECT_EQ(*store_.ReadCount(), 0u) << "no turn has begun since";
  turn();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(receipts.Watch(*keys_).ok());
  ASSERT_EQ(*store_.ReadCount(), 1u);
  EXPECT_EQ(receipts::IrrecoverableUpTo(store_.Read(1)->text, keys_->registryId()), erased->number);
  IrrecoverableReceipts restarted(store_.folder(), "root key file x");
  EXPECT_TRUE(restarted.Watch(*keys_).ok());
  EXPECT_EQ(*store_.ReadCount(), 1u);
  // A registry that was restored gives numbers again that a receipt of before is about.
  receipts::Receipt before;
  before.kind = receipts::Receipt::Kind::kIrrecoverable;
  before.registry = keys_->registryId();
  before.erasure = erased->number + 10;
  ASSERT_TRUE(store_.Append(before).ok());
  IrrecoverableReceipts restored(store_.folder(), "root key file x");
  EXPECT_TRUE(restored.Watch(*keys_).ok());
  ASSERT_EQ(*store_.ReadCount(), 3u);
  EXPECT_EQ(receipts::IrrecoverableUpTo(store_.Read(3)->text, keys_->registryId()), erased->number);
}

TEST_F(EpochsCommandTest, RotatesOnlyWhatHasVersions) {
  EXPECT_EQ(RotateRootKey(*keys_, {.reason = "a\nb"}, {.uid = 1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RotateRootKey(*keys_, {}, {.uid = 1}).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(RotateKeks(*keys_, {.kek = "a", .reason = ""}, {.uid = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RotateKeks(*keys_, {.kek = "a", .after = "xyz"}, {.uid = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (const char* const kek : {"", "a", "a/b", "a/", "/b"}) {
    EXPECT_EQ(RotateKeks(*keys_, {.kek = kek}, {.uid = 1}).status().code(), absl::StatusCode::kNotFound) << kek;
  }
}

TEST_F(EpochsCommandTest, GivesUpOnlyWhatIsAKey) {
  for (const char* const bad : {"", "38", "0011223344556677889900112233445x", "00112233445566778899aabbccddeeff00"}) {
    EXPECT_EQ(GiveUpKey(*keys_, store_, {.key = bad}, {.uid = 1}).status().code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(GiveUpKey(*keys_, store_, {.key = std::string(32, 'a'), .reason = "a\nb"}, {.uid = 1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GiveUpKey(*keys_, store_, {.key = std::string(32, 'a')}, {.uid = 1}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(*store_.ReadCount(), 0u);
}

// The agent ended, or the registry's answer was lost, before the receipt was written.
TEST_F(EpochsCommandTest, AKeyThatWasGivenUpWithoutAReceiptGetsOne) {
  keys::Misses misses;
  misses.scopes.emplace_back(keys::ScopeName{keys::Scope::kUser, "clicks", "user-1"});
  std::promise<crypto::KeyId> made;
  keys_->Fetch(std::move(misses), "app",
               [&](const keys::FetchResult& result) { made.set_value(result.scopes.front().key.id); });
  const crypto::KeyId id = made.get_future().get();
  const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  auto registry = *keys::OpenRegistry(registryOptions_, /*mustExist=*/true, soon);
  registry->SetDeadline(soon);
  const auto rows = registry->FindManyById({&id, 1});
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_TRUE(*registry->GiveUpRow(**rows->front(), absl::Now()));
  const auto givenUp = GiveUpKey(*keys_, store_, {.key = crypto::TextOf(id)}, {.uid = 1});
  ASSERT_TRUE(givenUp.ok()) << givenUp.status();
  EXPECT_EQ(givenUp->scope, "user");
  EXPECT_EQ(givenUp->receipt.number, 1u);
  EXPECT_EQ(*store_.ReadCount(), 1u);
  registry.reset();
}

}  // namespace
}  // namespace kveil::daemon
