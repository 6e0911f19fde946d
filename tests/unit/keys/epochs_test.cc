// Turning epochs: no key is lost, none that was erased comes back, whoever ends at whatever step, and an old copy of
// the registry opens nothing.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include <functional>
#include <map>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "base/text.h"
#include "epochs_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/root/open_root_key.h"
#include "keys/root/remote_root_key.h"
#include "keys/service/epoch_turns.h"
#include "postgres_server.h"
#include "slow_root_key.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using EpochState = KeyService::EpochState;

TEST_P(EpochsTest, ATurnKeepsEveryKeyAndItsId) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 600);  // several steps
  for (int user = 0; user < 600; user += 100) ASSERT_TRUE(service->Erase(std::nullopt, NameOf(user)).ok());
  Turn(*service);
  const auto epochs = service->ListEpochs();
  ASSERT_EQ(epochs->epochs.size(), 2u);
  EXPECT_EQ(epochs->epochs[0].state, EpochState::kDestroyed);
  EXPECT_TRUE(epochs->epochs[0].destroyed.has_value());
  EXPECT_EQ(epochs->epochs[1].state, EpochState::kInUse);
  EXPECT_EQ(epochs->epochs[1].keys, 594u);
  EXPECT_TRUE(epochs->isAll);
  EXPECT_EQ(service->ListEpochs(/*withKeys=*/false)->epochs[1].keys, 0u);
  EXPECT_TRUE(service->health().ok()) << service->health();
  Turn(*service);
  for (int round = 0; round < 2; ++round) {
    for (int user = 0; user < 600; ++user) {
      const auto& [id, key] = before.at(NameOf(user));
      ASSERT_EQ(StateById(*service, id),
                user % 100 == 0 ? FetchResult::IdState::kErased : FetchResult::IdState::kReady);
      if (user % 100 == 1) {
        EXPECT_EQ(KeysOf(*service, user, user + 1), Keys({{NameOf(user), {id, key}}}));
      }
    }
    KeysOf(*service, 600 + round, 601 + round);
    service.reset();
    service = OpenAgent();  // as a restarted agent has it
    ASSERT_NE(service, nullptr);
  }
}

TEST_P(EpochsTest, OtherAgentsServeOnAndNeverTakeATurnForDamage) {
  auto one = OpenAgent("node-1");
  auto other = OpenAgent("node-2");
  const Keys before = KeysOf(*one, 0, 300);
  std::atomic<bool> isOver{false};
  std::thread traffic([&] {
    for (int user = 1000; !isOver; ++user) {
      KeysOf(*other, user, user + 1);
      EXPECT_EQ(KeysOf(*other, user % 300, user % 300 + 1), Keys({*before.find(NameOf(user % 300))}));
      usleep(2'000);
    }
  });
  Turn(*one);
  isOver = true;
  traffic.join();
  // For a moment, one may stand in the way of the other who cleans the registry's files.
  EXPECT_TRUE(Eventually([&] { return other->health().ok(); })) << other->health();
  EXPECT_EQ(KeysOf(*other, 0, 300), before);
}

TEST_P(EpochsTest, AnAgentThatStartsAfterATurnIsOfTheNewEpoch) {
  auto one = OpenAgent("node-1");
  const Keys before = KeysOf(*one, 0, 3);
  Turn(*one);
  const std::chrono::steady_clock::time_point soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  auto registry = *OpenRegistry(GetParam().options(folder_), true, soon);
  registry->SetDeadline(soon);
  auto root = *OpenRootKey({.file = keyFile()}, false, soon);
  auto keys = RegistryKeys::Load(*root, *registry, **registry->ReadIdentity(), soon);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(keys->epochInUse(), 2);
  EXPECT_FALSE(keys->HasEpoch(1));
  // Rows of an epoch that is not in use are not inserted.
  RegistryKeys::NewKey made = keys->MakeKey(Scope::kUser, {keys->SubjectOf(User("late")), 0});
  made.row.epoch = 1;
  const Registry::NewRow row[] = {{made.row, "clicks"}};
  EXPECT_EQ(registry->InsertOrGet(row, absl::Now())->front().state, Registry::Inserted::State::kStale);
  const Registry::RowName name[] = {made.row.name};
  EXPECT_FALSE((*registry->FindMany(name))[0]->has_value());
  EXPECT_EQ(KeysOf(*one, 0, 3), before);
}

// As one does that knew nothing of a turn while it was cut off.
TEST_P(EpochsTest, AnAgentThatMeetsANewEpochReadsTheEpochsAnew) {
  auto service = OpenAgent();
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  ASSERT_TRUE(turner.Step().ok());
  ASSERT_TRUE(turner.registry->UseEpoch(2, absl::Now()).ok());
  turner.Follow();
  ASSERT_EQ(turner.keys->epochInUse(), 2);
  RegistryKeys::NewKey made = turner.keys->MakeKey(Scope::kUser, {turner.keys->SubjectOf(User(NameOf(0))), 0});
  const Registry::NewRow row[] = {{made.row, "clicks"}};
  ASSERT_EQ(turner.registry->InsertOrGet(row, absl::Now())->front().state, Registry::Inserted::State::kNew);
  EXPECT_EQ(KeysOf(*service, 0, 1).at(NameOf(0)).first, made.row.id);
}

TEST_P(EpochsTest, RowsOfEpochsThatTheRegistryLacksAreAllDamaged) {
  auto service = OpenAgent();
  Misses misses;
  for (const auto& [name, key] : KeysOf(*service, 0, 3)) misses.ids.push_back(key.first);
  const std::string table = ScopeKeys(), id = KeyIdColumn();
  const std::string set = GetParam().prefix.empty() ? "epochAndState = 226" : "epoch = 98";
  Execute("UPDATE " + table + " SET " + set + " + (SELECT count(*) FROM " + table + " AS o WHERE o." + id + " < " +
          table + "." + id + ")");
  const FetchResult result = Ask(*service, std::move(misses));
  EXPECT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.ids.size(), 3u);
  for (const auto& one : result.ids) EXPECT_EQ(one.state, FetchResult::IdState::kDamaged);
}

