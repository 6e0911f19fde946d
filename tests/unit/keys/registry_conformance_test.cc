// What every registry must do, wherever it keeps its rows. A new implementation adds itself to the list at the end and
// passes as it is.
#include <gmock/gmock.h>

#include <functional>
#include <map>
#include <string>
#include <thread>

#include "base/text.h"
#include "direct_wire.h"
#include "key_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"
#include "postgres_server.h"

namespace kveil::keys {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using InsertState = Registry::Inserted::State;

struct Backend {
  std::string name;
  // Names a registry that is not there yet, in the test's own folder.
  std::function<RegistryOptions(const std::string& folder)> options;
};
void PrintTo(const Backend& backend, std::ostream* out) { *out << backend.name; }

class RegistryConformanceTest : public KeyTest, public testing::WithParamInterface<Backend> {
 protected:
  // Each is one agent's connection to the test's registry.
  std::unique_ptr<Registry> Connect(bool mustExist = false) {
    auto registry = OpenRegistry(GetParam().options(folder_), mustExist, Soon());
    EXPECT_TRUE(registry.ok()) << registry.status();
    if (!registry.ok()) return nullptr;
    (*registry)->SetDeadline(Soon());
    return *std::move(registry);
  }
  std::unique_ptr<Registry> ConnectInitialised() {
    auto registry = Connect();
    EXPECT_TRUE(registry->Initialise(SomeIdentity(1), {1, ByteBuffer(60, 7)}, kNow).ok());
    return registry;
  }
  static Registry::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(20); }

  static Registry::Identity SomeIdentity(uint8_t number) {
    Registry::Identity identity{{}, ByteBuffer(60, number)};
    identity.id.fill(number);
    return identity;
  }
  // Of a user in a keyspace.
  static Subject SubjectOf(std::string_view user, std::string_view keyspace = "clicks") {
    Subject subject{};
    std::string text(keyspace);
    text += '/';
    text += user;
    std::copy(text.begin(), text.end(), subject.begin());
    return subject;
  }
  static Registry::NewRow NewUser(std::string_view user, std::string_view keyspace = "clicks") {
    Registry::Row row;
    row.id = crypto::ComputeKeyId(crypto::SecretKey::Random());
    row.name = {SubjectOf(user, keyspace), 0};
    row.epoch = 1;
    row.wrappedKey.resize(60);
    crypto::FillRandom(absl::MakeSpan(row.wrappedKey));
    return {std::move(row), keyspace};
  }
  static Registry::NewRow NewTopic(uint8_t topic, int64_t window) {
    Registry::NewRow made = NewUser("topic");
    made.row.scope = Scope::kTopic;
    made.row.name = {Subject{topic}, window};
    made.keyspace = {};
    return made;
  }
  static std::vector<Registry::Inserted> Insert(Registry& registry, absl::Span<const Registry::NewRow> rows) {
    auto inserted = registry.InsertOrGet(rows, kNow);
    EXPECT_TRUE(inserted.ok()) << inserted.status();
    return inserted.ok() ? *std::move(inserted) : std::vector<Registry::Inserted>(rows.size());
  }
  static Registry::Inserted InsertOne(Registry& registry, const Registry::NewRow& row) {
    return std::move(Insert(registry, {&row, 1}).front());
  }
  // Fails the test for a damaged row.
  static std::optional<Registry::Row> Find(Registry& registry, const Registry::RowName& name) {
    auto found = registry.FindMany({&name, 1});
    EXPECT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found->at(0).ok()) << found->at(0).status();
    return *std::move(found->at(0));
  }
  static std::optional<Registry::Row> FindById(Registry& registry, const crypto::KeyId& id) {
    auto found = registry.FindManyById({&id, 1});
    EXPECT_TRUE(found.ok()) << found.status();
    EXPECT_TRUE(found->at(0).ok()) << found->at(0).status();
    return *std::move(found->at(0));
  }
  static absl::StatusOr<Registry::Erased> Erase(Registry& registry, std::string_view user,
                                                std::optional<std::string_view> keyspace = {}, absl::Time now = kNow) {
    return registry.EraseUser(
        keyspace, [user](std::string_view candidate) { return SubjectOf(user, candidate); }, now);
  }
  static Registry::NewFacts Facts(std::string_view user, std::string facts, int64_t number = 0,
                                  std::string history = {}) {
    return {SubjectOf(user), "clicks", std::move(facts), number, std::move(history)};
  }
  static std::vector<int64_t> WriteFacts(Registry& registry, const std::vector<Registry::NewFacts>& facts) {
    auto numbers = registry.WriteFacts(facts, kNow);
    EXPECT_TRUE(numbers.ok()) << numbers.status();
    return numbers.ok() ? *std::move(numbers) : std::vector<int64_t>(facts.size());
  }
  static Registry::KnownFacts Known(Registry& registry, std::string_view user) {
    const Subject subjects[] = {SubjectOf("nobody"), SubjectOf(user)};
    auto known = registry.ReadFacts(subjects);
    EXPECT_TRUE(known.ok()) << known.status();
    return known.ok() ? std::move(known->at(1)) : Registry::KnownFacts();
  }
  static void ExpectSame(const Registry::Row& row, const Registry::Row& other) {
    EXPECT_EQ(row.id, other.id);
    EXPECT_EQ(row.scope, other.scope);
    EXPECT_EQ(row.name, other.name);
    EXPECT_EQ(row.epoch, other.epoch);
    EXPECT_EQ(row.erased, other.erased);
    EXPECT_EQ(row.wrappedKey, other.wrappedKey);
  }

  static constexpr absl::Time kNow = absl::FromUnixSeconds(1'750'000'000);
};

TEST_P(RegistryConformanceTest, IsMadeOnlyWhereItNeedNotExist) {
  const RegistryOptions options = GetParam().options(folder_);
  EXPECT_EQ(OpenRegistry(options, /*mustExist=*/true, Soon()).status().code(), absl::StatusCode::kNotFound);
  ASSERT_NE(Connect(), nullptr);
  EXPECT_TRUE(OpenRegistry(options, /*mustExist=*/true, Soon()).ok());
}

TEST_P(RegistryConformanceTest, KeepsTheIdentityAndEpochOfTheAgentThatWasFirst) {
  auto one = Connect();
  auto other = Connect();
  EXPECT_EQ(*one->ReadIdentity(), std::nullopt);
  EXPECT_THAT(*one->ReadEpochs(), IsEmpty());
  ASSERT_TRUE(one->Initialise(SomeIdentity(1), {1, ByteBuffer(60, 7)}, kNow).ok());
  ASSERT_TRUE(other->Initialise(SomeIdentity(2), {1, ByteBuffer(60, 8)}, kNow).ok());
  const auto late = Connect();
  for (Registry* registry : {one.get(), other.get(), late.get()}) {
    auto identity = registry->ReadIdentity();
    ASSERT_TRUE(identity.ok() && identity->has_value()) << identity.status();
    EXPECT_EQ((*identity)->id, SomeIdentity(1).id);
    EXPECT_EQ((*identity)->wrappedSecret, SomeIdentity(1).wrappedSecret);
    auto epochs = registry->ReadEpochs();
    ASSERT_TRUE(epochs.ok() && epochs->size() == 1) << epochs.status();
    EXPECT_EQ(epochs->at(0).number, 1);
    EXPECT_EQ(epochs->at(0).wrappedKey, ByteBuffer(60, 7));
  }
}

