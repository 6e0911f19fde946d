// What the agent does when it is told to erase: receipts before anybody is waited for, and once more when the registry
// has lost the erasure meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "daemon/commands/commands.h"
#include "daemon/erasure_check.h"
#include "keys/cache/key_cache.h"
#include "nlohmann/json.hpp"

namespace kveil::daemon {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

class EraseTest : public testing::Test {
 protected:
  EraseTest() {
    char path[] = "/tmp/kveil-erase-XXXXXX";
    folder_ = mkdtemp(path);
    receipts_ = std::make_unique<receipts::Store>(folder_ + "/receipts");
    EXPECT_TRUE(receipts_->Prepare().ok());
    Open(Options());
  }
  ~EraseTest() override {
    cache_.reset();
    keys_.reset();
    fs::remove_all(folder_);
  }

  keys::KeyServiceOptions Options() const {
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.agentName = "node-a:7";
    options.cacheTtl = std::chrono::seconds(1);
    return options;
  }
  void Open(keys::KeyServiceOptions options) {
    cache_.reset();
    keys_.reset();
    keys_ = *keys::KeyService::Open(std::move(options));
    cache_ = std::make_unique<keys::KeyCache>(*keys_);
  }
  ErasureContext Context() { return {*keys_, *receipts_, metrics_}; }
  // Has the cache fetch a key for a user, as for a record that is sealed.
  void MakeKey(const std::string& user) {
    keys::Misses misses;
    misses.scopes.emplace_back(keys::ScopeName{keys::Scope::kUser, "clicks", user});
    std::promise<keys::FetchResult> promise;
    keys_->Fetch(std::move(misses), "app", [&](keys::FetchResult result) { promise.set_value(std::move(result)); });
    cache_->Refresh();
    ASSERT_TRUE(cache_->Deliver(promise.get_future().get()).ok());
  }
  std::future<absl::StatusOr<admin::EraseCommand::Response>> EraseInBackground(
      const std::string& user, std::optional<uint64_t> waitSeconds = std::nullopt) {
    return std::async(std::launch::async, [this, user, waitSeconds] {
      return Erase(Context(), {.user = user, .waitSeconds = waitSeconds, .reason = "request 38"}, {.uid = 1000});
    });
  }
  // Waits until `count` receipts are there.
  void AwaitReceipts(uint64_t count) {
    for (int i = 0; i < 1000 && *receipts_->ReadCount() < count; ++i) usleep(10'000);
    ASSERT_EQ(*receipts_->ReadCount(), count);
  }
  Json ReceiptOf(uint64_t number) { return Json::parse(receipts_->Read(number)->text); }
  // Drops what was erased, as workers do, until the future has its answer.
  template <typename Future>
  auto WorkUntil(Future& future) {
    while (future.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) cache_->Refresh();
    return future.get();
  }
  // As a backup does, and a standby that lags behind.
  void BackUp() { CopyRegistry("/registry.db", "/copy.db"); }
  void Restore() { CopyRegistry("/copy.db", "/registry.db"); }
  void CopyRegistry(const std::string& from, const std::string& to) {
    for (const std::string suffix : {"", "-wal", "-shm"}) {
      fs::remove(folder_ + to + suffix);
      if (fs::exists(folder_ + from + suffix)) fs::copy_file(folder_ + from + suffix, folder_ + to + suffix);
    }
  }

  std::string folder_;
  observe::Metrics metrics_{"x"};
  std::unique_ptr<keys::KeyService> keys_;
  std::unique_ptr<receipts::Store> receipts_;
  std::unique_ptr<keys::KeyCache> cache_;  // of a worker: nothing is complete before it has dropped the keys
};

TEST_F(EraseTest, ErasesAUserWhoIsKnownButHasNoKey) {
  const keys::UserChange granted[] = {{"38", "clicks", {.name = "marketing"}}, {"39", "clicks", {.name = "marketing"}}};
  ASSERT_TRUE(keys_->ChangeUsers(granted, 0).ok());
  auto erasing = EraseInBackground("38");
  const auto response = WorkUntil(erasing);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->erased.keys, 0u);
  EXPECT_EQ(response->erased.keyspaces, std::vector<std::string>{"clicks"});
  EXPECT_FALSE(response->erased.erasedBefore.has_value());
  EXPECT_EQ(ReceiptOf(1).at("users").at(0).at("keys"), 0);
  EXPECT_EQ(ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("keyspace"), "clicks");
  const auto many = EraseMany(Context(), {.users = {"38", "39", "40"}}, {});
  ASSERT_TRUE(many.ok()) << many.status();
  EXPECT_EQ(many->outcomes, (std::vector<std::string>{"erasedBefore", "erased", "noKey"}));
}

TEST_F(EraseTest, HasAReceiptBeforeItWaitsAndAnotherOfWhatTheAgentsSaid) {
  MakeKey("38");
  auto erasing = EraseInBackground("38");
  AwaitReceipts(1);
  ASSERT_NE(erasing.wait_for(std::chrono::milliseconds(100)), std::future_status::ready) << "the worker has the key";
  const Json erasure = ReceiptOf(1);
  EXPECT_EQ(erasure.at("kind"), "erasure");
  EXPECT_EQ(erasure.at("reason"), "request 38");
  EXPECT_EQ(erasure.at("uid"), 1000);
  EXPECT_EQ(erasure.at("users").at(0).at("keys"), 1);
  EXPECT_FALSE(erasure.contains("spread"));
  const auto response = WorkUntil(erasing);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->spread->complete);
  EXPECT_EQ(response->askedAgain, 0u);
  EXPECT_EQ(response->receipt.number, 1u);
  EXPECT_EQ(response->confirmation.number, 2u);
  const Json confirmation = ReceiptOf(2);
  EXPECT_EQ(confirmation.at("kind"), "confirmation");
  EXPECT_EQ(confirmation.at("erasure"), erasure.at("erasure"));
  EXPECT_EQ(confirmation.at("spread").at("agents").at(0).at("name"), "node-a:7");
}

