// What is known of users: how it comes with their keys, and how soon a change reaches every cache.
#include <gmock/gmock.h>
#include <malloc.h>
#include <signal.h>
#include <sqlite3.h>

#include <atomic>
#include <fstream>
#include <limits>
#include <set>
#include <thread>

#include "absl/strings/match.h"
#include "base/text.h"
#include "key_fixture.h"
#include "keys/service/erasure_spread.h"
#include "keys/service/facts_pool.h"
#include "keys/service/source_clocks.h"
#include "postgres_server.h"

// Of sanitizers.
extern "C" size_t __sanitizer_get_current_allocated_bytes() __attribute__((weak));  // NOLINT

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using Kind = users::FactsChange::Kind;
using Outcome = ChangedUsers::Outcome;

class UserChangesTest : public KeyTest {
 protected:
  static UserChange Change(Kind kind, std::string_view user, std::string_view name, std::string_view value = {},
                           std::string_view keyspace = "clicks") {
    return {std::string(user),
            std::string(keyspace),
            {kind, std::string(name), absl::InfiniteFuture(), std::string(value)}};
  }
  static UserChange Granted(std::string_view user, std::string_view purpose) {
    return Change(Kind::kGrant, user, purpose);
  }
  static UserChange Withdrawn(std::string_view user, std::string_view purpose) {
    return Change(Kind::kWithdraw, user, purpose);
  }
  static std::vector<Outcome> Make(KeyService& service, const std::vector<UserChange>& changes) {
    const auto changed = service.ChangeUsers(changes, 1000);
    EXPECT_TRUE(changed.ok()) << changed.status();
    return changed.ok() ? changed->outcomes : std::vector<Outcome>();
  }
  // As a rule would ask.
  static bool Consents(KeyService& service, KeyCache& cache, std::string_view user, std::string_view purpose) {
    const CachedKey* const key = SealingKey(service, cache, User(user));
    const users::UserFacts* const facts = key == nullptr ? nullptr : cache.FactsOf(*key);
    return facts != nullptr && facts->Consents(purpose, service.options().wallNow());
  }
  // Of the registry's file, as somebody who writes to it would have it.
  void Execute(const std::string& sql) {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    sqlite3_busy_timeout(database, 10'000);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(database);
  }
};

TEST_F(UserChangesTest, AConsentComesWithTheKeyAndGoesAtOnceWhenItIsWithdrawn) {
  auto service = Open();
  KeyCache cache(*service);
  EXPECT_FALSE(Consents(*service, cache, "38", "marketing"));
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  EXPECT_THAT(Make(*service, {Granted("38", "marketing"), Granted("39", "marketing")}),
              ElementsAre(Outcome::kChanged, Outcome::kChanged));
  EXPECT_TRUE(Consents(*service, cache, "38", "marketing"));
  EXPECT_TRUE(Consents(*service, cache, "39", "marketing")) << "granted before there was a key";
  EXPECT_EQ(cache.FactsOf(*cache.FindForSealing(User("38"))), cache.FactsOf(*cache.FindForSealing(User("39"))))
      << "the same facts take memory once";
  EXPECT_EQ(cache.FindForSealing(User("38"))->id, id) << "the key is the same";
  EXPECT_FALSE(Consents(*service, cache, "38", "research"));
  EXPECT_THAT(Make(*service, {Withdrawn("38", "marketing")}), ElementsAre(Outcome::kChanged));
  EXPECT_FALSE(Consents(*service, cache, "38", "marketing"));
  EXPECT_TRUE(Consents(*service, cache, "39", "marketing"));
}

TEST_F(UserChangesTest, AFetchThatWasUnderWayBringsNoWithdrawnConsentBack) {
  auto service = Open();
  KeyCache cache(*service);
  Make(*service, {Granted("38", "marketing")});
  const crypto::KeyId id = SealingKey(*service, cache, User("38"))->id;
  Misses byName, byId;
  byName.scopes.emplace_back(User("38"));
  byId.ids.push_back(id);
  FetchResult named = Ask(*service, byName);
  FetchResult identified = Ask(*service, byId);
  ASSERT_TRUE(named.scopes.at(0).key.facts->Consents("marketing", absl::Now()));
  Make(*service, {Withdrawn("38", "marketing")});
  KeyCache fresh(*service);
  for (KeyCache* const one : {&cache, &fresh}) {
    FetchResult again = Ask(*service, byName);
    ASSERT_TRUE(one->Deliver(std::move(one == &cache ? named : identified)).ok());
    const CachedKey* const key = one->FindForSealing(User("38"));
    EXPECT_EQ(key, nullptr) << "it is asked for again";
    EXPECT_EQ(one->FindById(id).state, KeyCache::State::kNotCached);
    EXPECT_FALSE(Consents(*service, *one, "38", "marketing"));
  }
}

TEST_F(UserChangesTest, SaysWhatBecameOfEachChange) {
  auto service = Open();
  EXPECT_THAT(
      Make(*service, {Granted("38", "a"), Granted("38", "a"), Withdrawn("38", "b"), Granted("38", "b"),
                      Change(Kind::kSet, "38", "region", "eu")}),
      ElementsAre(Outcome::kChanged, Outcome::kUnchanged, Outcome::kUnchanged, Outcome::kChanged, Outcome::kChanged));
  EXPECT_THAT(Make(*service, {Granted("38", "a")}), ElementsAre(Outcome::kUnchanged));
  std::vector<UserChange> many;
  for (size_t i = 0; i < users::kMostConsents; ++i) many.push_back(Granted("40", StrCat("p", i)));
  many.push_back(Granted("40", "one-too-many"));
  EXPECT_EQ(Make(*service, many).back(), Outcome::kTooMany);
  EXPECT_EQ(service->ReadUser("clicks", "40")->at(0).facts.consents.size(), users::kMostConsents);
  many.assign(kMostUserChanges + 1, Granted("41", "a"));
  EXPECT_TRUE(absl::IsInvalidArgument(service->ChangeUsers(many, 0).status()));
}

// Whoever repeats a change waits for the agents as the first did: its answer may have been lost.
TEST_F(UserChangesTest, ARepeatedChangeTellsTheNumberOfTheFirst) {
  auto service = Open();
  const UserChange granted[] = {Granted("38", "marketing")};
  const UserChange withdrawn[] = {Withdrawn("38", "marketing")};
  EXPECT_EQ(service->ChangeUsers(withdrawn, 0)->number, 0) << "nothing was ever known";
  ASSERT_TRUE(service->ChangeUsers(granted, 0).ok());
  const int64_t number = service->ChangeUsers(withdrawn, 0)->number;
  ASSERT_GT(number, 0);
  Make(*service, {Granted("39", "marketing")});
  EXPECT_EQ(service->ChangeUsers(withdrawn, 0)->number, number);
}

TEST_F(UserChangesTest, ReadsWhatIsKnownInEveryKeyspaceAndItsHistory) {
  auto service = Open();
  Make(*service,
       {Granted("38", "a"), Change(Kind::kSet, "38", "region", "eu"), Change(Kind::kGrant, "38", "b", {}, "orders")});
  Advance(seconds(5));
  Make(*service, {Withdrawn("38", "a")});
  const auto all = service->ReadUser(std::nullopt, "38");
  ASSERT_TRUE(all.ok()) << all.status();
  ASSERT_EQ(all->size(), 2u);
  EXPECT_EQ(all->at(0).keyspace, "clicks");
  EXPECT_THAT(all->at(0).facts.consents, IsEmpty());
  EXPECT_EQ(*all->at(0).facts.Attribute("region"), "eu");
  ASSERT_EQ(all->at(0).history.size(), 2u);
  const std::string agent = service->agentName();
  EXPECT_EQ(all->at(0).history[0].text, StrCat(R"({"uid":1000,"agent":")", agent, R"(","granted":[{"purpose":"a"}]})"));
  EXPECT_EQ(all->at(0).history[1].text, StrCat(R"({"uid":1000,"agent":")", agent, R"(","withdrawn":["a"]})"));
  EXPECT_EQ(all->at(0).history[1].time - all->at(0).history[0].time, absl::Seconds(5));
  EXPECT_EQ(all->at(1).keyspace, "orders");
  EXPECT_TRUE(all->at(1).facts.Consents("b", absl::Now()));
  EXPECT_THAT(*service->ReadUser(std::nullopt, "39"), IsEmpty());
}

TEST_F(UserChangesTest, AnErasureDeletesWhatIsKnownForGood) {
  auto service = Open();
  KeyCache cache(*service);
  Make(*service,
       {Granted("38", "marketing"), Change(Kind::kSet, "38", "name", "not-to-be-found"), Granted("39", "marketing")});
  ASSERT_TRUE(Consents(*service, cache, "38", "marketing"));
  ASSERT_TRUE(service->Erase(std::nullopt, "38").ok());
  const auto keyless = service->Erase(std::nullopt, "39");
  ASSERT_TRUE(keyless.ok()) << keyless.status();
  EXPECT_EQ(keyless->keyCount, 0u);
  for (const char* user : {"38", "39"}) {
    EXPECT_FALSE(Consents(*service, cache, user, "marketing"));
    EXPECT_THAT(Make(*service, {Granted(user, "marketing")}), ElementsAre(Outcome::kErased));
    EXPECT_FALSE(Consents(*service, cache, user, "marketing"));
    EXPECT_TRUE(SealingKey(*service, cache, User(user))->erasedSubject);
    const auto known = service->ReadUser("clicks", user);
    ASSERT_EQ(known->size(), 1u);
    EXPECT_TRUE(known->at(0).facts.empty());
    EXPECT_TRUE(known->at(0).erased.has_value());
    EXPECT_TRUE(absl::IsAlreadyExists(service->Erase(std::nullopt, user).status()));
  }
  // As after an agent of an older version erased them.
  Execute("INSERT INTO users (subject, number, changed, facts) SELECT subject, -1, 0, x'7b7d' FROM erasures LIMIT 1");
  ASSERT_TRUE(service->ReadUser("clicks", "38")->at(0).isDamaged || service->ReadUser("clicks", "39")->at(0).isDamaged);
  for (const char* user : {"38", "39"}) {
    EXPECT_TRUE(absl::IsAlreadyExists(service->Erase(std::nullopt, user).status()));
    EXPECT_FALSE(service->ReadUser("clicks", user)->at(0).isDamaged) << "it was not deleted";
  }
  const std::string bytes = ReadFile(registryFile()) + ReadFile(registryFile() + "-wal");
  EXPECT_EQ(bytes.find("not-to-be-found"), std::string::npos) << "it is still in the file";
  EXPECT_TRUE(absl::IsNotFound(service->Erase(std::nullopt, "nobody").status()));
}

TEST_F(UserChangesTest, TheHistoryHasWhatChangesAtOnceHaveComeTo) {
  auto service = Open();
  const std::string agent = service->agentName();
  Make(*service, {Granted("38", "a"), Granted("38", "b"), Withdrawn("38", "a"), Granted("38", "a"), Granted("38", "c"),
                  Withdrawn("38", "c")});
  const auto known = service->ReadUser("clicks", "38");
  EXPECT_EQ(known->at(0).history.at(0).text,
            StrCat(R"({"uid":1000,"agent":")", agent, R"(","granted":[{"purpose":"a"},{"purpose":"b"}]})"));
}

TEST_F(UserChangesTest, AConsentThatHasEndedTakesNoPlace) {
  auto service = Open();
  std::vector<UserChange> many;
  for (size_t i = 0; i < users::kMostConsents; ++i) many.push_back(Granted("38", StrCat("p", i)));
  many[7].change.until = service->options().wallNow() + absl::Seconds(5);
  Make(*service, many);
  EXPECT_THAT(Make(*service, {Granted("38", "more")}), ElementsAre(Outcome::kTooMany));
  Advance(seconds(5));
  EXPECT_THAT(Make(*service, {Granted("38", "more")}), ElementsAre(Outcome::kChanged));
  EXPECT_EQ(service->ReadUser("clicks", "38")->at(0).facts.consents.size(), users::kMostConsents);
}

TEST_F(UserChangesTest, WhatIsDamagedStaysAsItIs) {
  auto service = Open();
  KeyCache cache(*service);
  Make(*service, {Granted("38", "marketing"), Granted("39", "marketing")});
  Execute("UPDATE users SET facts = x'7b22636f6e73656e7473223a' WHERE number = (SELECT min(number) FROM users)");
  EXPECT_FALSE(Consents(*service, cache, "38", "marketing"));
  const CachedKey* const key = cache.FindForSealing(User("38"));
  ASSERT_NE(key, nullptr) << "the key itself is whole";
  EXPECT_TRUE(users::IsDamaged(cache.FactsOf(*key))) << "nothing known is something else";
  EXPECT_TRUE(Consents(*service, cache, "39", "marketing"));
  EXPECT_FALSE(users::IsDamaged(cache.FactsOf(*cache.FindForSealing(User("39")))));
  EXPECT_THAT(std::string(service->health().message()), HasSubstr("what is known of a user is damaged"));
  EXPECT_TRUE(service->ReadUser("clicks", "38")->at(0).isDamaged);
  for (const UserChange& change : {Withdrawn("38", "research"), Granted("38", "news")}) {
    const UserChange changes[] = {change, Granted("39", "news")};
    const auto changed = service->ChangeUsers(changes, 0);
    ASSERT_TRUE(changed.ok()) << changed.status();
    EXPECT_EQ(changed->outcomes[0], Outcome::kDamaged);
  }
  EXPECT_TRUE(service->ReadUser("clicks", "38")->at(0).isDamaged) << "what the user consented to is lost";
  EXPECT_FALSE(Consents(*service, cache, "38", "news"));
  EXPECT_TRUE(Consents(*service, cache, "39", "news")) << "the others are changed";
}

TEST_F(UserChangesTest, ARecordOfADamagedUserIsLeftOutOnlyWhereTheStateSaysSo) {
  auto service = Open();
  Make(*service, {Granted("38", "marketing")});
  Execute("UPDATE users SET facts = x'7b22636f6e73656e7473223a'");
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  const Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 2", {}, seconds(60), ""};
  const ConsentRecord records[] = {{"38", 0, {}}, {"39", 0, {{"marketing"}}}};
  const auto held = service->FollowSource(move, (*led)->opening, records, /*mayLeaveOut=*/false);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_FALSE(held->isDone);
  EXPECT_EQ(held->damaged, 1u);
  EXPECT_EQ(service->ReadSources()->at(0).state, "");
  EXPECT_THAT(*service->ReadUser("clicks", "39"), IsEmpty());
  const auto done = service->FollowSource(move, (*led)->opening, records, /*mayLeaveOut=*/true);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_TRUE(done->isDone);
  EXPECT_TRUE(service->ReadUser("clicks", "38")->at(0).isDamaged);
  EXPECT_EQ(service->ReadUser("clicks", "39")->at(0).facts.consents.size(), 1u);
}

// A user must not be taken over because this agent does not know how it stands.
TEST_F(UserChangesTest, OnlyAStaleTopicsUsersAreGrantedByCommands) {
  auto service = Open();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  const ConsentRecord record{"38", 0, {{"marketing"}}};
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", {}, seconds(60), ""};
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
  EXPECT_THAT(Make(*service, {Granted("38", "news")}), ElementsAre(Outcome::kFollowed)) << "it is being read";
  move.before = "at 1";
  move.age = seconds(0);
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {}, false)->isDone);
  EXPECT_THAT(Make(*service, {Granted("38", "news")}), ElementsAre(Outcome::kFollowed));
  move.age = seconds(61);
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {}, false)->isDone);
  EXPECT_THAT(Make(*service, {Granted("38", "news")}), ElementsAre(Outcome::kChanged));
}