TEST_P(RegistryConformanceTest, FindsWhatWasInsertedByNameAndByIdInOrderAndAfterARestart) {
  auto registry = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("1"), NewUser("2"), NewUser("1", "orders"), NewTopic(9, 5), NewTopic(9, 6)};
  for (const Registry::Inserted& inserted : Insert(*registry, rows)) EXPECT_EQ(inserted.state, InsertState::kNew);
  for (int round = 0; round < 2; ++round) {
    std::vector<Registry::RowName> names = {{SubjectOf("nobody"), 0}};
    std::vector<crypto::KeyId> ids = {crypto::ComputeKeyId(crypto::SecretKey::Random())};
    for (auto row = std::rbegin(rows); row != std::rend(rows); ++row) names.push_back(row->row.name);
    for (auto row = std::rbegin(rows); row != std::rend(rows); ++row) ids.push_back(row->row.id);
    names.push_back(names[1]);
    ids.push_back(ids[1]);
    auto byName = registry->FindMany(names);
    auto byId = registry->FindManyById(ids);
    ASSERT_TRUE(byName.ok() && byId.ok()) << byName.status() << byId.status();
    ASSERT_EQ(byName->size(), names.size());
    ASSERT_EQ(byId->size(), ids.size());
    EXPECT_EQ(*byName->at(0), std::nullopt);
    EXPECT_EQ(*byId->at(0), std::nullopt);
    for (size_t i = 1; i < names.size(); ++i) {
      const Registry::Row& expected = rows[i == 6 ? 4 : 5 - i].row;
      ASSERT_TRUE(byName->at(i).ok() && byName->at(i)->has_value()) << i;
      ASSERT_TRUE(byId->at(i).ok() && byId->at(i)->has_value()) << i;
      ExpectSame(**byName->at(i), expected);
      ExpectSame(**byId->at(i), expected);
    }
    registry = Connect(/*mustExist=*/true);
  }
}

TEST_P(RegistryConformanceTest, AnswersNothingForNothing) {
  auto registry = ConnectInitialised();
  EXPECT_THAT(*registry->FindMany({}), IsEmpty());
  EXPECT_THAT(*registry->FindManyById({}), IsEmpty());
  EXPECT_THAT(*registry->InsertOrGet({}, kNow), IsEmpty());
}

TEST_P(RegistryConformanceTest, TakesThousandsAtOnce) {
  auto registry = ConnectInitialised();
  std::vector<Registry::NewRow> rows;
  std::vector<Registry::RowName> names;
  std::vector<crypto::KeyId> ids;
  for (int i = 0; i < 5000; ++i) {
    rows.push_back(NewUser(std::to_string(i)));
    names.push_back(rows.back().row.name);
    ids.push_back(rows.back().row.id);
  }
  Insert(*registry, rows);
  auto byName = registry->FindMany(names);
  auto byId = registry->FindManyById(ids);
  ASSERT_TRUE(byName.ok() && byId.ok());
  ASSERT_EQ(byName->size(), rows.size());
  ASSERT_EQ(byId->size(), rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    ASSERT_EQ((**byName->at(i)).id, ids[i]);
    ASSERT_EQ((**byId->at(i)).name, names[i]);
  }
}

TEST_P(RegistryConformanceTest, GivesTheSecondAgentTheRowOfTheFirst) {
  auto one = ConnectInitialised();
  auto other = Connect();
  const Registry::NewRow first = NewUser("38");
  const Registry::NewRow second = NewUser("38");
  // Both have looked before either inserts.
  EXPECT_EQ(Find(*one, first.row.name), std::nullopt);
  EXPECT_EQ(Find(*other, second.row.name), std::nullopt);
  EXPECT_EQ(InsertOne(*one, first).state, InsertState::kNew);
  const Registry::Inserted inserted = InsertOne(*other, second);
  ASSERT_EQ(inserted.state, InsertState::kExists);
  ExpectSame(*inserted.existing, first.row);
  EXPECT_EQ(FindById(*one, second.row.id), std::nullopt) << "the key that lost is in the registry";
  // And within one call.
  const Registry::NewRow twice[] = {NewUser("39"), NewUser("39")};
  const auto answers = Insert(*one, twice);
  EXPECT_EQ(answers[0].state, InsertState::kNew);
  ASSERT_EQ(answers[1].state, InsertState::kExists);
  ExpectSame(*answers[1].existing, twice[0].row);
}

TEST_P(RegistryConformanceTest, AgentsThatMakeTheSameUsersAtTheSameMomentEndWithOneKeyPerUser) {
  constexpr int kAgents = 4;
  constexpr int kUsers = 1000;
  constexpr int kBatch = 20;
  ConnectInitialised();
  std::vector<std::map<std::string, crypto::KeyId>> got(kAgents);
  std::vector<std::thread> agents;
  std::atomic<int> ready{0};
  for (int agent = 0; agent < kAgents; ++agent) {
    agents.emplace_back([&, agent] {
      auto registry = Connect();
      ++ready;
      while (ready < kAgents) std::this_thread::yield();
      for (int batch = 0; batch < kUsers; batch += kBatch) {
        std::vector<Registry::NewRow> rows;
        // Not in the same order in each, so that locks taken row by row would be taken crosswise.
        for (int i = 0; i < kBatch; ++i) {
          rows.push_back(NewUser(std::to_string(batch + (agent % 2 == 0 ? i : kBatch - 1 - i))));
        }
        const auto inserted = Insert(*registry, rows);
        for (size_t i = 0; i < rows.size(); ++i) {
          const Registry::Row& row = inserted[i].existing.has_value() ? *inserted[i].existing : rows[i].row;
          got[static_cast<size_t>(agent)][std::string(AsText(row.name.subject))] = row.id;
        }
      }
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(got[0].size(), size_t{kUsers});
  for (const auto& one : got) EXPECT_TRUE(one == got[0]) << "two agents have different keys of one user";
}

TEST_P(RegistryConformanceTest, ErasesAUserInOneKeyspaceOrInAll) {
  auto registry = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("38", "clicks"), NewUser("38", "orders"), NewUser("38", "mails"),
                                   NewUser("39", "clicks")};
  Insert(*registry, rows);
  auto one = Erase(*registry, "38", "orders");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->keyCount, 1u);
  EXPECT_THAT(one->keyspaces, ElementsAre("orders"));
  EXPECT_EQ(one->erasedBefore, std::nullopt);
  auto rest = Erase(*registry, "38", {}, kNow + absl::Hours(1));
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(rest->keyCount, 2u);
  EXPECT_THAT(rest->keyspaces, UnorderedElementsAre("clicks", "mails"));
  EXPECT_EQ(rest->erasedBefore, kNow);
  auto again = Erase(*registry, "38", {}, kNow + absl::Hours(2));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->keyCount, 0u);
  EXPECT_EQ(again->erasedBefore, kNow);
  auto unknown = Erase(*registry, "37");
  ASSERT_TRUE(unknown.ok()) << unknown.status();
  EXPECT_EQ(unknown->keyCount, 0u);
  EXPECT_EQ(unknown->erasedBefore, std::nullopt);

  const auto other = Connect();
  for (Registry* each : {registry.get(), other.get()}) {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Find(*each, rows[i].row.name), std::nullopt);
      auto erased = FindById(*each, rows[i].row.id);
      ASSERT_TRUE(erased.has_value()) << "an erased key became an unknown one";
      EXPECT_TRUE(erased->erased);
      EXPECT_THAT(erased->wrappedKey, IsEmpty());
    }
    ExpectSame(*Find(*each, rows[3].row.name), rows[3].row);
  }
}

TEST_P(RegistryConformanceTest, KeepsOnlyTheIdOfAKeyForAnErasedUser) {
  auto registry = ConnectInitialised();
  auto other = Connect();
  InsertOne(*registry, NewUser("38"));
  ASSERT_TRUE(Erase(*registry, "38").ok());
  const Registry::NewRow late = NewUser("38");
  const Registry::Inserted inserted = InsertOne(*other, late);
  EXPECT_EQ(inserted.state, InsertState::kErased);
  EXPECT_EQ(inserted.existing, std::nullopt);
  EXPECT_EQ(Find(*registry, late.row.name), std::nullopt);
  auto found = FindById(*registry, late.row.id);
  ASSERT_TRUE(found.has_value());
  EXPECT_TRUE(found->erased);
  EXPECT_THAT(found->wrappedKey, IsEmpty());
  // In another keyspace the user was not erased.
  EXPECT_EQ(InsertOne(*registry, NewUser("38", "orders")).state, InsertState::kNew);
}