// As by somebody who restores rows of a dump while keys are being rewrapped.
TEST_P(EpochsTest, RowsThatArePutBehindThePlaceAreRewrappedToo) {
  const Keys before = KeysOf(*OpenAgent(), 0, 300);
  const auto steps = [](Turner& turner, int count) {
    for (int step = 0; step < count; ++step) {
      const auto result = turner.Step();
      ASSERT_TRUE(result.ok()) << result.status();
      ASSERT_FALSE(result->hasDestroyed) << step;
    }
  };
  Registry::Row first;
  const auto isKept = [&](Turner& turner) {
    const auto found = turner.registry->FindManyById({&first.id, 1});
    return found.ok() && found->front().ok() && turner.keys->Unwrap(***found->begin()).ok();
  };
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  first = ***turner.registry->ReadRowsAfter({}, 1)->begin();
  steps(turner, 3);  // added, used, the first rows
  PutRow(first);
  EXPECT_EQ(turner.Settle(), 2);
  EXPECT_EQ(turner.registry->ReadEpochs()->size(), 1u);
  EXPECT_TRUE(isKept(turner));
  // And when all are rewrapped, and nothing is left but to end the turn: by that agent or another one.
  for (const int64_t epoch : {3, 4}) {
    first = ***turner.registry->ReadRowsAfter({}, 1)->begin();
    turner.turns->Ask();
    steps(turner, 4);
    ASSERT_EQ(*turner.registry->LeadTurn(epoch, turner.self.id, std::chrono::hours(1)), "done");
    PutRow(first);
    Turner other(GetParam().options(folder_), keyFile(), 2);
    if (epoch == 4) Execute("UPDATE {}turns SET seen = 0");
    Turner& next = epoch == 4 ? other : turner;
    ASSERT_EQ(next.Settle(), epoch);
    EXPECT_EQ(next.registry->ReadEpochs()->size(), 1u);
    EXPECT_TRUE(isKept(next));
  }
}

TEST_P(EpochsTest, IsGoneOnWithByAnotherAgentFromAnyStep) {
  auto first = OpenAgent();
  const Keys before = KeysOf(*first, 0, 300);
  ASSERT_TRUE(first->Erase(std::nullopt, NameOf(7)).ok());
  first.reset();
  int64_t epoch = 1;
  bool isWhole = false;  // until a turn has ended within the steps
  for (int steps = 0; !isWhole; ++steps) {
    ASSERT_LT(steps, 20);
    {
      Turner turner(GetParam().options(folder_), keyFile(), static_cast<uint8_t>(steps));
      turner.turns->Ask();
      for (int step = 0; step < steps; ++step) {
        const auto result = turner.Step();
        ASSERT_TRUE(result.ok()) << result.status();
        isWhole |= result->hasDestroyed;
      }
    }  // it is gone, and has told nobody
    Execute("UPDATE {}turns SET seen = 0");
    if (!GetParam().prefix.empty()) Execute("UPDATE {}agents SET seen = seen - 11000");
    {
      auto restarted = OpenAgent();
      ASSERT_NE(restarted, nullptr) << steps;
      // Either nothing has begun, or the turn goes on by itself.
      if (IsIn(*restarted, epoch)) {
        ASSERT_TRUE(restarted->TurnEpochs().ok());
      }
      ++epoch;
      ASSERT_TRUE(Eventually([&] { return IsIn(*restarted, epoch); })) << steps << restarted->health();
      for (int user = 0; user < 300; user += 50) {
        EXPECT_EQ(KeysOf(*restarted, user, user + 1).begin()->second, before.at(NameOf(user))) << steps;
      }
      EXPECT_EQ(StateById(*restarted, before.at(NameOf(7)).first), FetchResult::IdState::kErased);
    }
  }
}

TEST_P(EpochsTest, AnErasureInBetweenIsNotUndone) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 1);
  const crypto::KeyId id = before.at(NameOf(0)).first;
  service.reset();
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  for (int step = 0; step < 2; ++step) ASSERT_TRUE(turner.Step().ok());  // added, used
  const auto rows = turner.registry->ReadRowsAfter({}, 10);
  ASSERT_EQ(rows->size(), 1u);
  turner.keys->Follow(*turner.registry->ReadEpochs());
  const auto rewrapped = turner.keys->Rewrap(***rows->begin());
  ASSERT_TRUE(rewrapped.ok()) << rewrapped.status();
  EXPECT_EQ(rewrapped->id, id);
  ASSERT_TRUE(turner.registry->LeadTurn(2, {9}, std::chrono::seconds(1))->has_value());
  ASSERT_TRUE(turner.registry
                  ->EraseUser(
                      std::nullopt,
                      [&](std::string_view keyspace) {
                        return turner.keys->SubjectOf({Scope::kUser, keyspace, NameOf(0)});
                      },
                      absl::Now())
                  .ok());
  EXPECT_TRUE(*turner.registry->MoveTurn(2, {9}, {}, Registry::TurnPlace(Registry::kTurnDone), {&*rewrapped, 1}));
  const auto after = turner.registry->FindManyById({&id, 1});
  ASSERT_TRUE(after->front().ok() && after->front()->has_value());
  EXPECT_TRUE((*after->front())->erased);
  EXPECT_THAT((*after->front())->wrappedKey, IsEmpty());
}