TEST_F(UserChangesTest, ARecordGrantsNothingThatACommandHasWithdrawnSince) {
  auto service = Open();
  const absl::Time now = service->options().wallNow();
  EXPECT_THAT(Make(*service, {Withdrawn("37", "marketing")}), ElementsAre(Outcome::kUnchanged)) << "no topic yet";
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  EXPECT_THAT(Make(*service, {Withdrawn("38", "marketing")}), ElementsAre(Outcome::kChanged))
      << "of a user of whom nothing was known";
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const auto consentsAfter = [&](absl::Time time) {
    const ConsentRecord record{"38", 0, {users::Consent{"marketing"}, users::Consent{"news"}}, time};
    EXPECT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    std::vector<std::string> purposes;
    const auto known = service->ReadUser("clicks", "38");
    for (const users::Consent& consent : known->at(0).facts.consents) purposes.push_back(consent.purpose);
    return purposes;
  };
  EXPECT_THAT(consentsAfter(now - absl::Hours(1)), ElementsAre("news"));
  EXPECT_THAT(consentsAfter(now), ElementsAre("news"));
  EXPECT_THAT(consentsAfter(absl::InfinitePast()), ElementsAre("news")) << "a record without a time";
  Advance(milliseconds(1));
  EXPECT_THAT(consentsAfter(now + absl::Milliseconds(1)), ElementsAre("marketing", "news"));
  EXPECT_THAT(consentsAfter(now - absl::Hours(1)), ElementsAre("marketing", "news")) << "the topic's order counts";
  Make(*service, {Withdrawn("38", "news")});
  EXPECT_THAT(consentsAfter(now), ElementsAre("marketing"));
  ++move.generation;
  EXPECT_THAT(consentsAfter(now), ElementsAre("marketing")) << "read anew";
}