TEST_F(EraseTest, ReadmitsAUserAndHasAReceiptOfIt) {
  MakeKey("38");
  EXPECT_EQ(Readmit(Context(), {.user = "38"}, {}).status().code(), absl::StatusCode::kNotFound);
  auto unheard = EraseInBackground("38", 0);
  ASSERT_FALSE(unheard.get()->spread->complete);
  auto early = Readmit(Context(), {.user = "38"}, {});
  ASSERT_TRUE(early.ok()) << early.status();
  EXPECT_EQ(early->underWay, std::vector<std::string>{"clicks"}) << "the worker has the key";
  EXPECT_EQ(early->receipt.number, std::nullopt);
  auto erasing = EraseInBackground("38");
  ASSERT_TRUE(WorkUntil(erasing).ok());
  const uint64_t count = *receipts_->ReadCount();
  EXPECT_EQ(Readmit(Context(), {.user = "38", .reason = "a\nb"}, {}).status().message(),
            "the reason has 1 to 500 bytes without control characters; nobody was readmitted");
  const auto response = Readmit(Context(), {.user = "38", .reason = "request 39"}, {.uid = 1000});
  ASSERT_TRUE(response.ok()) << response.status();
  ASSERT_EQ(response->keyspaces.size(), 1u);
  EXPECT_TRUE(response->underWay.empty());
  EXPECT_EQ(response->receipt.number, count + 1);
  const Json receipt = ReceiptOf(count + 1);
  EXPECT_EQ(receipt.at("kind"), "readmission");
  EXPECT_EQ(receipt.at("reason"), "request 39");
  EXPECT_FALSE(receipt.contains("erasure"));
  const Json keyspace = receipt.at("users").at(0).at("keyspaces").at(0);
  EXPECT_EQ(keyspace.at("erasedBefore"), response->keyspaces[0].erased);
  EXPECT_EQ(keyspace.at("pseudonym"), ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("pseudonym"));
  EXPECT_EQ(Readmit(Context(), {.user = "38"}, {}).status().code(), absl::StatusCode::kNotFound);
}