// As by somebody who restores rows of a dump from before the erasure.
TEST_P(EpochsTest, ARowOfAnErasedUserThatIsPutBackIsErasedAgain) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 3);
  const crypto::KeyId first = before.at(NameOf(0)).first, second = before.at(NameOf(1)).first;
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  const crypto::KeyId ids[] = {first, second};
  const auto rows = *turner.registry->FindManyById(ids);
  std::vector<int64_t> numbers;
  for (int user = 0; user < 2; ++user) numbers.push_back(service->Erase(std::nullopt, NameOf(user))->number);
  for (const Registry::Found& row : rows) ActivateRow(**row);
  service.reset();

  // By asking again.
  const auto subjectIn = [&](std::string_view keyspace) {
    return turner.keys->SubjectOf({Scope::kUser, keyspace, NameOf(0)});
  };
  const auto erased = turner.registry->EraseUser(std::nullopt, subjectIn, absl::Now());
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_EQ(erased->keyCount, 1u);
  EXPECT_THAT(erased->keyspaces, SizeIs(1));
  EXPECT_THAT(erased->earlier, IsEmpty()) << "it was undone";
  EXPECT_GT(erased->number, numbers.back()) << "other agents have to hear of it";
  const auto again = turner.registry->EraseUser(std::nullopt, subjectIn, absl::Now());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->keyCount, 0u);
  EXPECT_THAT(again->earlier, SizeIs(1));
  EXPECT_EQ(again->number, erased->number);

  // And by a turn.
  turner.turns->Ask();
  EXPECT_EQ(turner.Settle(), 2);
  EXPECT_EQ(turner.registry->ReadEpochs()->size(), 1u);
  for (const crypto::KeyId& id : ids) {
    const Registry::Row row = ***turner.registry->FindManyById({&id, 1})->begin();
    EXPECT_TRUE(row.erased);
    EXPECT_THAT(row.wrappedKey, IsEmpty());
  }
  const auto restarted = OpenAgent();
  EXPECT_EQ(StateById(*restarted, first), FetchResult::IdState::kErased);
  EXPECT_EQ(StateById(*restarted, second), FetchResult::IdState::kErased);
  EXPECT_EQ(KeysOf(*restarted, 2, 3).at(NameOf(2)), before.at(NameOf(2)));
}

TEST_P(EpochsTest, OneAgentAtATimeTurnsAndEachStepNeedsTheOneBefore) {
  KeysOf(*OpenAgent(), 0, 1);
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  Registry& registry = *turner.registry;
  const ByteBuffer secret = (*registry.ReadIdentity())->wrappedSecret;
  const ByteBuffer other(secret.size(), 1);
  EXPECT_FALSE(*registry.AddEpoch({3, secret}, secret, other, absl::Now())) << "a number is left out";
  EXPECT_FALSE(*registry.AddEpoch({2, secret}, other, other, absl::Now())) << "another secret is there";
  EXPECT_FALSE(*registry.UseEpoch(2, absl::Now()));
  EXPECT_TRUE(*registry.AddEpoch({2, secret}, secret, other, absl::Now()));
  EXPECT_EQ((*registry.ReadIdentity())->wrappedSecret, other);
  EXPECT_FALSE(*registry.AddEpoch({2, secret}, other, other, absl::Now())) << "another agent was quicker";
  EXPECT_FALSE(*registry.AddEpoch({3, secret}, other, other, absl::Now())) << "a turn is under way";
  const std::chrono::hours lease{1};
  EXPECT_FALSE(registry.LeadTurn(2, {1}, lease)->has_value()) << "it is not used yet";
  EXPECT_TRUE(*registry.UseEpoch(2, absl::Now()));
  EXPECT_FALSE(*registry.UseEpoch(2, absl::Now()));
  EXPECT_FALSE(registry.LeadTurn(1, {1}, lease)->has_value());
  EXPECT_EQ(*registry.LeadTurn(2, {1}, lease), "");
  EXPECT_FALSE(registry.LeadTurn(2, {2}, lease)->has_value());
  EXPECT_FALSE(*registry.EndTurn(2, {1}, absl::Now())) << "rows may be left";
  EXPECT_FALSE(*registry.MoveTurn(2, {2}, "", "a", {}));
  EXPECT_TRUE(*registry.MoveTurn(2, {1}, "", "a", {}));
  EXPECT_FALSE(*registry.MoveTurn(2, {1}, "", "b", {})) << "it is further on";
  Execute("UPDATE {}turns SET seen = 0");
  EXPECT_EQ(*registry.LeadTurn(2, {2}, lease), "a");
  EXPECT_FALSE(*registry.MoveTurn(2, {1}, "a", "done", {}));
  EXPECT_TRUE(*registry.MoveTurn(2, {2}, "a", "done", {}));
  EXPECT_FALSE(*registry.EndTurn(2, {1}, absl::Now()));
  EXPECT_FALSE(*registry.EndTurn(2, {2}, absl::Now())) << "a row is of the epoch before";
  EXPECT_EQ(registry.ReadEpochs()->size(), 2u);
  const auto subjectIn = [&](std::string_view keyspace) {
    return turner.keys->SubjectOf({Scope::kUser, keyspace, NameOf(0)});
  };
  ASSERT_TRUE(registry.EraseUser(std::nullopt, subjectIn, absl::Now()).ok());
  EXPECT_TRUE(*registry.EndTurn(2, {2}, absl::Now())) << "an erased one needs no key";
  EXPECT_EQ(registry.ReadEpochs()->size(), 1u);
  ASSERT_EQ(registry.ReadEpochs(true)->size(), 2u);
  EXPECT_THAT(registry.ReadEpochs(true)->front().wrappedKey, IsEmpty());
}

TEST_P(EpochsTest, ARowThatCannotBeRewrappedIsNamedAndStopsTheEndOfTheTurnUntilItIsRestored) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 20);
  const Registry::Row row = DamageRow(before.at(NameOf(3)).first);
  ASSERT_TRUE(service->TurnEpochs().ok());
  ASSERT_TRUE(Eventually([&] { return absl::StrContains(service->health().message(), TextOf(row.id)); }));
  EXPECT_THAT(std::string(service->health().message()), HasSubstr("1 key(s) cannot be unwrapped"));
  EXPECT_TRUE(Eventually([&] { return service->ListEpochs()->epochs.back().keys == 19; })) << "all others move";
  const auto epochs = service->ListEpochs();
  EXPECT_EQ(epochs->epochs.front().state, EpochState::kEnding);
  EXPECT_EQ(epochs->unreadable, std::vector{row.id});
  PutRow(row);
  ASSERT_TRUE(Eventually([&] { return IsIn(*service, 2); })) << service->health();
  EXPECT_THAT(service->ListEpochs()->unreadable, IsEmpty());
  EXPECT_EQ(KeysOf(*service, 0, 20), before);
}