// A producer's clock is ahead, and a command has withdrawn the purpose: before the record was read, or after.
TEST_F(UserChangesTest, AWithdrawalHoldsAgainstARecordWhoseTimeHasYetToCome) {
  auto service = Open();
  const absl::Time now = service->options().wallNow();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const auto consentsAfter = [&](const std::string& user, absl::Time time, absl::Time notBefore) {
    const ConsentRecord record{user, 0, {users::Consent{"marketing"}}, time, notBefore};
    EXPECT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    return !service->ReadUser("clicks", user)->at(0).facts.consents.empty();
  };
  const absl::Time ahead = now + absl::Hours(1);
  Make(*service, {Withdrawn("37", "marketing")});
  EXPECT_FALSE(consentsAfter("37", ahead, absl::InfinitePast())) << "it may have been written before";
  Make(*service, {Withdrawn("38", "marketing")});
  EXPECT_FALSE(consentsAfter("38", ahead, now)) << "as far as is known at the same time";
  EXPECT_TRUE(consentsAfter("39", ahead, absl::InfinitePast()));
  EXPECT_TRUE(consentsAfter("39", now, absl::InfinitePast())) << "by another producer";
  EXPECT_THAT(Make(*service, {Withdrawn("39", "marketing")}), ElementsAre(Outcome::kChanged));
  Advance(milliseconds(1));
  EXPECT_TRUE(consentsAfter("40", ahead, absl::InfinitePast()));
  // Also when they are read anew and their time is over.
  Advance(std::chrono::hours(2));
  ++move.generation;
  for (const char* user : {"37", "38", "39"}) EXPECT_FALSE(consentsAfter(user, ahead, absl::InfinitePast())) << user;
  EXPECT_TRUE(consentsAfter("40", ahead, absl::InfinitePast()));
  for (const char* user : {"37", "38", "39"}) {
    EXPECT_TRUE(consentsAfter(user, ahead + absl::Minutes(1), absl::InfinitePast())) << user;
  }
}

