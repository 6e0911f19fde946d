// What the agent does when it is told what is known of users.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using admin::ChangeUsersCommand;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kPolicy[] = R"({"purposes": ["marketing"], "topics": [
    {"name": "clicks", "seal": {"scope": "user", "user": {"value": "/id"}, "keyspace": "customers"}, "read": []},
    {"name": "orders", "seal": {"scope": "user", "user": {"value": "/id"}, "keyspace": "customers"}, "read": []},
    {"name": "visits", "seal": {"scope": "user", "user": {"value": "/id"}, "keyspace": "guests"}, "read": []},
    {"name": "prices", "seal": {"scope": "topic"}, "read": []}]})";

class UsersTest : public testing::Test {
 protected:
  UsersTest() {
    char path[] = "/tmp/kveil-users-XXXXXX";
    folder_ = mkdtemp(path);
    std::filesystem::create_directory(folder_ + "/policies");
    SetPolicy(kPolicy);
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.agentName = "node-a:7";
    keys_ = *keys::KeyService::Open(std::move(options));
    policies_ = *policy::PolicyStore::Open(folder_ + "/policies", {});
  }
  ~UsersTest() override {
    keys_.reset();
    std::filesystem::remove_all(folder_);
  }

  void SetPolicy(std::string_view text) { std::ofstream(folder_ + "/policies/a.json") << text; }
  UsersContext Context() { return {*keys_, *policies_}; }
  static ChangeUsersCommand::Change Change(std::string_view action, std::string user, std::string name) {
    ChangeUsersCommand::Change change;
    change.user = std::move(user);
    change.action = action;
    change.name = std::move(name);
    return change;
  }
  absl::StatusOr<ChangeUsersCommand::Response> Make(std::vector<ChangeUsersCommand::Change> changes,
                                                    std::optional<std::string> keyspace = {}) {
    return ChangeUsers(Context(), {std::move(changes), std::move(keyspace)}, {.uid = 1000});
  }
  std::vector<admin::ReadUserCommand::Known> Known(const std::string& user) {
    auto known = ReadUser(Context(), {user, std::nullopt}, {});
    EXPECT_TRUE(known.ok()) << known.status();
    return known.ok() ? known->known : std::vector<admin::ReadUserCommand::Known>();
  }

  std::string folder_;
  std::unique_ptr<keys::KeyService> keys_;
  std::unique_ptr<policy::PolicyStore> policies_;
};

TEST_F(UsersTest, GrantsInTheKeyspacesOfThePoliciesAndWithdrawsWhereverAnythingIsKnown) {
  const auto granted = Make({Change("grant", "38", "marketing")});
  ASSERT_TRUE(granted.ok()) << granted.status();
  EXPECT_THAT(granted->outcomes, ElementsAre("changed"));
  EXPECT_THAT(granted->keyspaces, ElementsAre("customers", "guests"));
  EXPECT_GT(granted->number, 0u);
  EXPECT_THAT(granted->undeclared, IsEmpty());
  EXPECT_THAT(granted->opening, HasSubstr("node-a:7/"));
  EXPECT_FALSE(granted->isUnnamed);
  const auto elsewhere = Make({Change("grant", "38", "marketing")}, "of-old-policies");
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  EXPECT_TRUE(elsewhere->isUnnamed);
  EXPECT_FALSE(Make({Change("grant", "38", "marketing")}, "customers")->isUnnamed);
  ASSERT_EQ(Known("38").size(), 3u);
  EXPECT_TRUE(Known("38")[2].consents.at(0).holds);
  const auto withdrawn = Make({Change("withdraw", "38", "marketing")});
  ASSERT_TRUE(withdrawn.ok()) << withdrawn.status();
  EXPECT_THAT(withdrawn->keyspaces, ElementsAre("customers", "guests", "of-old-policies"));
  for (const auto& known : Known("38")) {
    EXPECT_THAT(known.consents, IsEmpty()) << known.keyspace;
    ASSERT_EQ(known.history.size(), 2u);
    EXPECT_EQ(known.history[0].granted.at(0).purpose, "marketing");
    EXPECT_EQ(known.history[1].uid, 1000u);
    EXPECT_EQ(known.history[1].agent, "node-a:7");
    EXPECT_THAT(known.history[1].withdrawn, ElementsAre("marketing"));
  }
  const auto awaited = AwaitChanges(Context(), {withdrawn->number, 10}, {});
  ASSERT_TRUE(awaited.ok()) << awaited.status();
  EXPECT_TRUE(awaited->spread.complete);
  EXPECT_EQ(awaited->opening, withdrawn->opening);
  EXPECT_TRUE(absl::IsInvalidArgument(AwaitChanges(Context(), {withdrawn->number + 1, 0}, {}).status()));
}