TEST_P(RegistryConformanceTest, ListsKeysPageByPage) {
  auto registry = ConnectInitialised();
  std::vector<Registry::NewRow> rows = {NewUser("1"), NewUser("2"), NewUser("3"), NewTopic(7, 675)};
  Insert(*registry, rows);
  ASSERT_TRUE(Erase(*registry, "2", {}, kNow + absl::Hours(1)).ok());
  std::vector<Registry::KeyInfo> listed;
  std::string from;
  int pages = 0;
  do {
    auto page = registry->ListKeys(from, 2);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_LE(page->keys.size(), 2u);
    listed.insert(listed.end(), page->keys.begin(), page->keys.end());
    from = page->next;
    ASSERT_LE(++pages, 2);
  } while (!from.empty());
  ASSERT_EQ(listed.size(), rows.size());
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.row.id.bytes < b.row.id.bytes; });
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(listed[i].id, rows[i].row.id);
    EXPECT_EQ(listed[i].scope, rows[i].row.scope);
    EXPECT_EQ(listed[i].name, rows[i].row.name);
    EXPECT_EQ(listed[i].epoch, 1);
    EXPECT_LE(listed[i].made, kNow);
    EXPECT_GT(listed[i].made, kNow - absl::Minutes(1));
    const bool isErased = rows[i].row.name.subject == SubjectOf("2");
    EXPECT_EQ(listed[i].erased, isErased ? std::optional(kNow + absl::Hours(1)) : std::nullopt);
  }
  const auto& last = rows.back().row.id.bytes;
  auto one = registry->ListKeys(std::string(last.begin(), last.end()), 1);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_EQ(one->keys.size(), 1u);
  EXPECT_EQ(one->keys.front().id, rows.back().row.id);
  EXPECT_EQ(one->next, "");
}

TEST_P(RegistryConformanceTest, RemembersErasuresOfSubjectsThatItDoesNotKnow) {
  auto registry = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("1"), NewUser("2")};
  Insert(*registry, rows);
  ASSERT_TRUE(Erase(*registry, "2").ok());
  ASSERT_TRUE(registry->Poll().ok());
  const Subject subjects[] = {SubjectOf("1"), SubjectOf("2"), SubjectOf("3")};
  auto erased = registry->EraseSubjects("clicks", subjects, kNow + absl::Hours(1));
  ASSERT_TRUE(erased.ok()) << erased.status();
  ASSERT_EQ(erased->size(), 3u);
  EXPECT_EQ(erased->at(0).keyCount, 1u);
  EXPECT_THAT(erased->at(0).keyspaces, ElementsAre("clicks"));
  EXPECT_THAT(erased->at(1).keyspaces, IsEmpty());
  EXPECT_EQ(erased->at(1).erasedBefore, kNow);
  EXPECT_EQ(erased->at(2).keyCount, 0u);
  EXPECT_THAT(erased->at(2).keyspaces, ElementsAre("clicks"));
  EXPECT_GT(erased->at(2).number, 0);
  EXPECT_THAT(registry->Poll()->erased, ElementsAre(rows[0].row.id));
  EXPECT_EQ(InsertOne(*registry, NewUser("3")).state, InsertState::kErased);
  EXPECT_EQ(InsertOne(*registry, NewUser("4")).state, InsertState::kNew);
  const auto facts = registry->ReadFacts(subjects);
  ASSERT_TRUE(facts.ok()) << facts.status();
  for (const Registry::KnownFacts& known : *facts) EXPECT_TRUE(known.erased.has_value());
}

// Whoever may erase could make it longer without end.
TEST_P(RegistryConformanceTest, RemembersSoManyErasuresWithoutAKey) {
  RegistryOptions options = GetParam().options(folder_);
  if (options.open) return;  // the simulated one is in memory
  options.mostKeylessErasures = 3;
  const auto connect = [&] {
    auto registry = OpenRegistry(options, /*mustExist=*/false, Soon());
    EXPECT_TRUE(registry.ok()) << registry.status();
    (*registry)->SetDeadline(Soon());
    return *std::move(registry);
  };
  auto registry = connect();
  EXPECT_TRUE(registry->Initialise(SomeIdentity(1), {1, ByteBuffer(60, 7)}, kNow).ok());
  const Registry::NewRow rows[] = {NewUser("1"), NewUser("2")};
  Insert(*registry, rows);
  absl::Time now = kNow;
  const auto erase = [&](std::vector<std::string> users) {
    std::vector<Subject> subjects;
    for (const std::string& user : users) subjects.push_back(SubjectOf(user));
    auto erased = registry->EraseSubjects("clicks", subjects, now);
    EXPECT_TRUE(erased.ok()) << erased.status();
    return *std::move(erased);
  };
  EXPECT_EQ(erase({"1"})[0].keyCount, 1u);  // it had one
  for (const Registry::Erased& one : erase({"a", "b"})) EXPECT_GT(one.number, 0);
  for (const Registry::Erased& one : erase({"a", "b"})) EXPECT_GT(one.number, 0) << "known";
  registry = connect();  // counts anew
  for (const Registry::Erased& one : erase({"c", "d"})) EXPECT_GT(one.number, 0) << "there was room for one";
  const auto full = erase({"e", "2", "a"});
  EXPECT_EQ(full[0].number, 0);
  EXPECT_THAT(full[0].keyspaces, IsEmpty());
  EXPECT_EQ(full[1].keyCount, 1u) << "keys are destroyed all the same";
  EXPECT_GT(full[2].number, 0);
  const Subject refused[] = {SubjectOf("e")};
  EXPECT_FALSE(registry->ReadFacts(refused)->front().erased.has_value());
  EXPECT_EQ(InsertOne(*registry, NewUser("e")).state, InsertState::kNew);
  EXPECT_EQ(erase({"e"})[0].keyCount, 1u) << "and told of again, it is erased";
  // There is room again, which it sees when it counts, not at each call.
  const Subject readmitted[] = {SubjectOf("a"), SubjectOf("b")};
  ASSERT_TRUE(registry->Readmit(readmitted, kNow).ok());
  EXPECT_EQ(erase({"f"})[0].number, 0);
  now += absl::Minutes(1);
  EXPECT_GT(erase({"f"})[0].number, 0);
}

// Its pseudonym is listed as a user's is. Without its keys, every record of a topic would be lost.
TEST_P(RegistryConformanceTest, ErasesNoTopicAsASubject) {
  auto registry = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("1"), NewTopic(9, 1)};
  Insert(*registry, rows);
  const Subject subjects[] = {SubjectOf("1"), rows[1].row.name.subject};
  const auto refused = registry->EraseSubjects("clicks", subjects, kNow);
  EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << refused.status();
  for (const Registry::NewRow& row : rows) {
    const auto found = Find(*registry, row.row.name);
    ASSERT_TRUE(found.has_value());
    ExpectSame(*found, row.row);
  }
  EXPECT_EQ(InsertOne(*registry, NewTopic(9, 2)).state, InsertState::kNew);
  // Nor one that has yet to get a key: nothing tells it from a user's.
  const Registry::NewRow later = NewTopic(10, 1);
  ASSERT_TRUE(registry->EraseSubjects("clicks", {&later.row.name.subject, 1}, kNow).ok());
  EXPECT_EQ(InsertOne(*registry, later).state, InsertState::kNew);
}