TEST_F(UserChangesTest, ARecordThatWasSurelyWrittenAfterAWithdrawalGrantsWhateverItsTime) {
  auto service = Open();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Make(*service, {Withdrawn("38", "marketing")});
  Advance(seconds(1));
  const absl::Time now = service->options().wallNow();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const ConsentRecord record{"38", 0, {users::Consent{"marketing"}}, now + absl::Hours(1), now};
  EXPECT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
  EXPECT_FALSE(service->ReadUser("clicks", "38")->at(0).facts.consents.empty());
}

// Otherwise the topic, when it is read anew, would undo a withdrawal that came after the take-over.
TEST_F(UserChangesTest, AWithdrawalHoldsAgainstRecordsFromBeforeACommandTookTheUserOver) {
  auto service = Open();
  const absl::Time ahead = service->options().wallNow() + absl::Hours(23);
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(61), seconds(60), ""};
  const auto consents = [&](absl::Time time) {
    const ConsentRecord record{"38", 0, {users::Consent{"marketing"}}, time};
    EXPECT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    return !service->ReadUser("clicks", "38")->at(0).facts.consents.empty();
  };
  EXPECT_TRUE(consents(ahead));
  EXPECT_THAT(Make(*service, {Granted("38", "news")}), ElementsAre(Outcome::kChanged)) << "the topic is stale";
  EXPECT_THAT(Make(*service, {Withdrawn("38", "news"), Withdrawn("38", "marketing")}),
              ElementsAre(Outcome::kChanged, Outcome::kChanged));
  Advance(std::chrono::hours(25));
  ++move.generation;
  EXPECT_FALSE(consents(ahead));
  EXPECT_TRUE(consents(ahead + absl::Minutes(1)));
}