// The receipt of the erasure is there, and the registry is right not to know of it any more.
TEST_F(EraseTest, WhoWasReadmittedIsNotErasedAgain) {
  MakeKey("38");
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health);
  auto erasing = EraseInBackground("38");
  ASSERT_TRUE(WorkUntil(erasing).ok());
  ASSERT_EQ(Readmit(Context(), {.user = "38"}, {})->keyspaces.size(), 1u);
  const Json receipt = ReceiptOf(1);
  admin::EraseAgainCommand::Request request{.registry = keys_->registryId(), .keyspace = "clicks"};
  request.pseudonyms.push_back(receipt.at("users").at(0).at("keyspaces").at(0).at("pseudonym"));
  request.erasures.push_back(receipt.at("erasure"));
  EXPECT_EQ(EraseAgain(Context(), request, {})->missing, 0u);
  check.Look();
  EXPECT_TRUE(health.ok());
  // Whom a later erasure is about, which a restored registry has lost, is erased again.
  request.erasures = {static_cast<uint64_t>(*keys_->ReadLastErasure()) + 1};
  EXPECT_EQ(EraseAgain(Context(), request, {})->missing, 1u);
}

// The answer of the first may have been lost, and its receipt never written.
TEST_F(EraseTest, OfAUserThatWasErasedBeforeWaitsAndHasReceiptsToo) {
  MakeKey("38");
  auto first = EraseInBackground("38", 0);
  ASSERT_FALSE(first.get()->spread->complete);
  auto again = EraseInBackground("38");
  AwaitReceipts(3);
  ASSERT_NE(again.wait_for(std::chrono::milliseconds(100)), std::future_status::ready) << "the worker has the key";
  const auto response = WorkUntil(again);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->spread->complete);
  EXPECT_EQ(response->erased.keys, 0u);
  EXPECT_TRUE(response->erased.erasedBefore.has_value());
  const Json receipt = ReceiptOf(3);
  EXPECT_EQ(receipt.at("users").at(0).at("keys"), 0);
  const Json keyspace = receipt.at("users").at(0).at("keyspaces").at(0);
  EXPECT_EQ(keyspace.at("pseudonym"), ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("pseudonym"));
  EXPECT_EQ(keyspace.at("erasedBefore"), ReceiptOf(1).at("time"));
  EXPECT_EQ(ReceiptOf(4).at("kind"), "confirmation");

  const auto unknown = Erase(Context(), {.user = "nobody"}, {});
  EXPECT_TRUE(absl::IsNotFound(unknown.status())) << unknown.status();
  EXPECT_EQ(*receipts_->ReadCount(), 4u) << "nothing was erased";
}