TEST_P(RegistryConformanceTest, ReadmitsAUser) {
  using State = Registry::Readmission::State;
  auto registry = ConnectInitialised();
  auto other = Connect();
  const Registry::NewRow before = NewUser("38");
  InsertOne(*registry, before);
  WriteFacts(*registry, {Facts("38", "known", 0, "a change")});
  auto erased = Erase(*registry, "38");
  ASSERT_TRUE(erased.ok()) << erased.status();
  const Registry::NewRow late = NewUser("38");
  EXPECT_EQ(InsertOne(*registry, late).state, InsertState::kErased);
  ASSERT_TRUE(other->Poll().ok());
  const Subject subjects[] = {SubjectOf("39"), SubjectOf("38")};
  auto readmitted = other->Readmit(subjects, kNow + absl::Hours(1));
  ASSERT_TRUE(readmitted.ok()) << readmitted.status();
  EXPECT_EQ(readmitted->at(0).state, State::kNotErased);
  EXPECT_EQ(readmitted->at(1).state, State::kReadmitted);
  EXPECT_EQ(readmitted->at(1).erased, kNow);
  const Registry::KnownFacts known = Known(*registry, "38");
  EXPECT_EQ(known.facts, "") << "what was known came back";
  EXPECT_GT(known.number, erased->number) << "the numbers do not grow";
  EXPECT_EQ(known.erased, std::nullopt);
  EXPECT_THAT(*registry->ReadHistory(SubjectOf("38")), IsEmpty());
  // What was erased stays so.
  for (const Registry::NewRow* row : {&before, &late}) EXPECT_TRUE(FindById(*registry, row->row.id)->erased);
  EXPECT_EQ(Find(*registry, before.row.name), std::nullopt);
  const Registry::NewRow after = NewUser("38");
  EXPECT_EQ(InsertOne(*registry, after).state, InsertState::kNew);
  ExpectSame(*Find(*other, after.row.name), after.row);
  for (Registry* each : {registry.get(), other.get()}) {
    EXPECT_TRUE(each->Poll().ok()) << "it looks like a registry that has lost erasures";
    EXPECT_EQ(each->lastNumber(), known.number);
  }
  EXPECT_EQ(registry->Readmit(subjects, kNow)->at(1).state, State::kNotErased);
  auto again = Erase(*other, "38", {}, kNow + absl::Hours(2));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->keyCount, 1u);
  EXPECT_GT(again->number, known.number);
  EXPECT_THAT(registry->Poll()->erased, testing::Contains(after.row.id));
}

// It would never hear of the erasure, and keep the key until its cache drops it.
TEST_P(RegistryConformanceTest, ReadmitsNobodyWhoseErasureHasYetToReachAnAgent) {
  using State = Registry::Readmission::State;
  auto registry = ConnectInitialised();
  InsertOne(*registry, NewUser("38"));
  Registry::Agent agent;
  agent.id.fill(7);
  agent.name = "node-a";
  agent.cacheTtl = std::chrono::hours(1);
  ASSERT_TRUE(registry->NoteAgent(agent).ok());
  auto erased = Erase(*registry, "38");
  ASSERT_TRUE(erased.ok()) << erased.status();
  const Subject subjects[] = {SubjectOf("38")};
  EXPECT_EQ(registry->Readmit(subjects, kNow)->at(0).state, State::kUnderWay);
  EXPECT_EQ(registry->Readmit(subjects, kNow)->at(0).erased, kNow);
  EXPECT_EQ(InsertOne(*registry, NewUser("38")).state, InsertState::kErased);
  agent.confirmed = erased->number;
  ASSERT_TRUE(registry->NoteAgent(agent).ok());
  EXPECT_EQ(registry->Readmit(subjects, kNow)->at(0).state, State::kReadmitted);
}

// In the middle of an erasure, after the keyspaces were read, another agent makes a key of the user in one that is
// new.
TEST_P(RegistryConformanceTest, NoKeyIsGivenOutInTheMiddleOfAnErasureThatMissesIt) {
  auto eraser = ConnectInitialised();
  auto other = Connect();
  InsertOne(*eraser, NewUser("38"));
  const Registry::NewRow row = NewUser("38", "new keyspace");
  bool wasGiven = false;
  const auto subjectIn = [&](std::string_view keyspace) {
    other->SetDeadline(std::chrono::steady_clock::now() + std::chrono::milliseconds(200));
    wasGiven = wasGiven || other->InsertOrGet({&row, 1}, kNow).ok();
    return SubjectOf("38", keyspace);
  };
  auto erased = eraser->EraseUser({}, subjectIn, kNow);
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_GE(erased->keyCount, 1u);
  const auto found = FindById(*eraser, row.row.id);
  EXPECT_EQ(found.has_value(), wasGiven);
  if (found.has_value()) {
    EXPECT_TRUE(found->erased);
  }
  other->SetDeadline(Soon());
  EXPECT_TRUE(other->EnsureOpen().ok());
  EXPECT_EQ(InsertOne(*other, NewUser("38")).state, InsertState::kErased);
}

TEST_P(RegistryConformanceTest, TellsOfErasuresByAnyAgentOnceEach) {
  auto one = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("1"), NewUser("2"), NewUser("2", "orders"), NewUser("3")};
  Insert(*one, rows);
  ASSERT_TRUE(Erase(*one, "1").ok());
  auto other = Connect();
  EXPECT_THAT(other->Poll()->erased, IsEmpty()) << "from before it was opened";
  EXPECT_THAT(one->Poll()->erased, ElementsAre(rows[0].row.id));
  ASSERT_TRUE(Erase(*other, "2").ok());
  for (Registry* registry : {one.get(), other.get()}) {
    EXPECT_THAT(registry->Poll()->erased, UnorderedElementsAre(rows[1].row.id, rows[2].row.id));
    EXPECT_THAT(registry->Poll()->erased, IsEmpty());
  }
}

TEST_P(RegistryConformanceTest, ErasesManyUsersAtOnceAndTellsOfEach) {
  constexpr size_t kUsers = 700;
  auto registry = ConnectInitialised();
  std::vector<Registry::NewRow> rows;
  for (size_t i = 0; i < kUsers; ++i) {
    rows.push_back(NewUser(std::to_string(i), "clicks"));
    if (i % 2 == 0) rows.push_back(NewUser(std::to_string(i), "orders"));
  }
  Insert(*registry, rows);
  auto first = Erase(*registry, "7");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_GT(first->number, 0);
  // Of the last user there is no key.
  const auto subjectOf = [](size_t user, std::string_view keyspace) {
    return SubjectOf(std::to_string(user), keyspace);
  };
  auto erased = registry->EraseUsers({}, kUsers + 1, subjectOf, kNow + absl::Hours(1));
  ASSERT_TRUE(erased.ok()) << erased.status();
  ASSERT_EQ(erased->size(), kUsers + 1);
  for (size_t i = 0; i < kUsers; ++i) {
    const Registry::Erased& one = erased->at(i);
    if (i == 7) {
      EXPECT_EQ(one.keyCount, 0u);
      EXPECT_EQ(one.erasedBefore, kNow);
      EXPECT_EQ(one.number, first->number);
      continue;
    }
    ASSERT_EQ(one.keyCount, i % 2 == 0 ? 2u : 1u) << i;
    ASSERT_EQ(one.keyspaces.size(), one.keyCount) << i;
    EXPECT_EQ(one.erasedBefore, std::nullopt);
    EXPECT_GT(one.number, first->number);
  }
  EXPECT_EQ(erased->back().keyCount, 0u);
  EXPECT_EQ(erased->back().number, 0);
  for (const Registry::NewRow& row : rows) EXPECT_TRUE(FindById(*registry, row.row.id)->erased);
  auto again = registry->EraseUsers("clicks", kUsers, subjectOf, kNow + absl::Hours(2));
  ASSERT_TRUE(again.ok()) << again.status();
  for (size_t i = 0; i < kUsers; ++i) {
    EXPECT_EQ(again->at(i).keyCount, 0u);
    EXPECT_EQ(again->at(i).erasedBefore, kNow + absl::Hours(i == 7 ? 0 : 1));
  }
}