TEST_F(UsersTest, SaysWhenNothingIsKnownOfAUser) {
  EXPECT_FALSE(Make({Change("withdraw", "38", "a")})->isKnown) << "there is no keyspace";
  ASSERT_TRUE(Make({Change("grant", "38", "a")}, "guests").ok());
  EXPECT_FALSE(Make({Change("withdraw", "0x38", "a")})->isKnown);
  EXPECT_FALSE(Make({Change("withdraw", "38", "a")}, "gests")->isKnown);
  EXPECT_TRUE(Make({Change("withdraw", "38", "a")})->isKnown);
  EXPECT_TRUE(Make({Change("withdraw", "38", "a")})->isKnown) << "it was so before";
  ASSERT_TRUE(keys_->Erase("guests", "38").ok());
  EXPECT_TRUE(Make({Change("withdraw", "38", "a")})->isKnown) << "the user was erased";
}

TEST_F(UsersTest, SaysWhatBecameOfAChangeInSeveralKeyspaces) {
  ASSERT_TRUE(Make({Change("grant", "38", "a")}, "guests").ok());
  EXPECT_THAT(Make({Change("grant", "38", "a")})->outcomes, ElementsAre("changed"));
  EXPECT_THAT(Make({Change("grant", "38", "a"), Change("withdraw", "38", "b")})->outcomes,
              ElementsAre("unchanged", "unchanged"));
  ASSERT_TRUE(keys_->Erase("guests", "38").ok());
  EXPECT_THAT(Make({Change("grant", "38", "b")})->outcomes, ElementsAre("changed")) << "where the user is not erased";
  ASSERT_TRUE(keys_->Erase("customers", "38").ok());
  EXPECT_THAT(Make({Change("grant", "38", "a"), Change("withdraw", "38", "a")})->outcomes,
              ElementsAre("erased", "erased"));
  for (const auto& known : Known("38")) EXPECT_TRUE(known.erased.has_value());
}

TEST_F(UsersTest, MakesManyChangesInTheirOrder) {
  std::vector<ChangeUsersCommand::Change> changes;
  for (size_t i = 0; i < ChangeUsersCommand::kMostChanges; ++i) {
    changes.push_back(Change(i % 2 == 0 ? "grant" : "withdraw", StrCat(i / 4), "a"));
  }
  changes.back().action = "grant";
  const auto made = Make(changes);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->outcomes.size(), changes.size());
  EXPECT_THAT(Known("0").at(0).consents, IsEmpty());
  EXPECT_EQ(Known("63").at(1).consents.size(), 1u);
  changes.push_back(changes.back());
  EXPECT_TRUE(absl::IsInvalidArgument(Make(changes).status()));
}