// As long as a user's record has yet to come, each millisecond matters.
TEST_F(UserChangesTest, AWithdrawalHoldsAgainstARecordThatIsALittleAhead) {
  auto service = Open();
  const absl::Time now = service->options().wallNow();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  for (const auto& [user, ahead] : {std::pair{"38", absl::Milliseconds(900)}, {"39", absl::Milliseconds(1)}}) {
    const ConsentRecord record{user, 0, {users::Consent{"marketing"}}, now + ahead};
    ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    ASSERT_FALSE(service->ReadUser("clicks", user)->at(0).facts.consents.empty());
    Make(*service, {Withdrawn(user, "marketing")});
  }
  Advance(std::chrono::hours(1));
  ++move.generation;
  for (const auto& [user, ahead] : {std::pair{"38", absl::Milliseconds(900)}, {"39", absl::Milliseconds(1)}}) {
    const ConsentRecord record{user, 0, {users::Consent{"marketing"}}, now + ahead};
    ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    EXPECT_THAT(service->ReadUser("clicks", user)->at(0).facts.consents, IsEmpty()) << user;
  }
}

TEST_F(UserChangesTest, AUserConsentsAgainAfterAWithdrawalThatHeldAgainstAClockAhead) {
  auto service = Open();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const auto held = [&](absl::Time time, absl::Time notBefore) {
    const ConsentRecord record{"38", 0, {users::Consent{"marketing"}, users::Consent{"news"}}, time, notBefore};
    const auto followed = service->FollowSource(move, (*led)->opening, {&record, 1}, false);
    EXPECT_TRUE(followed->isDone);
    move.before = move.state;
    EXPECT_EQ(service->ReadUser("clicks", "38")->at(0).facts.consents.size() + followed->held, 2u);
    return followed->held;
  };
  const absl::Time withdrawn = service->options().wallNow();
  const absl::Time ahead = withdrawn + absl::Hours(1);
  EXPECT_EQ(held(ahead, absl::InfinitePast()), 0u);
  Make(*service, {Withdrawn("38", "marketing")});
  EXPECT_EQ(held(ahead, absl::InfinitePast()), 1u) << "nobody knows which was last";
  Advance(seconds(1));
  const absl::Time now = service->options().wallNow();
  EXPECT_EQ(held(now, withdrawn), 1u) << "as far as is known at the same time";
  EXPECT_EQ(held(now, now), 0u) << "it was written after the command";
  Make(*service, {Withdrawn("38", "marketing")});
  Advance(seconds(1));
  const ConsentRecord copied{"38", 0, {users::Consent{"marketing"}}, withdrawn, service->options().wallNow()};
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {&copied, 1}, false)->isDone);
  EXPECT_THAT(service->ReadUser("clicks", "38")->at(0).facts.consents, IsEmpty()) << "its own time is before, too";
}

// A program that takes microseconds for milliseconds: nothing that comes later is later than that.
TEST_F(UserChangesTest, ATimeThatNobodyWillSeeHoldsNothing) {
  auto service = Open();
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const auto consents = [&](absl::Time time, std::vector<users::Consent> given) {
    const ConsentRecord record{"38", 0, std::move(given), time};
    EXPECT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
    move.before = move.state;
    return !service->ReadUser("clicks", "38")->at(0).facts.consents.empty();
  };
  // As the reader gives it: without its consents.
  EXPECT_FALSE(consents(absl::FromUnixMillis(std::numeric_limits<int64_t>::max()), {}));
  Make(*service, {Withdrawn("38", "marketing")});
  EXPECT_FALSE(service->ReadUser("clicks", "38")->at(0).isDamaged);
  Advance(seconds(1));
  EXPECT_TRUE(consents(service->options().wallNow(), {users::Consent{"marketing"}}));
}

TEST(SourceClocksTest, AProblemIsOverWhenNobodyWantsTheConsents) {
  SourceClocks clocks;
  SourceClocks::SteadyTime now{std::chrono::hours(1)};
  const auto clock = clocks.Of("clicks");
  EXPECT_TRUE(clocks.Problem(now).ok()) << "somebody has only looked";
  clocks.NoteWanted("clicks", now);
  EXPECT_TRUE(absl::IsUnavailable(clocks.Problem(now)));
  clocks.Take({}, now);
  now += std::chrono::minutes(60);
  EXPECT_FALSE(clocks.Problem(now).ok()) << "it is cached somewhere";
  EXPECT_TRUE(clocks.States(now).at(0).isWanted);
  now += std::chrono::minutes(6);
  EXPECT_TRUE(clocks.Problem(now).ok());
  EXPECT_FALSE(clocks.States(now).at(0).isWanted);
  EXPECT_TRUE(clocks.States(now).at(0).isStale);
}

TEST_F(UserChangesTest, TheHealthSaysThatConsentsOfATopicDoNotCount) {
  auto service = Open();
  KeyCache cache(*service);
  const auto led = service->LeadSource("clicks", seconds(6));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  const ConsentRecord record{"38", 0, {users::Consent{"marketing"}}};
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {&record, 1}, false)->isDone);
  ASSERT_TRUE(Consents(*service, cache, "38", "marketing"));
  EXPECT_TRUE(service->health().ok()) << service->health();
  const auto isStale = [&](bool wanted) {
    const std::vector<SourceState> states = service->sourceStates();
    return states.size() == 1 && states[0].keyspace == "clicks" && states[0].isWanted && states[0].isStale == wanted;
  };
  EXPECT_TRUE(Eventually([&] { return isStale(false); }));
  move.before = move.state;
  move.age = seconds(61);
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {}, false)->isDone);
  const auto says = [&] {
    return absl::StrContains(service->health().message(),
                             "no consent that comes from a topic counts in keyspace(s) clicks");
  };
  EXPECT_TRUE(Eventually(says)) << service->health();
  EXPECT_TRUE(Eventually([&] { return isStale(true); }));
  EXPECT_FALSE(Consents(*service, cache, "38", "marketing"));
  move.age = seconds(0);
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {}, false)->isDone);
  EXPECT_TRUE(Eventually([&] { return service->health().ok(); })) << service->health();
}