TEST_P(RegistryConformanceTest, TellsOfManyErasuresPieceByPiece) {
  constexpr size_t kUsers = Registry::kMostNewsOfAPoll + 300;
  auto registry = ConnectInitialised();
  const int64_t before = registry->lastNumber();
  std::vector<Registry::NewRow> rows;
  for (size_t i = 0; i < kUsers; ++i) rows.push_back(NewUser(std::to_string(i)));
  Insert(*registry, rows);
  auto erased = registry->EraseUsers(
      {}, kUsers, [](size_t user, std::string_view keyspace) { return SubjectOf(std::to_string(user), keyspace); },
      kNow);
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_EQ(registry->lastNumber(), before) << "nobody was told yet";
  int64_t newest = 0;
  for (const Registry::Erased& one : *erased) newest = std::max(newest, one.number);
  auto first = registry->Poll();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->erased.size(), Registry::kMostNewsOfAPoll);
  EXPECT_TRUE(first->mayHaveMore);
  EXPECT_LT(registry->lastNumber(), newest);
  auto rest = registry->Poll();
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(rest->erased.size(), 300u);
  EXPECT_FALSE(rest->mayHaveMore);
  EXPECT_EQ(registry->lastNumber(), newest);
  EXPECT_EQ(Connect()->lastNumber(), newest) << "what was erased before it was opened is known to be";
}

TEST_P(RegistryConformanceTest, GivesWhatIsKnownOfAUserWithTheKey) {
  auto one = ConnectInitialised();
  auto other = Connect();
  const Registry::NewRow before = NewUser("1");
  Insert(*one, {&before, 1});
  EXPECT_EQ(Find(*one, before.row.name)->facts, "");
  const std::vector<int64_t> numbers = WriteFacts(*one, {Facts("1", "first"), Facts("2", "second")});
  EXPECT_GT(numbers.at(0), 0);
  EXPECT_GT(numbers.at(1), 0);
  for (Registry* registry : {one.get(), other.get()}) {
    EXPECT_EQ(Find(*registry, before.row.name)->facts, "first");
    EXPECT_EQ(FindById(*registry, before.row.id)->facts, "first");
  }
  // Known before there was a key.
  const Registry::NewRow later[] = {NewUser("2"), NewUser("3")};
  const std::vector<Registry::Inserted> inserted = Insert(*other, later);
  EXPECT_EQ(inserted.at(0).state, InsertState::kNew);
  EXPECT_EQ(inserted.at(0).facts, "second");
  EXPECT_EQ(inserted.at(1).facts, "");
  const Registry::NewRow late = NewUser("2");
  EXPECT_EQ(InsertOne(*one, late).existing->facts, "second");
  const Registry::NewRow elsewhere = NewUser("2", "orders");
  EXPECT_EQ(InsertOne(*one, elsewhere).facts, "") << "of another keyspace";
}

TEST_P(RegistryConformanceTest, ReplacesWhatIsKnownOnlyIfNobodyElseHas) {
  auto one = ConnectInitialised();
  auto other = Connect();
  EXPECT_EQ(Known(*one, "1").number, 0);
  const int64_t first = WriteFacts(*one, {Facts("1", "a")}).at(0);
  ASSERT_GT(first, 0);
  EXPECT_EQ(Known(*other, "1").facts, "a");
  EXPECT_EQ(Known(*other, "1").number, first);
  EXPECT_EQ(WriteFacts(*other, {Facts("1", "of one who had not read")}).at(0), 0);
  const std::vector<int64_t> second = WriteFacts(*other, {Facts("1", "b", first), Facts("2", "c")});
  EXPECT_GT(second.at(0), first);
  EXPECT_GT(second.at(1), first);
  EXPECT_EQ(WriteFacts(*one, {Facts("1", "late", first)}).at(0), 0);
  EXPECT_EQ(Known(*one, "1").facts, "b");
  EXPECT_EQ(Known(*one, "2").facts, "c");
  EXPECT_THAT(*one->ReadKeyspaces(), ElementsAre("clicks")) << "an erasure has to find them";
  EXPECT_TRUE(WriteFacts(*one, {}).empty());
}