TEST_P(EpochsTest, OnlyAKeyThatCannotBeUnwrappedIsGivenUp) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 5);
  const crypto::KeyId lost = before.at(NameOf(3)).first;
  EXPECT_EQ(service->GiveUpKey(lost).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(service->GiveUpKey({}).status().code(), absl::StatusCode::kNotFound);
  {  // One that a KEK has wrapped, too, is not damaged because the KEK is out of reach.
    Turner turner(GetParam().options(folder_), keyFile(), 1);
    const crypto::SecretKey secret = crypto::SecretKey::Random();
    const RegistryKeys::KekKey kek{{}, &secret};
    const Registry::RowName name{turner.keys->SubjectOf({Scope::kTopic, "cluster", "topic"}), 0};
    const RegistryKeys::NewKey made = turner.keys->MakeKey(Scope::kTopic, name, &kek);
    const Registry::NewRow row[] = {{made.row, ""}};
    ASSERT_TRUE(turner.registry->InsertOrGet(row, absl::Now()).ok());
    EXPECT_EQ(service->GiveUpKey(made.row.id).status().code(), absl::StatusCode::kFailedPrecondition);
  }
  DamageRow(lost);
  ASSERT_TRUE(service->TurnEpochs().ok());
  ASSERT_TRUE(Eventually([&] { return absl::StrContains(service->health().message(), TextOf(lost)); }));
  const auto givenUp = service->GiveUpKey(lost);
  ASSERT_TRUE(givenUp.ok()) << givenUp.status();
  EXPECT_EQ(givenUp->scope, Scope::kUser);
  EXPECT_EQ(givenUp->epoch, 1);
  const auto again = service->GiveUpKey(lost);  // who asks may not have heard the answer
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->epoch, 1);
  ASSERT_TRUE(Eventually([&] { return IsIn(*service, 2); })) << service->health();
  EXPECT_EQ(StateById(*service, lost), FetchResult::IdState::kErased);
  Keys after = KeysOf(*OpenAgent("node-2"), 0, 5);
  EXPECT_FALSE(after.at(NameOf(3)).first == lost) << "the user is not erased";
  after[NameOf(3)] = before.at(NameOf(3));
  EXPECT_EQ(after, before);
  ASSERT_TRUE(service->Erase(std::nullopt, NameOf(3)).ok());
  EXPECT_EQ(service->GiveUpKey(lost).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(Eventually([&] {
    const auto readmitted = service->Readmit(std::nullopt, NameOf(3));
    return readmitted.ok() && !readmitted->keyspaces.empty();
  }));
  EXPECT_EQ(service->GiveUpKey(lost).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_P(EpochsTest, ARowThatNoPassFindsIsAProblemAndIsNotLookedForAllTheTime) {
  const Keys before = KeysOf(*OpenAgent(), 0, 3);
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  const std::string table = "UPDATE " + ScopeKeys() + " SET " + KeyIdColumn() + " = ";
  const auto literal = [&](const std::string& hex) {
    return GetParam().prefix.empty() ? "x'" + hex + "'" : "'\\x" + hex + "'::bytea";
  };
  const std::string id = TextOf(before.at(NameOf(0)).first);
  Execute(table + literal("") + " WHERE " + KeyIdColumn() + " = " + literal(id));
  turner.turns->Ask();
  bool hasMore = true;
  int steps = 0;
  for (; hasMore && steps < 20; ++steps) {
    const auto result = turner.Step();
    ASSERT_TRUE(result.ok()) << result.status();
    hasMore = result->hasMore;
  }
  EXPECT_LT(steps, 20) << "pass after pass";
  // An SQLite registry goes through its rows in another order than that of their ids.
  EXPECT_THAT(std::string(turner.turns->problem().message()),
              HasSubstr(GetParam().prefix.empty() ? "1 key(s) cannot be unwrapped"
                                                  : "active rows of the epoch before without"));
  EXPECT_EQ(turner.registry->ReadEpochs()->size(), 2u);
  Execute(table + literal(id) + " WHERE " + KeyIdColumn() + " = " + literal(""));
  EXPECT_TRUE(Eventually([&] { return turner.Settle() == 2 && turner.registry->ReadEpochs()->size() == 1; }));
  EXPECT_TRUE(turner.turns->problem().ok()) << turner.turns->problem();
  EXPECT_EQ(KeysOf(*OpenAgent(), 0, 3), before);
}

TEST_P(EpochsTest, AnEpochKeyThatCannotBeUnwrappedIsAProblem) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 1);
  auto registry = *OpenRegistry(GetParam().options(folder_), true, Turner::Soon());
  const ByteBuffer secret = (*registry->ReadIdentity())->wrappedSecret;
  ASSERT_TRUE(*registry->AddEpoch({2, ByteBuffer(60, 7)}, secret, secret, absl::Now()));
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(service->health().message(), "the key of an epoch cannot be unwrapped");
  })) << service->health();
  EXPECT_EQ(KeysOf(*service, 0, 1), before);
}

TEST_P(EpochsTest, ARegistryOfAnEarlierFormatGetsWhatTurnsNeed) {
  const Keys before = KeysOf(*OpenAgent(), 0, 3);
  Execute(GetParam().prefix.empty() ? "ALTER TABLE turns DROP COLUMN erasures; PRAGMA user_version = 5"
                                    : "ALTER TABLE kveil.turns DROP COLUMN erasures; DROP INDEX kveil.active_epochs;"
                                      " UPDATE kveil.format SET version = 6");
  auto service = OpenAgent();
  ASSERT_NE(service, nullptr);
  Turn(*service);
  EXPECT_EQ(KeysOf(*service, 0, 3), before);
  if (!GetParam().prefix.empty()) Execute("DROP INDEX kveil.active_epochs");  // it is there
  Execute("UPDATE {}turns SET erasures = 38");
}

TEST_P(EpochsTest, AnEpochKnowsTheErasuresBeforeIt) {
  auto service = OpenAgent();
  KeysOf(*service, 0, 3);
  const auto first = service->Erase(std::nullopt, NameOf(0));
  ASSERT_TRUE(first.ok()) << first.status();
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  EXPECT_FALSE(turner.registry->ReadEpochs()->back().erasuresBefore.has_value());
  turner.turns->Ask();
  ASSERT_TRUE(turner.Step().ok());  // added
  const auto second = service->Erase(std::nullopt, NameOf(1));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_GT(second->number, first->number);
  EXPECT_EQ(turner.registry->ReadEpochs()->back().erasuresBefore, first->number);
}