TEST_F(EraseTest, AListHasUsersThatWereErasedBeforeInItsReceipt) {
  MakeKey("38");
  MakeKey("39");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  const auto response = EraseMany(Context(), {.users = {"38", "39", "39", "nobody"}}, {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->outcomes, testing::ElementsAre("erasedBefore", "erased", "erasedBefore", "noKey"));
  const Json users = ReceiptOf(2).at("users");
  ASSERT_EQ(users.size(), 2u);
  EXPECT_TRUE(users.at(0).at("keyspaces").at(0).contains("erasedBefore"));
  EXPECT_EQ(users.at(1).at("keys"), 1);
  EXPECT_FALSE(EraseMany(Context(), {.users = {"nobody"}}, {})->receipt.number.has_value());
}

TEST_F(EraseTest, IsAskedForAgainWhenTheRegistryHasLostItDuringTheWait) {
  MakeKey("38");
  MakeKey("39");
  BackUp();
  ASSERT_TRUE(EraseMany(Context(), {.users = {"39"}}, {}).ok());
  auto erasing = EraseInBackground("38");
  AwaitReceipts(2);
  EXPECT_EQ(ReceiptOf(2).at("erasure"), 2);
  Restore();
  const auto response = WorkUntil(erasing);
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_TRUE(response->spread->complete);
  EXPECT_GE(response->askedAgain, 1u);
  EXPECT_EQ(response->keysAgain, 1u) << "the key is back";
  EXPECT_EQ(*receipts_->ReadCount(), 3 + response->askedAgain) << "each has a receipt, and all have one confirmation";
  const Json confirmation = ReceiptOf(*response->confirmation.number);
  EXPECT_EQ(confirmation.at("erasure"), ReceiptOf(*response->receipt.number).at("erasure"));
  EXPECT_EQ(confirmation.at("erasure"), 1) << "a number that the registry has still to give confirms nothing";
  const auto now = EraseInBackground("38", 0).get();
  EXPECT_EQ(now->erased.keys, 0u);
}

TEST_F(EraseTest, NoErasureIsConfirmedThatTheRegistryHasLostDuringTheWait) {
  MakeKey("38");
  BackUp();
  const auto erased = EraseMany(Context(), {.users = {"38"}}, {});
  ASSERT_TRUE(erased.ok()) << erased.status();
  auto waiting = std::async(std::launch::async,
                            [&] { return AwaitErasure(Context(), {.number = erased->number, .waitSeconds = 10}, {}); });
  ASSERT_NE(waiting.wait_for(std::chrono::milliseconds(200)), std::future_status::ready) << "the worker has the key";
  Restore();
  const auto waited = WorkUntil(waiting);
  ASSERT_TRUE(waited.ok()) << waited.status();
  EXPECT_FALSE(waited->spread.complete);
  EXPECT_FALSE(ReceiptOf(*waited->receipt.number).at("spread").at("complete").get<bool>());
}

TEST_F(EraseTest, OfAListTellsWhetherTheRegistryWasOpenedAnewSince) {
  MakeKey("38");
  BackUp();
  const auto erased = EraseMany(Context(), {.users = {"38"}}, {});
  ASSERT_TRUE(erased.ok()) << erased.status();
  cache_->Refresh();
  const auto waited = AwaitErasure(Context(), {.number = erased->number}, {});
  ASSERT_TRUE(waited.ok()) << waited.status();
  EXPECT_EQ(waited->opening, erased->opening);
  Restore();
  const auto lost = AwaitErasure(Context(), {.number = erased->number, .waitSeconds = 0}, {});
  EXPECT_TRUE(absl::IsInvalidArgument(lost.status())) << lost.status();
  EXPECT_NE(EraseMany(Context(), {.users = {"38"}}, {})->opening, erased->opening);
}

// A backup from before two erasures, one of them of a user whose key it does not have.
TEST_F(EraseTest, ARegistryFromABackupIsFoundAndItsErasuresAreRepeated) {
  MakeKey("38");
  MakeKey("39");
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health);
  ASSERT_TRUE(EraseMany(Context(), {.users = {"39"}}, {}).ok());
  BackUp();
  MakeKey("40");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38", "40"}}, {}).ok());
  EXPECT_FALSE(check.isWhole()) << "nobody has looked yet";
  check.Look();
  EXPECT_TRUE(check.isWhole());
  EXPECT_TRUE(health.ok());
  Restore();
  check.Look();
  EXPECT_FALSE(check.isWhole());
  ASSERT_EQ(health.problems().size(), 1u);
  EXPECT_EQ(health.problems().front().name, "erasures");
  EXPECT_THAT(health.problems().front().message, testing::HasSubstr("does not know of 2 erasure(s)"));

  admin::EraseAgainCommand::Request request{.registry = keys_->registryId(), .keyspace = "clicks", .isDryRun = true};
  for (const uint64_t receipt : {1, 2}) {
    const Json users = ReceiptOf(receipt).at("users");
    for (const Json& user : users) {
      request.pseudonyms.push_back(user.at("keyspaces").at(0).at("pseudonym"));
      request.erasures.push_back(ReceiptOf(receipt).at("erasure"));
    }
  }
  request.pseudonyms.push_back(request.pseudonyms.front());  // one may be in several receipts
  request.erasures.push_back(request.erasures.front());
  auto response = EraseAgain(Context(), request, {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->missing, 2u);
  EXPECT_EQ(*receipts_->ReadCount(), 2u) << "it only looked";

  request.isDryRun = false;
  request.reason = "repeated";
  response = EraseAgain(Context(), request, {.uid = 1000});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->missing, 2u);
  EXPECT_EQ(response->keys, 1u);
  EXPECT_EQ(response->receipt.number, 3u);
  EXPECT_EQ(ReceiptOf(3).at("users").size(), 2u);
  EXPECT_EQ(ReceiptOf(3).at("reason"), "repeated");
  check.Look();
  EXPECT_TRUE(health.ok());
  const auto late = keys_->EraseUsers("clicks", std::vector<std::string>{"38", "40"});
  ASSERT_TRUE(late.ok());
  for (const keys::ErasedUser& user : late->users) EXPECT_TRUE(user.erasedBefore.has_value());
  EXPECT_EQ(EraseAgain(Context(), request, {})->missing, 0u);
  EXPECT_EQ(*receipts_->ReadCount(), 3u) << "nothing was erased";
}