TEST_F(UsersTest, RefusesWhatIsWrongBeforeAnythingIsChanged) {
  const auto expect = [&](ChangeUsersCommand::Change wrong, std::string_view said) {
    const auto made = Make({Change("grant", "40", "fine"), std::move(wrong)});
    EXPECT_TRUE(absl::IsInvalidArgument(made.status())) << made.status();
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(std::string(said)));
  };
  expect(Change("give", "38", "a"), "no action \"give\"");
  expect(Change("grant", "38", "a b"), "a purpose is 1 to 64");
  expect(Change("grant", "", "a"), "a user's id has 1 to 1024 bytes");
  expect(Change("set", "38", "a"), "has a value");
  ChangeUsersCommand::Change change = Change("grant", "38", "a");
  change.until = "next year";
  expect(change, "is no time such as");
  change.until = "2020-01-01";
  expect(change, "is over already");
  change = Change("withdraw", "38", "a");
  change.until = "2027-01-01";
  expect(change, "only a consent that is granted has an end");
  change = Change("set", "38", "a");
  change.value = "";
  expect(change, "1 to 256 bytes");
  EXPECT_THAT(Known("40"), IsEmpty());
  EXPECT_TRUE(absl::IsInvalidArgument(Make({Change("grant", "38", "a")}, "").status()));
  SetPolicy(R"({"topics": [{"name": "prices", "seal": {"scope": "topic"}, "read": []}]})");
  ASSERT_TRUE(policies_->Reload().ok());
  const auto nowhere = Make({Change("grant", "38", "a")});
  EXPECT_THAT(std::string(nowhere.status().message()),
              HasSubstr("no policy of this agent seals with the keys of users"));
}

TEST_F(UsersTest, RecordsAndNamesAPurposeThatNoPolicyDeclares) {
  const auto granted = Make({Change("grant", "38", "news"), Change("grant", "39", "news"),
                             Change("grant", "38", "marketing"), Change("withdraw", "38", "other")});
  ASSERT_TRUE(granted.ok()) << granted.status();
  EXPECT_THAT(granted->undeclared, ElementsAre("news"));
  EXPECT_EQ(Known("39").at(0).consents.at(0).purpose, "news");
}

TEST_F(UsersTest, ShowsWhenAConsentEndsAndWhetherItHolds) {
  ChangeUsersCommand::Change later = Change("grant", "38", "future");
  later.until = "2999-01-01";
  ASSERT_TRUE(Make({later}, "customers").ok());
  const keys::UserChange past[] = {
      {"38", "customers", {.name = "past", .until = *users::ParseUntil("2020-02-29T12:30:00+01:00")}}};
  ASSERT_TRUE(keys_->ChangeUsers(past, 0).ok());
  const auto known = Known("38");
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known[0].consents[0].until, "2999-01-01T00:00:00+00:00");
  EXPECT_TRUE(known[0].consents[0].holds);
  EXPECT_EQ(known[0].consents[1].until, "2020-02-29T11:30:00+00:00");
  EXPECT_FALSE(known[0].consents[1].holds);
}

TEST_F(UsersTest, HasATopicReadAnew) {
  EXPECT_TRUE(absl::IsNotFound(RereadConsents(Context(), {"customers"}, {.uid = 1000}).status()));
  const auto led = keys_->LeadSource("customers", std::chrono::seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  const keys::Registry::SourceMove move{
      "customers", (*led)->source.term, 1, "at 1", std::chrono::seconds(0), std::chrono::hours(1), ""};
  ASSERT_TRUE(keys_->FollowSource(move, (*led)->opening, {}, false)->isDone);
  auto asked = RereadConsents(Context(), {"customers"}, {.uid = 1000});
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_TRUE(asked->isFollowed);
  EXPECT_EQ(asked->follower, keys_->agentName());
  EXPECT_EQ(keys_->ReadSources()->at(0).state, keys::kReadAnew);
  const auto again = keys_->LeadSource("customers", std::chrono::seconds(6));
  ASSERT_TRUE(again.ok() && again->has_value()) << again.status();
  const keys::Registry::SourceMove longAgo{
      "customers", (*again)->source.term, 1, "at 2", std::chrono::minutes(1), std::chrono::hours(1), keys::kReadAnew};
  ASSERT_TRUE(keys_->FollowSource(longAgo, (*again)->opening, {}, false)->isDone);
  asked = RereadConsents(Context(), {"customers"}, {.uid = 1000});
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_FALSE(asked->isFollowed) << "for a minute";
}

}  // namespace
}  // namespace kveil::daemon