INSTANTIATE_TEST_SUITE_P(Backends, EpochsTest, testing::Values(kSqliteEpochs, kPostgresEpochs),
                         [](const auto& info) { return info.param.name; });

// One that came while a turn was under way may be in a copy that was made in between: the next turn is for it.
TEST_P(EpochsTest, TheRootKeySaysWhichErasuresNoCopyUndoes) {
  auto service = OpenAgent();
  KeysOf(*service, 0, 3);
  const int64_t first = service->Erase(std::nullopt, NameOf(0))->number;
  service.reset();
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  ASSERT_TRUE(turner.Step().ok());  // added
  const auto subjectIn = [&](std::string_view keyspace) {
    return turner.keys->SubjectOf({Scope::kUser, keyspace, NameOf(1)});
  };
  const int64_t second = turner.registry->EraseUser(std::nullopt, subjectIn, absl::Now())->number;
  for (const auto& [epoch, erasures] : {std::pair<int64_t, int64_t>(2, first), {3, second}}) {
    if (epoch == 3) turner.turns->Ask();
    ASSERT_EQ(turner.Settle(), epoch);
    if (turner.registry->isShared()) {
      EXPECT_NE(turner.turns->forgotten().has_value() ? turner.turns->forgotten()->epoch : 0, epoch);
      Execute("UPDATE kveil.turns SET ended = ended - 600001");
      turner.steady += std::chrono::minutes(10);
      ASSERT_TRUE(turner.Step().ok());
    }
    ASSERT_TRUE(turner.turns->forgotten().has_value());
    EXPECT_EQ(turner.turns->forgotten()->epoch, epoch);
    EXPECT_EQ(turner.turns->forgotten()->erasures, erasures);
  }
}

class SqliteEpochsTest : public EpochsTest {
 protected:
  std::string CopyOfRegistry() {
    ExecuteSqlite(folder_, "PRAGMA wal_checkpoint(TRUNCATE)");
    return ReadFile(registryFile());
  }
  void PutBack(const std::string& bytes) {
    for (const char* suffix : {"", "-wal", "-shm"}) unlink((registryFile() + suffix).c_str());
    WriteFile(registryFile() + ".restored", bytes);
    chmod((registryFile() + ".restored").c_str(), 0600);
    std::filesystem::rename(registryFile() + ".restored", registryFile());
  }
};
INSTANTIATE_TEST_SUITE_P(Sqlite, SqliteEpochsTest, testing::Values(kSqliteEpochs));

// The promise.
TEST_P(SqliteEpochsTest, AnOldCopyOfTheRegistryOpensNothingAfterATurn) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 2);
  const std::string oldKey = ReadFile(keyFile());
  const std::string oldCopy = CopyOfRegistry();
  ASSERT_TRUE(service->Erase(std::nullopt, NameOf(0)).ok());
  Turn(*service);
  ASSERT_TRUE(Eventually([&] { return ReadFile(keyFile()) != oldKey; }));
  const std::string newCopy = CopyOfRegistry();
  // Beside the agent that runs.
  PutBack(oldCopy);
  Misses misses;
  for (const auto& [name, key] : before) misses.ids.push_back(key.first);
  const FetchResult asked = Ask(*service, std::move(misses));
  EXPECT_THAT(asked.ids, IsEmpty());
  EXPECT_THAT(std::string(asked.status.message()), HasSubstr("is an old copy, from before its epochs turned"));
  EXPECT_TRUE(Eventually([&] { return absl::StrContains(service->health().message(), "is an old copy"); }));
  service.reset();
  // For one that starts.
  const absl::Status refused = OpenError();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("is of generation 1, and this needs generation 0, which was destroyed when epochs turned"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("This root key file opens nothing in this copy"));
  // The one that belongs to it opens as before.
  PutBack(newCopy);
  service = OpenAgent();
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(StateById(*service, before.at(NameOf(0)).first), FetchResult::IdState::kErased);
  EXPECT_EQ(KeysOf(*service, 1, 2).begin()->second, before.at(NameOf(1)));
  service.reset();
  // A copy of the root key file that was kept goes forward, and then opens old copies too: docs/security.md says so.
  WriteFile(keyFile(), oldKey);
  service = OpenAgent();
  ASSERT_NE(service, nullptr);
  EXPECT_EQ(KeysOf(*service, 1, 2).begin()->second, before.at(NameOf(1)));
  EXPECT_TRUE(Eventually([&] { return ReadFile(keyFile()) != oldKey; })) << "and is moved on again";
}

TEST_P(SqliteEpochsTest, NothingOfTheOldEpochIsLeftInTheFiles) {
  auto service = OpenAgent();
  KeysOf(*service, 0, 300);
  const auto root = OpenRegistry(OptionsOf("x").registry, true, Turner::Soon());
  std::vector<ByteBuffer> old = {(*root)->ReadEpochs()->front().wrappedKey, (*(*root)->ReadIdentity())->wrappedSecret};
  const auto rows = (*root)->ReadRowsAfter({}, 1000);
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (const Registry::Found& row : *rows) old.push_back((*row)->wrappedKey);
  ASSERT_EQ(old.size(), 302u);
  for (const ByteBuffer& one : old) ASSERT_GE(one.size(), 32u);
  Turn(*service);
  const auto isClean = [&] {
    const std::string files = ReadFile(registryFile()) + ReadFile(registryFile() + "-wal");
    return std::none_of(old.begin(), old.end(),
                        [&](const ByteBuffer& one) { return absl::StrContains(files, ToAbsl(AsText(one))); });
  };
  EXPECT_TRUE(Eventually(isClean));
}