// Newer receipts, as of those who are erased meanwhile, tell of others.
TEST_F(EraseTest, MissingErasuresAreAProblemUntilTheRegistryKnowsThem) {
  MakeKey("38");
  BackUp();
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  Restore();
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health, /*mostReceipts=*/2);
  check.Look();
  ASSERT_FALSE(health.ok());
  for (const std::string user : {"39", "40", "41"}) {
    MakeKey(user);
    ASSERT_TRUE(EraseMany(Context(), {.users = {user}}, {}).ok());
  }
  check.Look();
  EXPECT_FALSE(health.ok());
  BackUp();
  Restore();  // opened anew
  check.Look();
  ASSERT_FALSE(health.ok());
  EXPECT_THAT(health.problems().front().message, testing::HasSubstr("does not know of 1 erasure(s)"));
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  check.Look();
  EXPECT_TRUE(health.ok());
}

// With its head, and the first of them: the others tell what they tell.
TEST_F(EraseTest, MissingErasuresAreFoundWhereReceiptsAreLost) {
  MakeKey("38");
  MakeKey("39");
  BackUp();
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  ASSERT_TRUE(EraseMany(Context(), {.users = {"39"}}, {}).ok());
  Restore();
  fs::remove(folder_ + "/receipts/head");
  fs::remove(folder_ + "/receipts/00000001.json");
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health);
  check.Look();
  ASSERT_FALSE(health.ok());
  EXPECT_THAT(health.problems().front().message, testing::HasSubstr("does not know of 1 erasure(s)"));
}

// Whoever shuts down waits for one question, not for as many as there are receipts and users.
TEST_F(EraseTest, AnEndingCheckReadsNoFurtherReceipts) {
  MakeKey("38");
  BackUp();
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  Restore();
  observe::Health health;
  ErasureCheck ending(*keys_, *receipts_, health), check(*keys_, *receipts_, health);
  ending.End();
  ending.Look();
  EXPECT_TRUE(health.ok());
  check.Look();
  EXPECT_FALSE(health.ok());
}

// A key of theirs that comes back, as from another backup, is found and destroyed then.
TEST_F(EraseTest, WhoIsNotRememberedIsErasedWhenAKeyIsThere) {
  keys::KeyServiceOptions options = Options();
  options.registry.mostKeylessErasures = 0;
  Open(std::move(options));
  BackUp();
  MakeKey("38");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  Restore();
  admin::EraseAgainCommand::Request request{.registry = keys_->registryId(), .keyspace = "clicks"};
  request.pseudonyms.push_back(ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("pseudonym"));
  request.erasures.push_back(ReceiptOf(1).at("erasure"));
  auto response = EraseAgain(Context(), request, {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->refused, 1u);
  EXPECT_EQ(response->missing, 0u);
  EXPECT_EQ(*receipts_->ReadCount(), 1u) << "nothing was erased";
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health);
  check.Look();
  EXPECT_FALSE(health.ok()) << "it says that this one is not remembered";
  MakeKey("38");
  response = EraseAgain(Context(), request, {});
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->refused, 0u);
  EXPECT_EQ(response->keys, 1u);
  check.Look();
  EXPECT_TRUE(health.ok());
}

