// What the agent says of its audit trail: under which pseudonyms a user is there, also one that was erased.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <future>

#include "audit/query.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

class AuditCommandTest : public testing::Test {
 protected:
  AuditCommandTest() {
    char path[] = "/tmp/kveil-audit-XXXXXX";
    folder_ = mkdtemp(path);
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    keys_ = *keys::KeyService::Open(std::move(options));
    audit::Recorder::Options recorder;
    recorder.folder = folder_ + "/audit";
    recorder.pseudonymsOf = PseudonymsFrom(*keys_);
    recorder.wallClock = [this] { return absl::UnixEpoch() + Now(); };
    recorder.steadyClock = [this] { return Now(); };
    recorder_ = std::make_unique<audit::Recorder>(std::move(recorder), std::vector<audit::Tally*>{&tally_});
    minutes_ = 1;  // it writes at most once a second
  }
  ~AuditCommandTest() override {
    recorder_.reset();
    keys_.reset();
    std::filesystem::remove_all(folder_);
  }

  crypto::KeyId KeyOf(keys::Scope scope, const std::string& keyspace, const std::string& subject) {
    keys::Misses misses;
    misses.scopes.emplace_back(keys::ScopeName{scope, keyspace, subject});
    std::promise<keys::FetchResult> promise;
    keys_->Fetch(std::move(misses), "app", [&](keys::FetchResult result) { promise.set_value(std::move(result)); });
    keys::FetchResult result = promise.get_future().get();
    EXPECT_EQ(result.scopes.size(), 1u);
    return result.scopes.empty() ? crypto::KeyId() : result.scopes[0].key.id;
  }
  std::vector<admin::AuditCommand::Pseudonym> PseudonymsOf(const std::string& user,
                                                           std::optional<std::string> keyspace = std::nullopt) {
    const auto response = Audit(recorder_.get(), *keys_, {.user = user, .keyspace = std::move(keyspace)});
    EXPECT_TRUE(response.ok()) << response.status();
    return response.ok() ? response->pseudonyms : std::vector<admin::AuditCommand::Pseudonym>();
  }

  std::string folder_;
  std::unique_ptr<keys::KeyService> keys_;
  absl::Duration Now() const { return absl::Hours(500'000) + minutes_ * absl::Minutes(1); }

  int minutes_ = 0;
  audit::Tally tally_;
  std::unique_ptr<audit::Recorder> recorder_;
};

TEST_F(AuditCommandTest, FindsWhatWasCountedForAUserAlsoAfterTheErasure) {
  const crypto::KeyId anna = KeyOf(keys::Scope::kUser, "clicks", "anna");
  const crypto::KeyId topic = KeyOf(keys::Scope::kTopic, "main", "orders");
  const crypto::KeyId keys[] = {anna, topic, crypto::KeyId()};
  identity::Workload workload;
  workload.share = workload.unit = "a.service";
  tally_.Add(workload, {.topic = "clicks", .isByUser = true}, {.records = 3}, keys);
  ASSERT_TRUE(keys_->Erase(std::nullopt, "anna").ok());
  const std::vector<admin::AuditCommand::Pseudonym> pseudonyms = PseudonymsOf("anna");
  ASSERT_THAT(pseudonyms, SizeIs(1));
  EXPECT_EQ(pseudonyms[0].keyspace, "clicks");
  const auto answer = audit::Ask(recorder_->folder(), *audit::ReadPublicKey(recorder_->folder(), ""),
                                 {.pseudonyms = {{pseudonyms[0].pseudonym}}});
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_THAT(answer->done, SizeIs(1));
  EXPECT_EQ(answer->done[0].counts.records, 1u);
}

TEST_F(AuditCommandTest, TellsUsersAndKeyspacesApart) {
  (void)KeyOf(keys::Scope::kUser, "clicks", "anna");
  (void)KeyOf(keys::Scope::kUser, "orders", "bert");
  EXPECT_THAT(PseudonymsOf("anna"), SizeIs(2)) << "in every keyspace, also where the user is not known";
  const auto anna = PseudonymsOf("anna", "clicks");
  const auto bert = PseudonymsOf("bert", "clicks");
  ASSERT_THAT(anna, SizeIs(1));
  ASSERT_THAT(bert, SizeIs(1));
  EXPECT_NE(anna[0].pseudonym, bert[0].pseudonym);
  EXPECT_NE(anna[0].pseudonym, PseudonymsOf("anna", "orders")[0].pseudonym);
  EXPECT_EQ(anna[0].pseudonym.size(), 64u);
}

TEST_F(AuditCommandTest, SaysWhoseThePseudonymsAre) {
  const auto response = Audit(recorder_.get(), *keys_, {.user = "anna", .keyspace = std::nullopt});
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->registry.value_or(""), *RegistryMark(*keys_));
  EXPECT_EQ(response->registry.value_or("").size(), 16u);
}

TEST_F(AuditCommandTest, RefusesAKeyspaceThatIsNone) {
  (void)KeyOf(keys::Scope::kUser, "clicks", "anna");
  const auto response = Audit(recorder_.get(), *keys_, {.user = "anna", .keyspace = "click"});
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(response.status().message(), "the registry has no keyspace \"click\"");
}

TEST_F(AuditCommandTest, SaysThatThereIsNoTrail) {
  const auto response = Audit(nullptr, *keys_, {});
  ASSERT_TRUE(response.ok());
  EXPECT_FALSE(response->folder.has_value());
  EXPECT_THAT(response->pseudonyms, IsEmpty());
}

}  // namespace
}  // namespace kveil::daemon