TEST_P(SqliteEpochsTest, TurnsWhenItIsTimeAndOnceWhateverTheClockDoes) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 1);
  service.reset();
  constexpr std::chrono::hours kWeek{24 * 7};
  Turner turner(GetParam().options(folder_), keyFile(), 1, kWeek);
  const auto madeAgo = [this](int64_t days) {
    Execute("UPDATE epochs SET created = (unixepoch() - 86400 * " + std::to_string(days) + ") * 1000");
  };
  // Made a moment ago, however long the agent has known it.
  madeAgo(0);
  EXPECT_EQ(turner.Settle(), 1);
  turner.steady += 2 * kWeek;
  EXPECT_EQ(turner.Settle(), 1);
  // As if the clock had jumped by a year: it turns once.
  madeAgo(365);
  EXPECT_EQ(turner.Settle(), 2);
  // And again at once, as if it jumped to and fro: not before some minutes have passed.
  madeAgo(365);
  EXPECT_EQ(turner.Settle(), 2);
  EXPECT_TRUE(turner.turns->problem().ok()) << turner.turns->problem();
  turner.steady += EpochTurns::kKnownFor;
  EXPECT_EQ(turner.Settle(), 3);
  // Back, so that the epoch has yet to be made: then by what the agent itself has seen pass.
  madeAgo(-365);
  turner.steady += kWeek - std::chrono::seconds(1);
  EXPECT_EQ(turner.Settle(), 3);
  turner.steady += std::chrono::seconds(1);
  EXPECT_EQ(turner.Settle(), 4);
  service = OpenAgent();
  EXPECT_EQ(KeysOf(*service, 0, 1), before);
}

TEST_P(SqliteEpochsTest, SaysWhenATurnIsOverdueOrDoesNotEnd) {
  OpenAgent();
  Turner turner(GetParam().options(folder_), keyFile(), 1, std::chrono::hours(24));
  Execute("UPDATE epochs SET created = (unixepoch() - 86400 * 3) * 1000");
  turner.keys->Follow(*turner.registry->ReadEpochs());
  const auto step = [&](bool mayBegin) {
    return turner.turns->Step(*turner.registry->ReadEpochs(), turner.self.id, mayBegin).status();
  };
  EXPECT_TRUE(step(false).ok());
  turner.steady += EpochTurns::kKnownFor;
  EXPECT_TRUE(step(false).ok()) << "the root key is a problem by itself";
  EXPECT_THAT(std::string(turner.turns->problem().message()), HasSubstr("epoch 1 should have turned long ago"));
  turner.turns->Ask();
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(turner.Step().ok());  // added, used
  EXPECT_TRUE(*turner.registry->LeadTurn(2, {9}, std::chrono::hours(1)) == "") << "another agent, which does nothing";
  EXPECT_TRUE(turner.Step().ok());
  EXPECT_TRUE(turner.turns->problem().ok()) << turner.turns->problem();
  turner.steady += EpochTurns::kPatience;
  EXPECT_TRUE(turner.Step().ok());
  EXPECT_THAT(std::string(turner.turns->problem().message()), HasSubstr("the turn to epoch 2 has been under way"));
}

absl::StatusOr<std::unique_ptr<RootKey>> OpenSlowRoot(const std::string& keyFile, std::shared_ptr<ProviderState> state,
                                                      std::chrono::steady_clock::time_point deadline) {
  auto root = std::make_unique<RemoteRootKey>(
      std::make_unique<SlowRootKey>(*OpenRootKey({.file = keyFile}, true, deadline), std::move(state)),
      RemoteRootKey::Options());
  if (const absl::Status asked = root->Ask(deadline); !asked.ok()) return asked;
  return root;
}

// A key service does not move on, and is a network away: the turn takes its time, and nobody waits for it.
TEST_P(SqliteEpochsTest, TurnsUnderARemoteRootKeyToo) {
  auto state = std::make_shared<ProviderState>();
  KeyServiceOptions options = OptionsOf("node-1");
  options.root.file.clear();
  options.root.open = [&](std::chrono::steady_clock::time_point deadline) {
    return OpenSlowRoot(keyFile(), state, deadline);
  };
  auto service = Open(options);
  const Keys before = KeysOf(*service, 0, 5);
  state->Delay(milliseconds(300));
  Turn(*service);
  EXPECT_EQ(KeysOf(*service, 0, 5), before);
  EXPECT_TRUE(service->health().ok()) << service->health();
  // It still opens what was before, and says so.
  EXPECT_TRUE(Eventually([&] {
    const auto epochs = service->ListEpochs(/*withKeys=*/false);
    return epochs.ok() && absl::StrContains(epochs->oldCopies, "slow KMS");
  }));
}

TEST_P(SqliteEpochsTest, AKeyThatWasMadeForAnEarlierTurnDoesNotTakeThePlaceOfTheNextOne) {
  OpenAgent();
  auto state = std::make_shared<ProviderState>();
  Turner late(GetParam().options(folder_), *OpenSlowRoot(keyFile(), state, Turner::Soon()), 1);
  Turner quick(GetParam().options(folder_), *OpenSlowRoot(keyFile(), std::make_shared<ProviderState>(), Turner::Soon()),
               2);
  state->Delay(milliseconds(200));
  late.turns->Ask();
  ASSERT_TRUE(late.Step().ok());  // it is being made
  quick.turns->Ask();
  ASSERT_TRUE(Eventually([&] { return quick.Settle() == 2 && quick.registry->ReadEpochs()->size() == 1; }));
  Execute("UPDATE turns SET seen = 0");
  ASSERT_TRUE(late.registry->ReadEpochs()->size() == 1);
  state->Delay(milliseconds(0));
  late.turns->Ask();
  EXPECT_TRUE(Eventually([&] { return late.Settle() == 3; }));
}