TEST_F(EraseTest, TellsWhichRegistryReceiptsHaveToBeOf) {
  const auto told = EraseAgain(Context(), {.registry = "", .keyspace = "", .isDryRun = true}, {});
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->registry, keys_->registryId());
  EXPECT_TRUE(absl::IsInvalidArgument(EraseAgain(Context(), {.registry = "", .keyspace = "clicks"}, {}).status()));
}

TEST_F(EraseTest, ErasesNobodyForReceiptsOfAnotherRegistryNorForNonsense) {
  MakeKey("38");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  MakeKey("39");
  const std::string pseudonym = PseudonymOf(keys_->ReadSubjectsOf("clicks", "39")->front().subject);
  const std::string own = keys_->registryId();
  for (const admin::EraseAgainCommand::Request& wrong :
       {admin::EraseAgainCommand::Request{
            .registry = std::string(32, '0'), .keyspace = "clicks", .pseudonyms = {pseudonym}, .erasures = {1}},
        {.registry = own, .keyspace = "clicks", .pseudonyms = {pseudonym.substr(2)}, .erasures = {1}},
        {.registry = own, .keyspace = "clicks", .pseudonyms = {"x" + pseudonym.substr(1)}, .erasures = {1}},
        {.registry = own,
        .keyspace = "clicks",
        .pseudonyms = std::vector<std::string>(257, pseudonym),
        .erasures = std::vector<uint64_t>(257, 1)},
        {.registry = own, .keyspace = "clicks", .pseudonyms = {pseudonym}}}) {
    const auto refused = EraseAgain(Context(), wrong, {});
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  }
  EXPECT_EQ(*receipts_->ReadCount(), 1u);
  EXPECT_EQ(EraseMany(Context(), {.users = {"39"}}, {})->outcomes, std::vector<std::string>{"erased"});
}

TEST_F(EraseTest, KeysAreListedWithTheNamesThatReceiptsHave) {
  MakeKey("38");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  EXPECT_EQ(admin::ListKeysCommand::kAccess, admin::Access::kErase) << "who was erased is not for everybody";
  const auto list = ListKeys(*keys_, {.from = "", .most = 10});
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_EQ(list->keys.size(), 1u);
  EXPECT_EQ(list->keys[0].id.size(), 32u);
  EXPECT_EQ(list->keys[0].scope, "user");
  EXPECT_EQ(list->keys[0].pseudonym, ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("pseudonym"));
  EXPECT_TRUE(list->keys[0].erased.has_value());
  EXPECT_FALSE(list->keys[0].window.has_value());
  EXPECT_FALSE(list->next.has_value());
  EXPECT_EQ(ListKeys(*keys_, {.from = list->keys[0].id, .most = 1})->keys.size(), 1u);
  for (const admin::ListKeysCommand::Request& wrong : {admin::ListKeysCommand::Request{.from = "0", .most = 1},
                                                       {.from = "zz", .most = 1},
                                                       {.from = "", .most = 0},
                                                       {.from = "", .most = 201}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ListKeys(*keys_, wrong).status()));
  }
}

// Whoever can write into the folder, and has no key, has nobody taken for erased.
TEST_F(EraseTest, AForgedReceiptIsNoMissingErasure) {
  MakeKey("38");
  ASSERT_TRUE(EraseMany(Context(), {.users = {"38"}}, {}).ok());
  const std::string path = folder_ + "/receipts/00000001.json";
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  std::string forged = text.str();
  const std::string pseudonym = ReceiptOf(1).at("users").at(0).at("keyspaces").at(0).at("pseudonym");
  forged.replace(forged.find(pseudonym), 64, std::string(64, 'a'));
  std::ofstream(path) << forged;
  observe::Health health;
  ErasureCheck check(*keys_, *receipts_, health);
  check.Look();
  EXPECT_TRUE(health.ok());
}

}  // namespace
}  // namespace kveil::daemon