TEST_F(UserChangesTest, ATopicIsReadAnewByWhoeverFollows) {
  auto service = Open();
  EXPECT_TRUE(absl::IsNotFound(service->RereadSource("clicks").status()));
  const auto led = service->LeadSource("clicks", seconds(60));
  ASSERT_TRUE(led.ok() && led->has_value()) << led.status();
  Registry::SourceMove move{"clicks", (*led)->source.term, 1, "at 1", seconds(0), seconds(60), ""};
  ASSERT_TRUE(service->FollowSource(move, (*led)->opening, {}, false)->isDone);
  const auto asked = service->RereadSource("clicks");
  ASSERT_TRUE(asked.ok()) << asked.status();
  EXPECT_TRUE(asked->isFollowed);
  EXPECT_EQ(asked->follower, service->agentName());
  move.before = move.state;
  EXPECT_FALSE(service->FollowSource(move, (*led)->opening, {}, false)->isDone) << "its term is over";
  const auto next = service->LeadSource("clicks", seconds(60));
  ASSERT_TRUE(next.ok() && next->has_value()) << next.status();
  EXPECT_EQ((*next)->source.state, kReadAnew);
  EXPECT_EQ((*next)->source.generation, 1) << "until it is begun, what was read counts";
}

TEST_F(UserChangesTest, WhileTheRegistryIsLockedNothingChanges) {
  KeyServiceOptions options = Options();
  options.registryTimeout = milliseconds(100);
  auto service = Open(std::move(options));
  KeyCache cache(*service);
  Make(*service, {Granted("38", "marketing")});
  ASSERT_TRUE(Consents(*service, cache, "38", "marketing"));
  {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(registryFile().c_str(), &database), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(database, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
    const UserChange withdrawn[] = {Withdrawn("38", "marketing")};
    EXPECT_TRUE(absl::IsUnavailable(service->ChangeUsers(withdrawn, 0).status()));
    sqlite3_close(database);
  }
  cache.Refresh();
  EXPECT_TRUE(Consents(*service, cache, "38", "marketing")) << "nothing was changed";
  EXPECT_THAT(Make(*service, {Withdrawn("38", "marketing")}), ElementsAre(Outcome::kChanged));
  EXPECT_FALSE(Consents(*service, cache, "38", "marketing"));
}

TEST_F(UserChangesTest, NothingNewTakesTheRoomThatErasingNeeds) {
  std::atomic<uint64_t> free{uint64_t{1} << 30};
  KeyServiceOptions options = Options();
  options.registry.freeBytes = [&] { return free.load(); };
  auto service = Open(std::move(options));
  Make(*service, {Granted("38", "marketing")});
  free = 1 << 20;
  const UserChange granted[] = {Granted("38", "research")};
  const auto refused = service->ChangeUsers(granted, 0);
  EXPECT_TRUE(absl::IsUnavailable(refused.status())) << refused.status();
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("nearly full"));
  const UserChange both[] = {Granted("39", "research"), Withdrawn("38", "marketing"), Granted("38", "research")};
  EXPECT_TRUE(absl::IsUnavailable(service->ChangeUsers(both, 0).status()));
  EXPECT_THAT(service->ReadUser("clicks", "38")->at(0).facts.consents, IsEmpty())
      << "what is granted does not keep others from withdrawing";
  EXPECT_THAT(*service->ReadUser("clicks", "39"), IsEmpty());
}

TEST(FactsPoolTest, IsBoundedAndForgetsWhatNobodyHolds) {
  FactsPool pool;
  const auto textOf = [](int i) { return StrCat(R"({"consents":{"p)", i, R"(":null},"attributes":{}})"); };
  const users::SharedFacts held = *pool.Get(textOf(0));
  for (int i = 1; i < 5000; ++i) ASSERT_TRUE(pool.Get(textOf(i)).ok());
  EXPECT_EQ(*pool.Get(textOf(0)), held);
  EXPECT_LT(pool.size(), 2500u);
  EXPECT_EQ(*pool.Get(""), nullptr);
  EXPECT_TRUE(absl::IsDataLoss(pool.Get("{").status()));
  std::vector<users::SharedFacts> all;
  for (size_t i = 0; i < FactsPool::kMostShared + 100; ++i) all.push_back(*pool.Get(textOf(static_cast<int>(i))));
  EXPECT_LE(pool.size(), FactsPool::kMostShared);
  EXPECT_TRUE(all.back()->Consents(StrCat("p", FactsPool::kMostShared + 99), absl::Now()));
}