TEST_P(SqliteEpochsTest, AWrappedKeyThatCannotBeReplacedInItsPlaceIsNoErasedOne) {
  KeysOf(*OpenAgent(), 0, 1);
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  for (int step = 0; step < 2; ++step) ASSERT_TRUE(turner.Step().ok());  // added, used
  turner.Follow();
  const auto rewrapped = turner.keys->Rewrap(***turner.registry->ReadRowsAfter({}, 1)->begin());
  ASSERT_TRUE(rewrapped.ok()) << rewrapped.status();
  ASSERT_EQ(*turner.registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
  Execute("UPDATE scopeKeys SET bytes = zeroblob(31)");
  EXPECT_FALSE(turner.registry->MoveTurn(2, {9}, {}, "done", {&*rewrapped, 1}).ok());
  ASSERT_TRUE(turner.registry->EnsureOpen().ok());
  EXPECT_EQ(*turner.registry->LeadTurn(2, {9}, std::chrono::hours(1)), "");
}

class PostgresEpochsTest : public EpochsTest {};
INSTANTIATE_TEST_SUITE_P(Postgres, PostgresEpochsTest, testing::Values(kPostgresEpochs));

TEST_P(PostgresEpochsTest, WaitsForAgentsThatKnowNothingOfTurns) {
  auto service = OpenAgent();
  const Keys before = KeysOf(*service, 0, 1);
  Execute(
      "INSERT INTO kveil.agents (agent, name, cache_ttl, confirmed, seen) VALUES (decode(repeat('01', 16), 'hex'), "
      "'node-of-old', 60000, 0,"
      " (extract(epoch FROM clock_timestamp()) * 1000)::bigint)");
  ASSERT_TRUE(service->TurnEpochs().ok());
  EXPECT_THAT(service->epochNow().waits, HasSubstr("node-of-old")) << "as soon as it is asked";
  EXPECT_THAT(service->epochNow().note, HasSubstr("node-of-old"));
  EXPECT_EQ(service->ListEpochs(/*withKeys=*/false)->epochs.size(), 1u) << "nothing has begun";
  KeysOf(*service, 1, 2);  // of an epoch which the old agent knows
  Execute("DELETE FROM kveil.agents WHERE name = 'node-of-old'");
  ASSERT_TRUE(Eventually([&] { return IsIn(*service, 2); })) << service->health();
  EXPECT_EQ(KeysOf(*service, 0, 1), before);
}

TEST_P(PostgresEpochsTest, NamesTheAgentThatATurnWaitsFor) {
  OpenAgent();
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  ASSERT_TRUE(turner.Step().ok());  // added
  const auto note = [this](const std::string& epoch) {
    Execute(
        "DELETE FROM kveil.agents WHERE name = 'node-2'; INSERT INTO kveil.agents (agent, name, cache_ttl, confirmed, "
        "epoch, seen) VALUES (decode(repeat('09', 16), 'hex'), 'node-2', 60000, 0, " +
        epoch + ", (extract(epoch FROM clock_timestamp()) * 1000)::bigint)");
  };
  note("1");
  const auto waits = turner.Step();
  ASSERT_TRUE(waits.ok()) << waits.status();
  EXPECT_FALSE(waits->hasMore) << "nobody asks again and again";
  EXPECT_TRUE(turner.turns->problem().ok()) << turner.turns->problem();
  turner.steady += std::chrono::minutes(1);
  note("1");
  EXPECT_FALSE(turner.Step().ok());
  EXPECT_THAT(std::string(turner.turns->problem().message()), HasSubstr("agent node-2 has not unwrapped"));
  note("NULL");
  EXPECT_THAT(std::string(turner.Step().status().message()), HasSubstr("agent node-2 is of a version"));
  EXPECT_FALSE(turner.registry->ReadEpochs()->back().isUsed);
  note("2");
  EXPECT_TRUE(turner.Step().ok());
  EXPECT_TRUE(turner.registry->ReadEpochs()->back().isUsed);
}

// A restore is one transaction. What it has put back, nobody else sees before it is committed.
TEST_P(PostgresEpochsTest, WaitsForRowsThatAnotherProgramHasNotCommittedYet) {
  const Keys before = KeysOf(*OpenAgent(), 0, 3);
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  const Registry::Row row = ***turner.registry->ReadRowsAfter({}, 1)->begin();
  turner.turns->Ask();
  for (int step = 0; step < 3; ++step) ASSERT_TRUE(turner.Step().ok());  // added, used, rewrapped
  auto restore = PostgresServer::Running().ClientOf(folder_);
  restore.Query("BEGIN");
  restore.Query(RowBack(row));
  EXPECT_EQ(turner.Settle(), 2);
  EXPECT_EQ(turner.registry->ReadEpochs()->size(), 2u) << "the key of the restored row";
  EXPECT_TRUE(turner.turns->problem().ok()) << turner.turns->problem();
  EXPECT_THAT(std::string(turner.turns->note().message()), HasSubstr("what another program writes"));
  restore.Query("COMMIT");
  EXPECT_EQ(turner.Settle(), 2);
  EXPECT_EQ(turner.registry->ReadEpochs()->size(), 1u);
  EXPECT_TRUE(turner.turns->note().ok()) << turner.turns->note();
  EXPECT_EQ(KeysOf(*OpenAgent(), 0, 3), before);
}

// As one of an earlier version has it, or one in which the building was ended.
TEST_P(PostgresEpochsTest, BuildsTheIndexThatTheEndOfATurnNeeds) {
  const Keys before = KeysOf(*OpenAgent(), 0, 3);
  int64_t epoch = 1;
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  for (const char* const change :
       {"DROP INDEX kveil.active_epochs",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'kveil.active_epochs'::regclass"}) {
    Execute(change);
    auto builder = PostgresServer::Running().ClientOf(folder_);
    builder.Query("SELECT pg_advisory_lock(461547858285)");
    turner.turns->Ask();
    EXPECT_EQ(turner.Settle(), ++epoch);
    EXPECT_THAT(std::string(turner.turns->note().message()), HasSubstr("has built the index kveil.active_epochs"));
    EXPECT_EQ(turner.registry->ReadEpochs()->size(), 2u) << "another agent builds";
    builder.Query("SELECT pg_advisory_unlock_all()");
    EXPECT_EQ(turner.Settle(), epoch);
    EXPECT_EQ(turner.registry->ReadEpochs()->size(), 1u);
    EXPECT_EQ(PostgresServer::Running().ClientOf(folder_).Query(
                  "SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid = 'kveil.active_epochs'::regclass"),
              std::vector<std::string>{"1"});
  }
  EXPECT_EQ(KeysOf(*OpenAgent(), 0, 3), before);
}

// The building of an agent that leads no more has failed: its session has the lock that keeps others from building.
TEST_P(PostgresEpochsTest, AnAgentThatLeadsNoMoreLeavesTheIndexToOthers) {
  KeysOf(*OpenAgent(), 0, 3);
  Execute("DROP INDEX kveil.active_epochs");
  Turner turner(GetParam().options(folder_), keyFile(), 1), next(GetParam().options(folder_), keyFile(), 2);
  auto writer = PostgresServer::Running().ClientOf(folder_);
  writer.Query("BEGIN");
  writer.Query("LOCK TABLE kveil.scope_keys IN ROW EXCLUSIVE MODE");  // the building waits for its end
  turner.turns->Ask();
  for (int step = 0; step < 3; ++step) ASSERT_TRUE(turner.Step().ok());  // added, used, rewrapped
  const std::string building =
      "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
      " AND l.objid = 461547858285 % 4294967296 AND a.datname = current_database()";
  auto watcher = PostgresServer::Running().ClientOf(folder_);
  const auto isBuilding = [&] {
    return watcher.Query("SELECT count(*) " + building + " AND a.query LIKE 'CREATE INDEX%' AND a.state = 'active'") ==
           std::vector<std::string>{"1"};
  };
  ASSERT_TRUE(Eventually([&] {
    turner.registry->SetDeadline(std::chrono::steady_clock::now() + milliseconds(200));
    (void)turner.registry->EndTurn(2, turner.self.id, absl::Now());
    return isBuilding();
  }));
  watcher.Query("SELECT pg_cancel_backend(a.pid) " + building);
  ASSERT_TRUE(Eventually([&] { return !isBuilding(); }));
  writer.Query("COMMIT");
  Execute("UPDATE kveil.turns SET agent = '', seen = 0");
  next.registry->SetDeadline(Turner::Soon());
  ASSERT_TRUE(next.Step().ok());
  EXPECT_THAT(std::string(next.turns->note().message()), HasSubstr("has built the index kveil.active_epochs"));
  EXPECT_EQ(next.registry->ReadEpochs()->size(), 2u);
  turner.registry->SetDeadline(Turner::Soon());
  EXPECT_FALSE(turner.registry->LeadTurn(2, turner.self.id, std::chrono::hours(1))->has_value());
  EXPECT_TRUE(Eventually([&] {
    next.registry->SetDeadline(Turner::Soon());
    return next.Settle() == 2 && next.registry->ReadEpochs()->size() == 1;
  }));
}

// A standby that takes over may lack the last moments, and then needs what the root key would have forgotten. A clock
// that jumps does not make that sooner.
TEST_P(PostgresEpochsTest, TheRootKeyForgetsSomeMinutesAfterTheTurnByTwoClocks) {
  OpenAgent();
  const std::string key = ReadFile(keyFile());
  Turner turner(GetParam().options(folder_), keyFile(), 1);
  turner.turns->Ask();
  ASSERT_EQ(turner.Settle(), 2);
  const auto step = [&](int64_t endedAgo) {
    Execute("UPDATE kveil.turns SET ended = (extract(epoch FROM clock_timestamp()) * 1000)::bigint - " +
            std::to_string(endedAgo));
    EXPECT_TRUE(turner.Step().ok());
    return ReadFile(keyFile());
  };
  EXPECT_EQ(step(600'001), key);
  EXPECT_THAT(turner.turns->oldCopies(), HasSubstr("can still be opened until ten minutes after the turn"));
  turner.steady += std::chrono::minutes(10);
  EXPECT_EQ(step(0), key);
  EXPECT_NE(step(600'001), key);
  EXPECT_THAT(turner.turns->oldCopies(), IsEmpty());
}

// The agent has restarted: what it has seen pass counts from when this machine knew first that the turn was over.
TEST_P(PostgresEpochsTest, AnAgentThatRestartsAgainAndAgainForgetsAsSoon) {
  OpenAgent();
  const std::string key = ReadFile(keyFile()), note = keyFile() + ".settled";
  const auto endedLongAgo = [this] { Execute("UPDATE kveil.turns SET ended = ended - 600001"); };
  const auto restart = [&](uint8_t number) {
    Execute("UPDATE kveil.agents SET seen = seen - 11000");
    return std::make_unique<Turner>(GetParam().options(folder_), keyFile(), number);
  };
  const auto first = restart(1);
  first->turns->Ask();
  ASSERT_EQ(first->Settle(), 2);
  const std::vector<std::string> words = absl::StrSplit(ReadFile(note), ' ');
  ASSERT_EQ(words.size(), 3u);
  EXPECT_EQ(words[0], "2");
  const std::string earlier = std::to_string(std::stoll(words[2]) - 600'001);
  endedLongAgo();
  for (const std::string& bad : {words[0] + " another-boot " + earlier + "\n", "1 " + words[1] + " " + earlier + "\n",
                                 words[0] + " " + words[1] + " 999999999999999\n", std::string("?")}) {
    WriteFile(note, bad);
    ASSERT_TRUE(restart(2)->Step().ok());
    EXPECT_EQ(ReadFile(keyFile()), key) << bad;
  }
  WriteFile(note, words[0] + " " + words[1] + " " + earlier + "\n");
  ASSERT_TRUE(restart(3)->Step().ok());
  EXPECT_NE(ReadFile(keyFile()), key);
  // The next turn begins to count anew.
  const auto next = restart(4);
  next->turns->Ask();
  for (int step = 0; step < 2; ++step) ASSERT_TRUE(next->Step().ok());
  EXPECT_FALSE(std::filesystem::exists(note));
}

// Whoever asks again and again does not take the service's thread.
TEST_P(PostgresEpochsTest, CountsKeysForASmallPartOfTheTimeOnly) {
  auto service = OpenAgent();
  KeysOf(*service, 0, 1);
  auto slow = PostgresServer::Running().ClientOf(folder_);
  slow.Query("BEGIN");
  slow.Query("LOCK TABLE kveil.scope_keys IN ACCESS EXCLUSIVE MODE");
  std::thread release([&] {
    auto watcher = PostgresServer::Running().ClientOf(folder_);
    const char kIsWaiting[] =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'kveil.scope_keys'::regclass";
    EXPECT_TRUE(Eventually([&] { return watcher.Query(kIsWaiting).front() != "0"; }));
    usleep(300'000);  // so long counting takes
    slow.Query("COMMIT");
  });
  const auto counted = service->ListEpochs();
  release.join();
  ASSERT_TRUE(counted.ok()) << counted.status();
  EXPECT_EQ(counted->epochs.front().keys, 1u);
  KeysOf(*service, 1, 2);
  EXPECT_EQ(service->ListEpochs()->epochs.front().keys, 1u) << "as it was counted";
}

}  // namespace
}  // namespace kveil::keys