TEST_P(RegistryConformanceTest, ChangesAtTheSameMomentAreAllMade) {
  ConnectInitialised();
  constexpr int kAgents = 4;
  constexpr int kChanges = 20;
  std::vector<std::thread> agents;
  for (int agent = 0; agent < kAgents; ++agent) {
    agents.emplace_back([&] {
      auto registry = Connect();
      for (int done = 0; done < kChanges;) {
        const Registry::KnownFacts known = Known(*registry, "1");
        done += WriteFacts(*registry, {Facts("1", known.facts + "x", known.number)}).at(0) > 0 ? 1 : 0;
      }
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(Known(*Connect(), "1").facts, std::string(kAgents * kChanges, 'x'));
}

TEST_P(RegistryConformanceTest, TellsOfChangesByAnyAgentOnceEach) {
  auto one = ConnectInitialised();
  const Registry::NewRow rows[] = {NewUser("1"), NewUser("2")};
  Insert(*one, rows);
  WriteFacts(*one, {Facts("2", "before it was opened")});
  auto other = Connect();
  const int64_t number = WriteFacts(*one, {Facts("1", "a"), Facts("without a key", "b")}).at(1);
  for (Registry* registry : {one.get(), other.get()}) {
    const Registry::News news = *registry->Poll();
    EXPECT_THAT(news.erased, IsEmpty());
    EXPECT_THAT(news.changed, testing::Contains(rows[0].row.id));
    EXPECT_GE(registry->lastNumber(), number);
    EXPECT_THAT(registry->Poll()->changed, IsEmpty());
  }
  // Both kinds, in one order.
  ASSERT_TRUE(Erase(*other, "1").ok());
  WriteFacts(*one, {Facts("2", "c", Known(*one, "2").number)});
  const Registry::News news = *other->Poll();
  EXPECT_THAT(news.erased, ElementsAre(rows[0].row.id));
  EXPECT_THAT(news.changed, ElementsAre(rows[1].row.id));
}

TEST_P(RegistryConformanceTest, TellsOfManyChangesPieceByPiece) {
  constexpr size_t kUsers = Registry::kMostNewsOfAPoll + 100;
  auto registry = ConnectInitialised();
  int64_t newest = 0;
  // Nobody has a key but the last.
  const Registry::NewRow row = NewUser(std::to_string(kUsers - 1));
  Insert(*registry, {&row, 1});
  for (size_t first = 0; first < kUsers; first += 400) {
    std::vector<Registry::NewFacts> facts;
    for (size_t user = first; user < std::min(kUsers, first + 400); ++user) {
      facts.push_back(Facts(std::to_string(user), "a"));
    }
    for (const int64_t number : WriteFacts(*registry, facts)) newest = std::max(newest, number);
  }
  const Registry::News first = *registry->Poll();
  EXPECT_TRUE(first.mayHaveMore);
  EXPECT_LT(registry->lastNumber(), newest);
  const Registry::News rest = *registry->Poll();
  EXPECT_FALSE(rest.mayHaveMore);
  EXPECT_EQ(registry->lastNumber(), newest);
  EXPECT_EQ(first.changed.size() + rest.changed.size(), 1u);
}

TEST_P(RegistryConformanceTest, ErasesWhatIsKnownOfAUserWithTheKeys) {
  auto registry = ConnectInitialised();
  const Registry::NewRow row = NewUser("1");
  Insert(*registry, {&row, 1});
  WriteFacts(*registry, {Facts("1", "a", 0, "granted"), Facts("2", "b", 0, "granted"), Facts("3", "c", 0, "granted")});
  const auto keyed = Erase(*registry, "1");
  ASSERT_TRUE(keyed.ok()) << keyed.status();
  EXPECT_EQ(keyed->keyCount, 1u);
  // A user who is known counts as one who has a key: what comes later is not read either.
  const auto keyless = Erase(*registry, "2");
  ASSERT_TRUE(keyless.ok()) << keyless.status();
  EXPECT_EQ(keyless->keyCount, 0u);
  EXPECT_THAT(keyless->keyspaces, ElementsAre("clicks"));
  EXPECT_GT(keyless->number, keyed->number);
  for (const char* user : {"1", "2"}) {
    const Registry::KnownFacts known = Known(*registry, user);
    EXPECT_EQ(known.facts, "");
    EXPECT_EQ(known.erased, kNow);
    EXPECT_THAT(*registry->ReadHistory(SubjectOf(user)), IsEmpty());
    EXPECT_EQ(WriteFacts(*registry, {Facts(user, "again")}).at(0), 0) << "an erased user is known again";
    EXPECT_EQ(InsertOne(*registry, NewUser(user)).state, InsertState::kErased);
  }
  EXPECT_EQ(FindById(*registry, row.row.id)->facts, "");
  EXPECT_EQ(Known(*registry, "3").facts, "c");
  EXPECT_EQ(registry->ReadHistory(SubjectOf("3"))->size(), 1u);
  const auto unknown = Erase(*registry, "4");
  ASSERT_TRUE(unknown.ok());
  EXPECT_EQ(unknown->number, 0);
  // The numbers go on behind that of the erasure, whichever rows it has deleted.
  EXPECT_GT(WriteFacts(*registry, {Facts("4", "d")}).at(0), keyless->number);
}

TEST_P(RegistryConformanceTest, KeepsTheLastChangesOfAUser) {
  auto registry = ConnectInitialised();
  int64_t number = 0;
  for (size_t i = 0; i < Registry::kMostPastChanges + 5; ++i) {
    const absl::Time time = kNow + absl::Seconds(i);
    const Registry::NewFacts facts[] = {Facts("1", std::to_string(i), number, i == 3 ? "" : std::to_string(i)),
                                        Facts("other" + std::to_string(i), "x", 0, "x")};
    number = registry->WriteFacts(facts, time)->at(0);
    ASSERT_GT(number, 0);
  }
  const auto history = registry->ReadHistory(SubjectOf("1"));
  ASSERT_TRUE(history.ok()) << history.status();
  ASSERT_EQ(history->size(), Registry::kMostPastChanges);
  for (size_t i = 0; i < history->size(); ++i) {
    EXPECT_EQ(history->at(i).history, std::to_string(i + 5));
    EXPECT_EQ(history->at(i).time, kNow + absl::Seconds(i + 5));
  }
  EXPECT_EQ(history->back().number, number);
  EXPECT_EQ(registry->ReadHistory(SubjectOf("other0"))->size(), 1u);
}

constexpr std::chrono::hours kLongLease{1};
constexpr std::chrono::milliseconds kNoLease{0};

TEST_P(RegistryConformanceTest, OneAgentAtATimeFollowsASource) {
  auto one = ConnectInitialised();
  auto two = Connect();
  EXPECT_THAT(*one->ReadSources(true), IsEmpty());
  const auto first = one->LeadSource("clicks", {1}, "node-1", kLongLease);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_TRUE(first->has_value());
  EXPECT_EQ((*first)->generation, 0);
  EXPECT_EQ((*first)->age, std::nullopt);
  EXPECT_EQ(*two->LeadSource("clicks", {2}, "node-2", kLongLease), std::nullopt);
  EXPECT_EQ(two->ReadSources(true)->at(0).follower, "node-1");
  const auto again = one->LeadSource("clicks", {1}, "node-1", kLongLease);
  ASSERT_TRUE(again.ok() && again->has_value()) << "it follows already";
  EXPECT_GT((*again)->term, (*first)->term);
  const auto taken = two->LeadSource("clicks", {2}, "node-2", kNoLease);
  ASSERT_TRUE(taken.ok() && taken->has_value());
  EXPECT_GT((*taken)->term, (*again)->term);
  EXPECT_TRUE(one->LeadSource("orders", {1}, "node-1", kLongLease)->has_value()) << "another source";
}

TEST_P(RegistryConformanceTest, AnotherAgentFollowsAtOnceWhenTheSourceIsReleased) {
  auto one = ConnectInitialised();
  auto two = Connect();
  const int64_t term = (*one->LeadSource("clicks", {1}, "node-1", kLongLease))->term;
  EXPECT_TRUE(one->LeadSource("orders", {1}, "node-1", kLongLease)->has_value());
  EXPECT_TRUE(one->ReleaseSource("clicks", term - 1, {1}).ok());
  EXPECT_TRUE(one->ReleaseSource("clicks", term, {2}).ok());
  EXPECT_EQ(*two->LeadSource("clicks", {2}, "node-2", kLongLease), std::nullopt) << "another term, another agent";
  const absl::Status released = one->ReleaseSource("clicks", term, {1});
  ASSERT_TRUE(released.ok()) << released;
  EXPECT_TRUE(two->LeadSource("clicks", {2}, "node-2", kLongLease)->has_value());
  EXPECT_EQ(*two->LeadSource("orders", {2}, "node-2", kLongLease), std::nullopt) << "another source";
}

TEST_P(RegistryConformanceTest, WhatIsKnownMovesTogetherWithTheSource) {
  auto registry = ConnectInitialised();
  const auto led = registry->LeadSource("clicks", {1}, "node-1", kLongLease);
  ASSERT_TRUE(led.ok() && led->has_value());
  Registry::SourceMove move{"clicks", (*led)->term, 1, "at 7", std::nullopt, std::chrono::minutes(5), "", {1}};
  const Registry::NewFacts facts[] = {{SubjectOf("38"), "clicks", "yes", 0, "granted"},
                                      {SubjectOf("39"), "clicks", "no", 0, ""}};
  const auto moved = registry->MoveSource(move, facts, kNow);
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_TRUE(moved->isDone);
  ASSERT_EQ(moved->numbers.size(), 2u);
  const Subject subjects[] = {SubjectOf("38"), SubjectOf("39")};
  const auto known = registry->ReadFacts(subjects);
  EXPECT_EQ(known->at(0).facts, "yes");
  EXPECT_EQ(known->at(0).number, moved->numbers[0]);
  EXPECT_EQ(known->at(1).number, moved->numbers[1]);
  EXPECT_EQ(registry->ReadHistory(SubjectOf("38"))->size(), 1u);
  EXPECT_EQ(*registry->ReadKeyspaces(), std::vector<std::string>{"clicks"});
  Registry::Source source = registry->ReadSources(true)->at(0);
  EXPECT_EQ(source.state, "at 7");
  EXPECT_EQ(source.generation, 1);
  EXPECT_EQ(source.age, std::nullopt);
  EXPECT_EQ(source.staleAfter, std::chrono::minutes(5));
  // One of them has other facts by now.
  move.before = "at 7";
  move.state = "at 8";
  const Registry::NewFacts late[] = {{SubjectOf("38"), "clicks", "later", moved->numbers[0], ""},
                                     {SubjectOf("39"), "clicks", "later", 0, ""}};
  EXPECT_FALSE(registry->MoveSource(move, late, kNow)->isDone);
  EXPECT_EQ(registry->ReadFacts(subjects)->at(0).facts, "yes");
  EXPECT_EQ(registry->ReadSources(true)->at(0).state, "at 7");
  // One of them is erased.
  ASSERT_TRUE(registry
                  ->EraseUser(
                      "clicks", [](std::string_view) { return SubjectOf("39"); }, kNow)
                  .ok());
  const Registry::NewFacts erased[] = {{SubjectOf("38"), "clicks", "later", moved->numbers[0], ""},
                                       {SubjectOf("39"), "clicks", "later", moved->numbers[1], ""}};
  EXPECT_FALSE(registry->MoveSource(move, erased, kNow)->isDone);
  EXPECT_TRUE(registry->MoveSource(move, absl::MakeSpan(erased).first(1), kNow)->isDone);
  EXPECT_EQ(registry->ReadFacts(subjects)->at(0).facts, "later");
  EXPECT_EQ(registry->ReadSources(true)->at(0).state, "at 8");
}

TEST_P(RegistryConformanceTest, AFollowerThatIsFollowedByAnotherWritesNothing) {
  auto one = ConnectInitialised();
  auto two = Connect();
  const int64_t before = (*one->LeadSource("clicks", {1}, "node-1", kLongLease))->term;
  const int64_t after = (*two->LeadSource("clicks", {2}, "node-2", kNoLease))->term;
  const Registry::NewFacts facts[] = {{SubjectOf("38"), "clicks", "yes", 0, ""}};
  EXPECT_FALSE(one->MoveSource({"clicks", before, 1, "old", {}, {}, "", {1}}, facts, kNow)->isDone);
  EXPECT_FALSE(one->MoveSource({"clicks", before, 1, "old", {}, {}, "", {1}}, {}, kNow)->isDone);
  const Subject subjects[] = {SubjectOf("38")};
  EXPECT_EQ(one->ReadFacts(subjects)->at(0).number, 0);
  EXPECT_EQ(one->ReadSources(true)->at(0).state, "");
  EXPECT_TRUE(two->MoveSource({"clicks", after, 1, "new", {}, {}, "", {2}}, facts, kNow)->isDone);
  EXPECT_EQ(one->ReadSources(true)->at(0).state, "new");
}

// A registry that was restored has another state, and may have the same term.
TEST_P(RegistryConformanceTest, AFollowerGoesOnOnlyFromTheStateThatItKnows) {
  auto registry = ConnectInitialised();
  const int64_t term = (*registry->LeadSource("clicks", {1}, "node-1", kLongLease))->term;
  ASSERT_TRUE(registry->MoveSource({"clicks", term, 1, "at 7", {}, {}, "", {1}}, {}, kNow)->isDone);
  const Registry::NewFacts facts[] = {{SubjectOf("38"), "clicks", "yes", 0, ""}};
  for (const Registry::SourceMove& move : {Registry::SourceMove{"clicks", term, 1, "at 9", {}, {}, "at 8", {1}},
                                           {"clicks", term, 1, "at 9", {}, {}, "", {1}},
                                           {"clicks", term, 1, "at 9", {}, {}, "at 7", {2}}}) {
    EXPECT_FALSE(registry->MoveSource(move, facts, kNow)->isDone);
    EXPECT_FALSE(registry->MoveSource(move, {}, kNow)->isDone);
  }
  EXPECT_EQ(registry->ReadSources(true)->at(0).state, "at 7");
  EXPECT_EQ(registry->ReadSources(false)->at(0).state, "");
  const auto again = registry->LeadSource("clicks", {1}, "node-1", kLongLease);
  EXPECT_EQ((*again)->state, "at 7");
  EXPECT_EQ((*again)->generation, 1);
  EXPECT_EQ((*again)->keyspace, "clicks");
  EXPECT_TRUE(registry->MoveSource({"clicks", (*again)->term, 1, "at 9", {}, {}, "at 7", {1}}, facts, kNow)->isDone);
}

TEST(SourceAgeTest, NobodyKnowsTheAgeByAClockThatWasSetBack) {
  using std::chrono::milliseconds;
  EXPECT_EQ(Registry::SourceAge(milliseconds(7)), milliseconds(7));
  EXPECT_EQ(Registry::SourceAge(milliseconds(-2000)), milliseconds(0)) << "two clocks";
  EXPECT_EQ(Registry::SourceAge(milliseconds(-2001)), std::nullopt);
  EXPECT_EQ(Registry::SourceAge(std::chrono::hours(-1)), std::nullopt);
}

TEST_P(RegistryConformanceTest, ASourceIsAsOldAsItsLastEnd) {
  auto registry = ConnectInitialised();
  const int64_t term = (*registry->LeadSource("clicks", {1}, "node-1", kLongLease))->term;
  const auto ageAfter = [&](int64_t generation, std::optional<std::chrono::milliseconds> age) {
    EXPECT_TRUE(registry->MoveSource({"clicks", term, generation, "", age, {}, "", {1}}, {}, kNow)->isDone);
    return registry->ReadSources(true)->at(0).age;
  };
  EXPECT_EQ(ageAfter(1, std::nullopt), std::nullopt);
  const auto aged = ageAfter(1, std::chrono::hours(1));
  ASSERT_TRUE(aged.has_value());
  EXPECT_GE(*aged, std::chrono::hours(1));
  EXPECT_LT(*aged, std::chrono::hours(2));
  EXPECT_GE(*ageAfter(1, std::nullopt), *aged) << "it stays";
  EXPECT_LT(*ageAfter(1, std::chrono::milliseconds(0)), std::chrono::hours(1));
  EXPECT_EQ(ageAfter(2, std::nullopt), std::nullopt) << "nothing of another generation counts";
}

TEST_P(RegistryConformanceTest, KnowsNoMoreThanTheMostSources) {
  auto registry = ConnectInitialised();
  for (size_t i = 0; i < Registry::kMostSources; ++i) {
    ASSERT_TRUE(registry->LeadSource(StrCat("k", i), {1}, "node-1", kLongLease).ok());
  }
  EXPECT_TRUE(absl::IsUnavailable(registry->LeadSource("one more", {1}, "node-1", kLongLease).status()));
  EXPECT_TRUE(registry->LeadSource("k7", {1}, "node-1", kLongLease)->has_value());
  EXPECT_EQ(registry->ReadSources(true)->size(), Registry::kMostSources);
}

TEST_P(RegistryConformanceTest, KnowsAnAgentUntilItHasEnded) {
  auto registry = ConnectInitialised();
  EXPECT_THAT(*registry->ReadAgents(), IsEmpty());
  Registry::Agent agent{{1, 2, 3}, "node-a:7", std::chrono::seconds(60), 5, {}};
  for (int64_t confirmed : {5, 9}) {
    agent.confirmed = confirmed;
    ASSERT_TRUE(registry->NoteAgent(agent).ok()) << registry->NoteAgent(agent);
    auto agents = registry->ReadAgents();
    ASSERT_TRUE(agents.ok()) << agents.status();
    ASSERT_EQ(agents->size(), 1u);
    EXPECT_EQ(agents->at(0).id, agent.id);
    EXPECT_EQ(agents->at(0).name, "node-a:7");
    EXPECT_EQ(agents->at(0).cacheTtl, std::chrono::seconds(60));
    EXPECT_EQ(agents->at(0).confirmed, confirmed);
    EXPECT_LT(agents->at(0).lastSeen, std::chrono::seconds(5));
  }
  ASSERT_TRUE(registry->ForgetAgent(agent.id).ok());
  EXPECT_THAT(*registry->ReadAgents(), IsEmpty());
}

TEST_P(RegistryConformanceTest, IsWritableHasRoomAndCanPurge) {
  auto registry = ConnectInitialised();
  InsertOne(*registry, NewUser("38"));
  ASSERT_TRUE(Erase(*registry, "38").ok());
  const absl::Status purged = registry->PurgeErased();
  EXPECT_TRUE(purged.ok() || absl::IsUnimplemented(purged)) << purged;
  EXPECT_TRUE(registry->CheckWritable(kNow).ok()) << registry->CheckWritable(kNow);
  EXPECT_TRUE(registry->CheckRoom().ok()) << registry->CheckRoom();
  EXPECT_FALSE(registry->name().empty());
}

TEST_P(RegistryConformanceTest, IsTheSameWhenItIsOpenedAnew) {
  auto registry = ConnectInitialised();
  const Registry::NewRow row = NewUser("38");
  InsertOne(*registry, row);
  ASSERT_TRUE(registry->EnsureOpen().ok());
  const uint64_t openings = registry->openings();
  ASSERT_TRUE(registry->EnsureOpen().ok());
  EXPECT_EQ(registry->openings(), openings) << "without a reason";
  registry->Reopen();
  ASSERT_TRUE(registry->EnsureOpen().ok()) << registry->EnsureOpen();
  EXPECT_GT(registry->openings(), openings);
  ExpectSame(*Find(*registry, row.row.name), row.row);
}

// That of tests/unit/keys_simulation, so that what is simulated is a registry like the others.
RegistryOptions SimulatedOptions(const std::string& folder) {
  static std::map<std::string, std::shared_ptr<SharedTables>> registries;
  std::shared_ptr<SharedTables>& shared = registries[folder];
  if (shared == nullptr) shared = std::make_shared<SharedTables>();
  RegistryOptions options;
  options.open = [shared](bool mustExist, Registry::Deadline deadline) {
    return SimulatedRegistry::Open(std::make_unique<DirectWire>(shared), mustExist, deadline);
  };
  return options;
}

const Backend kBackends[] = {
    {"sqlite", [](const std::string& folder) { return RegistryOptions{.sqlite = folder + "/registry.db"}; }},
    {"postgres", [](const std::string& folder) { return PostgresServer::Running().OptionsFor(folder); }},
    {"simulated", [](const std::string& folder) { return SimulatedOptions(folder); }},
};
Registry::KekKey SomeKekKey(uint8_t number, const std::string& key, int64_t window) {
  return {{{number}}, {"payments", key}, window, ByteBuffer(90, number)};
}

TEST_P(RegistryConformanceTest, AKekKeyIsFoundByIdAndByNameAndWindow) {
  auto registry = ConnectInitialised();
  EXPECT_EQ(registry->FindKekKey({"payments", "orders"}, 7)->has_value(), false);
  const auto inserted = registry->InsertOrGetKekKey(SomeKekKey(1, "orders", 7), kNow);
  ASSERT_TRUE(inserted.ok()) << inserted.status();
  ASSERT_TRUE(registry->InsertOrGetKekKey(SomeKekKey(2, "orders", 8), kNow).ok());
  ASSERT_TRUE(registry->InsertOrGetKekKey(SomeKekKey(3, std::string("clicks\xff"), 7), kNow).ok());
  registry = Connect(/*mustExist=*/true);
  const auto found = registry->FindKekKey({"payments", "orders"}, 7);
  ASSERT_TRUE(found.ok() && found->has_value()) << found.status();
  EXPECT_EQ((*found)->id, crypto::KeyId{{1}});
  EXPECT_EQ((*found)->wrappedKey, ByteBuffer(90, 1));
  EXPECT_FALSE(registry->FindKekKey({"other", "orders"}, 7)->has_value());
  EXPECT_FALSE(registry->FindKekKey({"payments", "orders"}, 9)->has_value());
  const crypto::KeyId ids[] = {{{3}}, {{9}}, {{1}}};
  const auto many = registry->FindKekKeys(ids);
  ASSERT_TRUE(many.ok()) << many.status();
  std::map<uint8_t, std::string> names;
  for (const Registry::KekKey& key : *many) names[key.id.bytes[0]] = StrCat(key.name.Text(), " ", key.window);
  EXPECT_EQ(names, (std::map<uint8_t, std::string>{{1, "payments/orders 7"}, {3, "payments/clicks\xff 7"}}));
}

TEST_P(RegistryConformanceTest, AgentsThatMakeAKekKeyAtOnceGetTheSame) {
  auto first = ConnectInitialised();
  std::vector<std::thread> agents;
  std::vector<crypto::KeyId> ids(4);
  for (uint8_t i = 0; i < 4; ++i) {
    agents.emplace_back([&, i] {
      auto registry = Connect(/*mustExist=*/true);
      const auto key = registry->InsertOrGetKekKey(SomeKekKey(static_cast<uint8_t>(i + 1), "orders", 7), kNow);
      EXPECT_TRUE(key.ok()) << key.status();
      if (key.ok()) ids[i] = key->id;
    });
  }
  for (std::thread& agent : agents) agent.join();
  const auto stored = first->FindKekKey({"payments", "orders"}, 7);
  ASSERT_TRUE(stored.ok() && stored->has_value());
  for (const crypto::KeyId& id : ids) EXPECT_EQ(id, (*stored)->id);
}

TEST_P(RegistryConformanceTest, KekKeysAreListedPageByPageAndReplacedOnlyIfNobodyElseHas) {
  auto registry = ConnectInitialised();
  for (uint8_t i = 5; i > 0; --i) {
    ASSERT_TRUE(registry->InsertOrGetKekKey(SomeKekKey(i, i == 2 ? "clicks" : "orders", i), kNow).ok());
  }
  const auto list = [&](std::string_view provider, std::string_view name, uint8_t after, size_t most) {
    const auto keys = registry->ListKekKeys(provider, name, crypto::KeyId{{after}}, most);
    EXPECT_TRUE(keys.ok()) << keys.status();
    std::vector<int> ids;
    for (const Registry::KekKey& key : *keys) ids.push_back(key.id.bytes[0]);
    return ids;
  };
  EXPECT_EQ(list("payments", "", 0, 10), (std::vector<int>{1, 2, 3, 4, 5}));
  EXPECT_EQ(list("payments", "orders", 1, 2), (std::vector<int>{3, 4}));
  EXPECT_EQ(list("payments", "clicks", 2, 2), std::vector<int>());
  EXPECT_EQ(list("other", "", 0, 10), std::vector<int>());
  auto other = Connect(/*mustExist=*/true);
  const Registry::KekKey before = SomeKekKey(3, "orders", 3);
  EXPECT_EQ(*other->ReplaceKekKey(before, ByteBuffer(100, 9)), true);
  EXPECT_EQ(*registry->ReplaceKekKey(before, ByteBuffer(100, 8)), false);
  EXPECT_EQ(*registry->ReplaceKekKey(SomeKekKey(7, "orders", 3), ByteBuffer(100, 8)), false);
  EXPECT_EQ((*registry->FindKekKey({"payments", "orders"}, 3))->wrappedKey, ByteBuffer(100, 9));
  EXPECT_EQ((*registry->FindKekKey({"payments", "orders"}, 4))->wrappedKey, ByteBuffer(90, 4));
}

TEST_P(RegistryConformanceTest, WhatTheRootKeyHasWrappedIsReplacedAsAWholeOrNotAtAll) {
  auto registry = ConnectInitialised();
  const ByteBuffer secret = (*registry->ReadIdentity())->wrappedSecret,
                   first = registry->ReadEpochs()->at(0).wrappedKey;
  const ByteBuffer other(70, 5), mine(80, 6);
  const auto expect = [&](const ByteBuffer& wrappedSecret, const std::vector<ByteBuffer>& keys) {
    EXPECT_EQ((*registry->ReadIdentity())->wrappedSecret, wrappedSecret);
    const auto epochs = registry->ReadEpochs();
    ASSERT_EQ(epochs->size(), keys.size());
    for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(epochs->at(i).wrappedKey, keys[i]) << i;
  };
  const std::vector<std::vector<Registry::Rewrapped>> refused = {
      {{0, other, mine}, {1, first, mine}},   // the secret is another
      {{0, secret, mine}, {1, other, mine}},  // the epoch's key is
      {{0, secret, mine}},                    // an epoch is missing
      {{0, secret, mine}, {1, first, mine}, {2, other, mine}},
  };
  for (const auto& rewrapped : refused) {
    const auto isReplaced = registry->ReplaceWrapped(rewrapped);
    ASSERT_TRUE(isReplaced.ok()) << isReplaced.status();
    EXPECT_FALSE(*isReplaced);
    expect(secret, {first});
  }
  auto agent = Connect(/*mustExist=*/true);
  ASSERT_EQ(*agent->AddEpoch({2, other}, secret, secret, kNow), true);
  EXPECT_EQ(*registry->ReplaceWrapped(std::vector<Registry::Rewrapped>{{0, secret, mine}, {1, first, mine}}), false);
  const ByteBuffer a(91, 1), b(92, 2), c(93, 3);
  EXPECT_EQ(*registry->ReplaceWrapped(std::vector<Registry::Rewrapped>{{0, secret, a}, {1, first, b}, {2, other, c}}),
            true);
  expect(a, {b, c});
  EXPECT_EQ(*agent->AddEpoch({3, other}, secret, secret, kNow), false) << "it was made of what there was before";
}

INSTANTIATE_TEST_SUITE_P(Backends, RegistryConformanceTest, testing::ValuesIn(kBackends),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kveil::keys