TEST(FactsPoolTest, SharesAgainWhenItWasFull) {
  FactsPool pool;
  const auto textOf = [](size_t i) { return StrCat(R"({"consents":{"p)", i, R"(":null},"attributes":{}})"); };
  std::vector<users::SharedFacts> all;
  for (size_t i = 0; i < FactsPool::kMostShared + 1; ++i) all.push_back(*pool.Get(textOf(i)));
  ASSERT_EQ(pool.size(), FactsPool::kMostShared);
  all.clear();
  for (size_t i = 0; i <= FactsPool::kMostShared; ++i) ASSERT_TRUE(pool.Get(textOf(i)).ok());
  const users::SharedFacts held = *pool.Get(textOf(0));
  EXPECT_EQ(*pool.Get(textOf(0)), held);
}

// Bytes on the heap. Sanitizers have one of their own.
size_t Allocated() {
  if (__sanitizer_get_current_allocated_bytes != nullptr) return __sanitizer_get_current_allocated_bytes();
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Bytes per consent of many users with ten each.
double BytesPerConsent(bool areSame) {
  constexpr size_t kUsers = 5000;
  constexpr size_t kConsents = 10;
  const size_t before = Allocated();
  FactsPool pool;
  std::vector<users::SharedFacts> held(kUsers);
  for (size_t user = 0; user < kUsers; ++user) {
    users::UserFacts facts;
    for (size_t i = 0; i < kConsents; ++i) {
      const int64_t until = 1'800'000'000'000 + (areSame ? 0 : static_cast<int64_t>(user));
      facts.consents.push_back({StrCat("purpose-", 10 + i), absl::FromUnixMillis(until)});
    }
    held[user] = *pool.Get(users::Encode(facts));
  }
  return static_cast<double>(Allocated() - before) / (kUsers * kConsents);
}

// docs/performance.md has the figures of a million.
TEST(FactsPoolTest, TakesABoundedNumberOfBytesPerConsent) {
  const double different = BytesPerConsent(/*areSame=*/false);
  const double same = BytesPerConsent(/*areSame=*/true);
  RecordProperty("bytesPerConsent", std::to_string(different));
  EXPECT_GT(different, sizeof(users::Consent)) << "it is measured";
  EXPECT_LT(different, 150);
  EXPECT_LT(same, 3) << "users of whom the same is known share it";
}

// Agents on two nodes.
class SharedUserChangesTest : public UserChangesTest {
 protected:
  KeyServiceOptions SharedOptions(const std::string& name, milliseconds cacheTtl = seconds(60)) {
    KeyServiceOptions options;
    options.root.file = keyFile();
    options.registry = server_.OptionsFor(folder_);
    options.agentName = name;
    options.cacheTtl = cacheTtl;
    return options;
  }
  std::set<pid_t> Backends() {
    std::set<pid_t> pids;
    for (const std::string& pid : server_.ClientOf(folder_).Query(
             "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kveil'")) {
      pids.insert(std::stoi(pid));
    }
    return pids;
  }
  static pid_t ParentOf(pid_t pid) {
    std::ifstream status(StrCat("/proc/", pid, "/status"));
    for (std::string word; status >> word;) {
      if (word == "PPid:" && status >> word) return std::stoi(word);
    }
    ADD_FAILURE() << "process " << pid << " has no parent";
    return pid;
  }

  PostgresServer& server_ = PostgresServer::Running();
};

TEST_F(SharedUserChangesTest, AWithdrawalReachesTheCachesOfTheOtherAgentsAtOnce) {
  auto a = Open(SharedOptions("a"));
  auto b = Open(SharedOptions("b"));
  KeyCache cache(*b);
  std::vector<milliseconds> times;
  for (int i = 0; i < 9; ++i) {
    const std::string user = std::to_string(i);
    Make(*a, {Granted(user, "marketing")});
    ASSERT_TRUE(Eventually([&] { return Consents(*b, cache, user, "marketing"); }));
    usleep(37'000);  // not in step with the polls
    Make(*a, {Withdrawn(user, "marketing")});
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE(Eventually([&] { return !Consents(*b, cache, user, "marketing"); }));
    times.push_back(std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start));
  }
  std::sort(times.begin(), times.end());
  RecordProperty("medianMilliseconds", static_cast<int>(times[4].count()));
  EXPECT_LT(times[4], seconds(1));
  EXPECT_LT(times.back(), seconds(10)) << "no change waits for the cacheTtl, however busy this machine is";
}

// The server's process for the agent is stopped: whether the withdrawal was made is not known.
TEST_F(SharedUserChangesTest, AnErrorLeavesNoCacheWithWhatWasKnownBefore) {
  Open(SharedOptions("makes the registry"));
  KeyServiceOptions options = SharedOptions("a");
  options.registryTimeout = milliseconds(500);
  auto a = Open(std::move(options));
  KeyCache cache(*a);
  ASSERT_TRUE(Eventually([&] {
    const UserChange granted[] = {Granted("38", "marketing")};
    return a->ChangeUsers(granted, 0).ok() && Consents(*a, cache, "38", "marketing");
  }));
  const std::set<pid_t> backends = Backends();
  ASSERT_THAT(backends, Not(IsEmpty()));
  for (const pid_t pid : backends) kill(pid, SIGSTOP);
  const UserChange withdrawn[] = {Withdrawn("38", "marketing")};
  const absl::Status status = a->ChangeUsers(withdrawn, 0).status();
  cache.Refresh();
  const CachedKey* const key = cache.FindForSealing(User("38"));
  for (const pid_t pid : backends) kill(pid, SIGCONT);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_EQ(key, nullptr) << "it may have been withdrawn";
}

// Nor can the agent connect again meanwhile, which has every cache begin anew.
TEST_F(SharedUserChangesTest, AFollowersHeartbeatThatFailsDropsNoKey) {
  KeyServiceOptions options = SharedOptions("a");
  options.registryTimeout = milliseconds(2500);  // also of a busy machine's server, which makes the tables meanwhile
  auto a = Open(std::move(options));
  KeyCache cache(*a);
  ASSERT_TRUE(Eventually([&] { return SealingKey(*a, cache, User("38")) != nullptr; }));
  std::optional<LedSource> led;
  ASSERT_TRUE(Eventually([&] {
    const auto answer = a->LeadSource("clicks", seconds(6));
    led = answer.ok() ? *answer : std::nullopt;
    return led.has_value();
  }));
  const std::set<pid_t> backends = Backends();
  ASSERT_THAT(backends, Not(IsEmpty()));
  std::set<pid_t> all = backends;
  all.insert(ParentOf(*backends.begin()));
  cache.Refresh();
  ASSERT_NE(cache.FindForSealing(User("38")), nullptr);
  for (const pid_t pid : all) kill(pid, SIGSTOP);
  const absl::Status status =
      a->FollowSource({"clicks", led->source.term, 1, "at 7", {}, {}, ""}, led->opening, {}, false).status();
  cache.Refresh();
  const CachedKey* const key = cache.FindForSealing(User("38"));
  for (const pid_t pid : all) kill(pid, SIGCONT);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_NE(key, nullptr) << "nothing of any user can have changed";
}

TEST_F(SharedUserChangesTest, AnErasureDeletesWhatAnOlderAgentHasLeft) {
  auto a = Open(SharedOptions("a"));
  Make(*a, {Granted("38", "marketing"), Granted("39", "marketing")});
  ASSERT_TRUE(a->Erase(std::nullopt, "38").ok());
  const auto execute = [&](const std::string& sql) { return server_.ClientOf(folder_).Query(sql); };
  execute("INSERT INTO kveil.users (subject, number, changed, facts) SELECT subject, -1, 0, '{}' FROM kveil.erasures");
  execute("INSERT INTO kveil.history (subject, number, time, change) SELECT subject, 1, 0, '{}' FROM kveil.erasures");
  ASSERT_TRUE(a->ReadUser("clicks", "38")->at(0).isDamaged);
  const auto again = a->Erase(std::nullopt, "38");
  EXPECT_TRUE(absl::IsAlreadyExists(again.status())) << again.status();
  EXPECT_FALSE(a->ReadUser("clicks", "38")->at(0).isDamaged);
  EXPECT_THAT(a->ReadUser("clicks", "38")->at(0).history, IsEmpty());
  EXPECT_EQ(a->ReadUser("clicks", "39")->at(0).facts.consents.size(), 1u);
}

// The server's process for b is stopped: as with dropped packets, nothing comes back and nothing says so.
TEST_F(SharedUserChangesTest, AnAgentThatIsCutOffTakesNobodyForConsentingForLongerThanItsCacheTtl) {
  auto a = Open(SharedOptions("a"));
  const std::set<pid_t> before = Backends();
  auto b = Open(SharedOptions("b", /*cacheTtl=*/seconds(1)));
  pid_t backend = 0;
  for (const pid_t pid : Backends()) {
    if (!before.contains(pid)) backend = pid;
  }
  ASSERT_NE(backend, 0);
  KeyCache cache(*b);
  Make(*a, {Granted("38", "marketing")});
  ASSERT_TRUE(Eventually([&] { return Consents(*b, cache, "38", "marketing"); }));
  StoppedBackend stopped(backend);
  const UserChange withdrawn[] = {Withdrawn("38", "marketing")};
  const auto changed = a->ChangeUsers(withdrawn, 0);
  const auto end = std::chrono::steady_clock::now() + seconds(1);
  ASSERT_TRUE(changed.ok()) << changed.status();
  std::this_thread::sleep_until(end);
  cache.Refresh();
  const CachedKey* const key = cache.FindForSealing(User("38"));
  const bool consents =
      key != nullptr && cache.FactsOf(*key) != nullptr && cache.FactsOf(*key)->Consents("marketing", absl::Now());
  EXPECT_FALSE(consents) << "the consent outlived the cacheTtl";
  stopped.Continue();
  EXPECT_TRUE(AwaitAgents(*a, changed->number, seconds(20), [] { return true; }).isComplete);
}

TEST_F(SharedUserChangesTest, ThatBothAgentsMakeAtOnceAreAllMade) {
  auto a = Open(SharedOptions("a"));
  auto b = Open(SharedOptions("b"));
  constexpr int kEach = 12;
  std::vector<std::thread> threads;
  for (KeyService* const service : {a.get(), b.get()}) {
    threads.emplace_back([&, service] {
      for (int i = 0; i < kEach; ++i) {
        const UserChange granted[] = {Granted("38", StrCat(service == a.get() ? "a" : "b", i))};
        absl::Status status = absl::UnknownError("not tried");
        for (int attempt = 0; attempt < 100 && !status.ok(); ++attempt) {
          status = service->ChangeUsers(granted, 0).status();
          const bool isRace = absl::StrContains(status.message(), "others change the same users all the time");
          if (!status.ok() && !isRace) break;
        }
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(a->ReadUser("clicks", "38")->at(0).facts.consents.size(), 2u * kEach);
}

}  // namespace
}  // namespace kveil::keys
