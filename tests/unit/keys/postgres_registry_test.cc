// What goes wrong with PostgreSQL: kUnavailable in bounded time, said in plain words, and well again by itself. And
// what several agents do to each other.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "base/text.h"
#include "base/unique_fd.h"
#include "key_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"
#include "postgres_server.h"

namespace kveil::keys {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using InsertState = Registry::Inserted::State;

class PostgresRegistryTest : public KeyTest {
 protected:
  PostgresServer& server_ = PostgresServer::Running();

  static Registry::Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }

  absl::StatusOr<std::unique_ptr<Registry>> TryConnect(const RegistryOptions& options,
                                                       milliseconds time = seconds(10)) {
    return OpenRegistry(options, /*mustExist=*/false, In(time));
  }
  std::unique_ptr<Registry> Connect(const RegistryOptions& options) {
    auto registry = TryConnect(options);
    EXPECT_TRUE(registry.ok()) << registry.status();
    if (!registry.ok()) return nullptr;
    (*registry)->SetDeadline(In(seconds(20)));
    return *std::move(registry);
  }
  std::unique_ptr<Registry> Connect() { return Connect(server_.OptionsFor(folder_)); }
  std::unique_ptr<Registry> ConnectInitialised() {
    auto registry = Connect();
    Registry::Identity identity{{1}, ByteBuffer(60, 1)};
    EXPECT_TRUE(registry->Initialise(identity, {1, ByteBuffer(60, 7)}, kNow).ok());
    return registry;
  }
  PostgresServer::Client Client() { return server_.ClientOf(folder_); }

  static Subject SubjectOf(int user, std::string_view keyspace = "clicks") {
    Subject subject{};
    std::string text = std::to_string(user) + "/" + std::string(keyspace);
    std::copy(text.begin(), text.end(), subject.begin());
    return subject;
  }
  static Registry::NewRow NewUser(int user, int64_t window = 0) {
    Registry::Row row;
    row.id = crypto::ComputeKeyId(crypto::SecretKey::Random());
    row.name = {SubjectOf(user), window};
    row.epoch = 1;
    row.wrappedKey.assign(60, 5);
    return {std::move(row), "clicks"};
  }
  static absl::StatusOr<std::vector<Registry::Inserted>> Insert(Registry& registry, const Registry::NewRow& row) {
    return registry.InsertOrGet({&row, 1}, kNow);
  }
  static absl::StatusOr<Registry::Erased> Erase(Registry& registry, int user) {
    return registry.EraseUser(
        {}, [user](std::string_view keyspace) { return SubjectOf(user, keyspace); }, kNow);
  }
  static std::optional<Registry::Row> FindById(Registry& registry, const crypto::KeyId& id) {
    auto found = registry.FindManyById({&id, 1});
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->at(0).ok() ? *std::move(found->at(0)) : std::nullopt;
  }
  // Until it works again, as the key service does.
  static bool IsWellAgain(Registry& registry) {
    return Eventually([&] {
      registry.SetDeadline(In(seconds(1)));
      return registry.EnsureOpen().ok() && registry.CheckWritable(kNow).ok();
    });
  }
  // The server's process for the registry's connection.
  pid_t Backend() {
    const auto pids = Client().Query(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kveil'");
    EXPECT_EQ(pids.size(), 1u);
    return std::stoi(pids.at(0));
  }

  static constexpr absl::Time kNow = absl::FromUnixSeconds(1'750'000'000);
};

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST_F(PostgresRegistryTest, TenThousandNewUsersAtTwoAgentsAtOnceGetOneKeyEach) {
  constexpr int kUsers = 10'000;
  constexpr int kBatch = 500;
  ConnectInitialised();
  std::vector<std::map<Subject, std::array<uint8_t, 16>>> got(2);
  std::vector<std::thread> agents;
  std::atomic<int> ready{0};
  for (size_t agent = 0; agent < 2; ++agent) {
    agents.emplace_back([&, agent] {
      auto registry = Connect();
      ++ready;
      while (ready < 2) std::this_thread::yield();
      for (int batch = 0; batch < kUsers; batch += kBatch) {
        std::vector<Registry::NewRow> rows;
        // In opposite orders.
        for (int i = 0; i < kBatch; ++i) rows.push_back(NewUser(batch + (agent == 0 ? i : kBatch - 1 - i)));
        const auto inserted = registry->InsertOrGet(rows, kNow);
        ASSERT_TRUE(inserted.ok()) << inserted.status();
        for (size_t i = 0; i < rows.size(); ++i) {
          const auto& existing = inserted->at(i).existing;
          got[agent][rows[i].row.name.subject] = existing.has_value() ? existing->id.bytes : rows[i].row.id.bytes;
        }
      }
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(got[0].size(), size_t{kUsers});
  EXPECT_TRUE(got[0] == got[1]) << "two agents have different keys of one user";
  EXPECT_EQ(Client().Query("SELECT count(*) FROM kveil.scope_keys").at(0), std::to_string(kUsers));
}

// A user has a key, so the erasure is remembered. While it happens, another agent makes one more key of the user.
TEST_F(PostgresRegistryTest, AKeyMadeDuringAnErasureIsErasedWithIt) {
  constexpr int kRounds = 300;
  auto eraser = ConnectInitialised();
  auto maker = Connect();
  int erasedBefore = 0;
  for (int user = 0; user < kRounds; ++user) {
    ASSERT_TRUE(Insert(*eraser, NewUser(user)).ok());
    const Registry::NewRow late = NewUser(user, /*window=*/1);
    std::atomic<bool> go{false};
    std::thread other([&] {
      while (!go) {
      }
      const auto inserted = Insert(*maker, late);
      ASSERT_TRUE(inserted.ok()) << inserted.status();
      erasedBefore += inserted->at(0).state == InsertState::kErased;
    });
    go = true;
    const auto erased = Erase(*eraser, user);
    other.join();
    ASSERT_TRUE(erased.ok()) << erased.status();
    const auto found = FindById(*eraser, late.row.id);
    ASSERT_TRUE(found.has_value());
    ASSERT_TRUE(found->erased) << "the erasure missed a key, in round " << user;
  }
  EXPECT_GT(erasedBefore, 0) << "the two never met";
  EXPECT_LT(erasedBefore, kRounds) << "the two never met";
}

TEST_F(PostgresRegistryTest, ErasuresByManyAgentsAtOnceAreAllHeardOf) {
  constexpr int kAgents = 4;
  constexpr int kUsers = 150;  // per agent
  auto reader = ConnectInitialised();
  std::set<std::array<uint8_t, 16>> expected;
  for (int user = 0; user < kAgents * kUsers; ++user) {
    const Registry::NewRow row = NewUser(user);
    expected.insert(row.row.id.bytes);
    ASSERT_TRUE(Insert(*reader, row).ok());
  }
  std::atomic<int> running{kAgents};
  std::vector<std::thread> agents;
  for (int agent = 0; agent < kAgents; ++agent) {
    agents.emplace_back([&, agent] {
      auto registry = Connect();
      for (int i = 0; i < kUsers; ++i) EXPECT_TRUE(Erase(*registry, i * kAgents + agent).ok());
      --running;
    });
  }
  std::set<std::array<uint8_t, 16>> heard;
  for (bool last = false; !last;) {
    last = running == 0;
    const auto news = reader->Poll();
    ASSERT_TRUE(news.ok()) << news.status();
    for (const crypto::KeyId& id : news->erased) EXPECT_TRUE(heard.insert(id.bytes).second) << "told twice";
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(heard.size(), expected.size()) << "an erasure was missed";
}

// 10,000 users, as kveil erase --users-from does it.
TEST_F(PostgresRegistryTest, AListThatIsErasedHoldsUpOtherAgentsOnlyBriefly) {
  constexpr int kUsers = 10'000;
  constexpr int kPiece = 256;
  auto eraser = ConnectInitialised();
  auto other = Connect();
  std::vector<Registry::NewRow> rows;
  for (int user = 0; user < kUsers; ++user) rows.push_back(NewUser(user));
  ASSERT_TRUE(eraser->InsertOrGet(rows, kNow).ok());
  std::atomic<bool> isDone{false};
  milliseconds longestRead{0}, longestNew{0};
  std::thread agent([&] {
    const auto timed = [](auto call) {
      const auto start = std::chrono::steady_clock::now();
      EXPECT_TRUE(call().ok());
      return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
    };
    for (int user = kUsers; !isDone; ++user) {
      longestRead = std::max(longestRead, timed([&] { return other->FindManyById({&rows[7].row.id, 1}).status(); }));
      longestNew = std::max(longestNew, timed([&] { return Insert(*other, NewUser(user)).status(); }));
    }
  });
  const auto start = std::chrono::steady_clock::now();
  for (int first = 0; first < kUsers; first += kPiece) {
    const auto subjectOf = [first](size_t user, std::string_view keyspace) {
      return SubjectOf(first + static_cast<int>(user), keyspace);
    };
    const auto erased = eraser->EraseUsers({}, std::min(kPiece, kUsers - first), subjectOf, kNow);
    ASSERT_TRUE(erased.ok()) << erased.status();
  }
  const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - start);
  isDone = true;
  agent.join();
  std::cout << kUsers << " users in " << took.count() << " ms; meanwhile the longest read took " << longestRead.count()
            << " ms, the longest new key " << longestNew.count() << " ms\n";
  EXPECT_LT(longestRead, milliseconds(500));
  EXPECT_LT(longestNew, milliseconds(1000));
}

TEST_F(PostgresRegistryTest, AgentsThatStartAtOnceMakeOneRegistry) {
  const RegistryOptions options = server_.OptionsFor(folder_);
  std::vector<std::thread> agents;
  for (int i = 0; i < 6; ++i) {
    agents.emplace_back([&] {
      auto registry = TryConnect(options);
      EXPECT_TRUE(registry.ok()) << registry.status();
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(Client().Query("SELECT version FROM kveil.format").size(), 1u);
}

TEST_F(PostgresRegistryTest, AServerThatIsGoneIsUnavailableAtOnceAndWellAgainWhenItIsBack) {
  auto registry = ConnectInitialised();
  const Registry::NewRow row = NewUser(1);
  ASSERT_TRUE(Insert(*registry, row).ok());
  server_.Stop();
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) {
    registry->SetDeadline(In(seconds(2)));
    absl::Status status = registry->EnsureOpen();
    if (status.ok()) status = registry->Poll().status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_THAT(MessageOf(status), HasSubstr(registry->name()));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(2));
  EXPECT_TRUE(absl::IsUnavailable(TryConnect(server_.OptionsFor(folder_)).status()));
  server_.Start();
  const uint64_t openings = registry->openings();
  EXPECT_TRUE(IsWellAgain(*registry));
  EXPECT_GT(registry->openings(), openings) << "caches were not told";
  EXPECT_TRUE(FindById(*registry, row.row.id).has_value());
}

TEST_F(PostgresRegistryTest, AConnectionThatIsCutIsMadeAnew) {
  auto registry = ConnectInitialised();
  Client().Query("SELECT pg_terminate_backend(" + std::to_string(Backend()) + ", 5000)");
  EXPECT_TRUE(absl::IsUnavailable(registry->Poll().status()));
  EXPECT_TRUE(IsWellAgain(*registry));
}

// What packets that are dropped look like: nothing comes back, and nothing says so.
TEST_F(PostgresRegistryTest, AServerThatDoesNotAnswerIsWaitedForAndThenGivenUp) {
  auto registry = ConnectInitialised();
  const uint64_t openings = registry->openings();
  pid_t backend = Backend();
  ASSERT_EQ(kill(backend, SIGSTOP), 0);
  registry->SetDeadline(In(milliseconds(100)));
  const auto start = std::chrono::steady_clock::now();
  const auto found = Insert(*registry, NewUser(1));
  EXPECT_TRUE(absl::IsUnavailable(found.status())) << found.status();
  EXPECT_THAT(MessageOf(found.status()), HasSubstr("does not answer in time"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(500));
  registry->SetDeadline(In(milliseconds(50)));
  EXPECT_TRUE(absl::IsUnavailable(registry->EnsureOpen()));
  // It answers after all: the same connection goes on, and no cache has to begin anew.
  ASSERT_EQ(kill(backend, SIGCONT), 0);
  registry->SetDeadline(In(seconds(10)));
  ASSERT_TRUE(registry->EnsureOpen().ok());
  EXPECT_EQ(registry->openings(), openings);
  EXPECT_EQ(Insert(*registry, NewUser(1))->at(0).state, InsertState::kExists) << "the answers are out of step";

  ASSERT_EQ(kill(backend, SIGSTOP), 0);
  registry->SetDeadline(In(milliseconds(50)));
  EXPECT_FALSE(registry->Poll().ok());
  EXPECT_TRUE(IsWellAgain(*registry)) << "it waits for the old connection forever";
  EXPECT_EQ(registry->openings(), openings + 1);
  kill(backend, SIGCONT);
}

// The server sends a notification also with the answer to another call, which takes it.
TEST_F(PostgresRegistryTest, WordOfNewsThatCameWithAnotherAnswerIsNotLost) {
  auto one = ConnectInitialised();
  auto two = Connect();
  ASSERT_TRUE(one->Poll().ok());
  EXPECT_FALSE(one->isTold());
  const Subject subject = SubjectOf(38);
  const std::vector<Registry::NewFacts> facts = {{subject, "clicks", "facts", 0, ""}};
  const auto written = two->WriteFacts(facts, kNow);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_TRUE(Eventually([&] { return one->ReadFacts({&subject, 1}).ok() && one->isTold(); }));
  ASSERT_TRUE(one->Poll().ok());
  EXPECT_EQ(one->lastNumber(), written->at(0));
  EXPECT_FALSE(one->isTold());
}

TEST_F(PostgresRegistryTest, AnErasureHeardOfTooLateIsHandedOutByTheNextPoll) {
  auto registry = ConnectInitialised();
  const Registry::NewRow row = NewUser(1);
  ASSERT_TRUE(Insert(*registry, row).ok());
  const pid_t backend = Backend();
  {
    auto other = Connect();
    ASSERT_TRUE(Erase(*other, 1).ok());
  }
  ASSERT_EQ(kill(backend, SIGSTOP), 0);
  registry->SetDeadline(In(milliseconds(50)));
  EXPECT_TRUE(absl::IsUnavailable(registry->Poll().status()));
  ASSERT_EQ(kill(backend, SIGCONT), 0);
  registry->SetDeadline(In(seconds(10)));
  ASSERT_TRUE(registry->EnsureOpen().ok());
  // Also when this poll would come too late as well.
  ASSERT_EQ(kill(backend, SIGSTOP), 0);
  registry->SetDeadline(In(milliseconds(50)));
  const auto news = registry->Poll();
  ASSERT_EQ(kill(backend, SIGCONT), 0);
  ASSERT_TRUE(news.ok()) << news.status();
  EXPECT_THAT(news->erased, testing::ElementsAre(row.row.id));
}

TEST_F(PostgresRegistryTest, ALockThatIsHeldIsWaitedForInBoundedTimeWhileReadsGoOn) {
  auto registry = ConnectInitialised();
  ASSERT_TRUE(Insert(*registry, NewUser(1)).ok());
  auto reader = Connect();
  auto holder = Client();
  holder.Query("BEGIN; SELECT pg_advisory_xact_lock(461547858284)");
  registry->SetDeadline(In(milliseconds(200)));
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsUnavailable(Insert(*registry, NewUser(2)).status()));
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(1));
  EXPECT_TRUE(reader->FindMany(std::vector<Registry::RowName>{{SubjectOf(1), 0}})->at(0)->has_value());
  holder.Query("COMMIT");
  EXPECT_TRUE(IsWellAgain(*registry));
  EXPECT_TRUE(Insert(*registry, NewUser(2)).ok());
}

// The follower of a topic is heard of each second.
TEST_F(PostgresRegistryTest, WithoutRecordsAFollowerIsHeardOfWhileTheLockIsHeld) {
  auto registry = ConnectInitialised();
  const int64_t term = (*registry->LeadSource("clicks", {1}, "node-1", seconds(6)))->term;
  auto holder = Client();
  holder.Query("BEGIN; SELECT pg_advisory_xact_lock(461547858284)");
  registry->SetDeadline(In(seconds(20)));
  const auto moved = registry->MoveSource({"clicks", term, 1, "at 7", {}, {}, "", {1}}, {}, kNow);
  ASSERT_TRUE(moved.ok()) << moved.status();
  EXPECT_TRUE(moved->isDone);
  holder.Query("COMMIT");
}

class StandbyIsMissingTest : public PostgresRegistryTest {
 protected:
  ~StandbyIsMissingTest() override { SetMissing(false); }
  void SetMissing(bool isMissing) {
    auto client = Client();
    client.Query(StrCat("ALTER SYSTEM SET synchronous_standby_names = '", isMissing ? "nobody" : "", "'"));
    client.Query("SELECT pg_reload_conf()");
    EXPECT_TRUE(
        Eventually([&] { return (client.Query("SHOW synchronous_standby_names").at(0) == "nobody") == isMissing; }));
    // Commits wait only when the checkpointer has read the setting, too.
    EXPECT_TRUE(!isMissing || Eventually([&] { return CommitsWait(); }));
  }
  std::vector<std::string> Waiting() {
    return Client().Query("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
  }
  void CancelWaiting() {
    for (const std::string& pid : Waiting()) Client().Query(StrCat("SELECT pg_cancel_backend(", pid, ")"));
  }

 private:
  bool CommitsWait() {
    std::atomic<bool> isCommitted = false;
    std::thread commit([&] {
      Client().Query("SELECT pg_logical_emit_message(true, 'kveil', '')");
      isCommitted = true;
    });
    bool waits = false;
    EXPECT_TRUE(Eventually([&] { return (waits = !Waiting().empty()) || isCommitted; }));
    CancelWaiting();
    commit.join();
    return waits;
  }
};

// The server answers no commit, and its processes wait on when their clients are gone.
TEST_F(StandbyIsMissingTest, LeavesOneProcessOfTheServerAndSaysSo) {
  auto registry = ConnectInitialised();
  const Registry::NewRow known = NewUser(0);
  ASSERT_TRUE(Insert(*registry, known).ok());
  SetMissing(true);
  absl::Status status;
  int refusals = 0;
  const auto end = std::chrono::steady_clock::now() + seconds(60);
  for (int user = 1; refusals < 10 && std::chrono::steady_clock::now() < end; ++user) {
    registry->SetDeadline(In(milliseconds(200)));
    status = registry->EnsureOpen();
    if (status.ok()) status = Insert(*registry, NewUser(user)).status();
    ASSERT_TRUE(absl::IsUnavailable(status)) << status;
    if (MessageOf(status).find("does not acknowledge what is written") != std::string::npos) ++refusals;
    ASSERT_LE(Waiting().size(), 1u) << "one for each commit that is tried again";
  }
  EXPECT_EQ(refusals, 10) << status;
  registry->SetDeadline(In(seconds(10)));
  EXPECT_THAT(MessageOf(Erase(*registry, 0).status()), HasSubstr("synchronous standby"));
  EXPECT_THAT(MessageOf(registry->NoteAgent({})), HasSubstr("synchronous standby"));
  EXPECT_THAT(MessageOf(registry->CheckWritable(kNow)), HasSubstr("synchronous standby"));
  EXPECT_TRUE(FindById(*registry, known.row.id).has_value()) << "what is there can be read";
  EXPECT_EQ(Waiting().size(), 1u);
  SetMissing(false);
  EXPECT_TRUE(IsWellAgain(*registry));
  EXPECT_TRUE(Insert(*registry, NewUser(1)).ok());
}

// Only a warning says so, and the database is made to give none.
TEST_F(StandbyIsMissingTest, AWaitThatSomebodyEndsIsNoAcknowledgement) {
  Client().Query(
      "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET client_min_messages = error', current_database()); END$$");
  auto registry = ConnectInitialised();
  SetMissing(true);
  std::thread operatorsHand([&] {
    EXPECT_TRUE(Eventually([&] { return !Waiting().empty(); }));
    CancelWaiting();
  });
  const auto inserted = Insert(*registry, NewUser(1));
  operatorsHand.join();
  EXPECT_TRUE(absl::IsUnavailable(inserted.status())) << inserted.status();
  EXPECT_THAT(MessageOf(inserted.status()), HasSubstr("synchronous standby"));
}

// The first answer was lost, or somebody has ended its wait. The look that follows must not say that all is done.
TEST_F(StandbyIsMissingTest, WhatWasErasedBeforeIsErasedOnlyWhenTheStandbyHasIt) {
  auto registry = ConnectInitialised();
  ASSERT_TRUE(Insert(*registry, NewUser(1)).ok());
  ASSERT_EQ(Erase(*registry, 1)->keyCount, 1u);
  SetMissing(true);
  registry->SetDeadline(In(milliseconds(300)));
  EXPECT_TRUE(absl::IsUnavailable(Erase(*registry, 1).status()));
  SetMissing(false);
  EXPECT_TRUE(IsWellAgain(*registry));
  EXPECT_EQ(Erase(*registry, 1)->erasedBefore, kNow);
}

TEST_F(PostgresRegistryTest, AStandbyIsNotUsed) {
  auto registry = ConnectInitialised();
  Client().Query("ALTER ROLE kveil IN DATABASE " + server_.DatabaseOf(folder_) +
                 " SET default_transaction_read_only = on");
  const auto opened = TryConnect(server_.OptionsFor(folder_));
  EXPECT_TRUE(absl::IsUnavailable(opened.status()));
  EXPECT_THAT(MessageOf(opened.status()), HasSubstr("read-only"));
}

// Format 1 had neither the agents nor what is known of users.
TEST_F(PostgresRegistryTest, AnOlderRegistryIsMigratedOnceByAgentsThatStartAtOnce) {
  auto before = ConnectInitialised();
  const Registry::NewRow row = NewUser(1);
  ASSERT_TRUE(Insert(*before, row).ok());
  before.reset();
  Client().Query(
      "DROP TABLE kveil.agents, kveil.users, kveil.history, kveil.turns, kveil.kek_keys, kveil.readmissions; UPDATE "
      "kveil.format SET "
      "version = 1");
  std::vector<std::thread> agents;
  for (uint8_t i = 0; i < 5; ++i) {
    agents.emplace_back([&, i] {
      auto registry = Connect();
      ASSERT_NE(registry, nullptr);
      const absl::Status noted = registry->NoteAgent({{i}, "agent", seconds(60), 0, {}});
      EXPECT_TRUE(noted.ok()) << noted;
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(Client().Query("SELECT version FROM kveil.format").at(0), "7");
  auto registry = Connect();
  EXPECT_EQ(registry->ReadAgents()->size(), 5u);
  EXPECT_TRUE(FindById(*registry, row.row.id).has_value());
  const Registry::NewFacts facts[] = {{row.row.name.subject, "clicks", "facts", 0, {}}};
  EXPECT_GT(registry->WriteFacts(facts, kNow)->at(0), 0);
}

TEST_F(PostgresRegistryTest, AgentsThatWereNotSeenForAnHourAreForgottenAndThereIsABound) {
  auto registry = ConnectInitialised();
  Client().Query(
      "INSERT INTO kveil.agents SELECT sha256(n::text::bytea), 'old', 60000, 0,"
      " (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 3600000 - 61000 FROM generate_series(1, 5000) n");
  EXPECT_EQ(registry->ReadAgents()->size(), 0u) << "none of them has keys any more";
  Registry::Agent agent{{1}, "new", seconds(60), 0, {}};
  ASSERT_TRUE(registry->NoteAgent(agent).ok());
  EXPECT_EQ(Client().Query("SELECT count(*) FROM kveil.agents").at(0), "1");
  Client().Query(
      "INSERT INTO kveil.agents SELECT sha256(n::text::bytea), 'node', 60000, 0,"
      " (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM generate_series(1, 9999) n");
  EXPECT_TRUE(registry->NoteAgent(agent).ok()) << "it was there before";
  agent.id = {2};
  const absl::Status noted = registry->NoteAgent(agent);
  EXPECT_TRUE(absl::IsUnavailable(noted)) << noted;
  EXPECT_THAT(MessageOf(noted), HasSubstr("knows 10000 agents"));
}

TEST_F(PostgresRegistryTest, ANewerRegistryIsRefused) {
  ConnectInitialised();
  Client().Query("UPDATE kveil.format SET version = 99; ALTER TABLE kveil.scope_keys RENAME COLUMN subject TO of_whom");
  const auto opened = TryConnect(server_.OptionsFor(folder_));
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status())) << opened.status();
  EXPECT_THAT(MessageOf(opened.status()), AllOf(HasSubstr("has format 99"), HasSubstr("knows only 7 and 8")));
}

TEST_F(PostgresRegistryTest, ADatabaseOfSomethingElseIsRefusedAndLeftAlone) {
  Client().Query("CREATE SCHEMA kveil; CREATE TABLE kveil.orders (number int)");
  absl::Status status = TryConnect(server_.OptionsFor(folder_)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("something else"));
  Client().Query(
      "CREATE TABLE kveil.format (application text, version bigint); INSERT INTO kveil.format VALUES ('x', 1)");
  status = TryConnect(server_.OptionsFor(folder_)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(Client().Query("SELECT count(*) FROM pg_tables WHERE schemaname = 'kveil'").at(0), "2");
}

TEST_F(PostgresRegistryTest, MissingPrivilegesAreSaidInPlainWords) {
  RegistryOptions options = server_.OptionsFor(folder_);
  const std::string role = "agent_of_" + server_.DatabaseOf(folder_);
  Client().Query("CREATE ROLE " + role + " LOGIN");
  options.postgres->parameters[0].second = role;
  const absl::Status made = TryConnect(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(made)) << made;
  EXPECT_THAT(MessageOf(made), AllOf(HasSubstr("permission denied"), HasSubstr("needs CREATE on the database")));
  // With a schema of its own it needs nothing more.
  Client().Query("CREATE SCHEMA kveil AUTHORIZATION " + role);
  auto registry = Connect(options);
  ASSERT_NE(registry, nullptr);
  Client().Query("ALTER TABLE kveil.scope_keys OWNER TO kveil");
  const auto refused = Insert(*registry, NewUser(1));
  EXPECT_TRUE(absl::IsUnavailable(refused.status()));
  EXPECT_THAT(MessageOf(refused.status()), HasSubstr("permission denied"));
  Client().Query("GRANT ALL ON kveil.scope_keys TO " + role);
  EXPECT_TRUE(Insert(*registry, NewUser(1)).ok()) << "without being opened anew";
}

TEST_F(PostgresRegistryTest, AMalformedRowIsDamagedAndTheOthersAreFound) {
  auto registry = ConnectInitialised();
  const Registry::NewRow good = NewUser(1);
  const Registry::NewRow bad = NewUser(2);
  ASSERT_TRUE(Insert(*registry, good).ok());
  ASSERT_TRUE(Insert(*registry, bad).ok());
  Client().Query("UPDATE kveil.scope_keys SET subject = 'x' WHERE subject LIKE '2/%'");
  const auto found = registry->FindManyById(std::vector<crypto::KeyId>{bad.row.id, good.row.id});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(absl::IsDataLoss(found->at(0).status()));
  EXPECT_TRUE(found->at(1).ok() && found->at(1)->has_value());
}

TEST_F(PostgresRegistryTest, ADamagedPageConcernsOnlyItsRows) {
  auto registry = ConnectInitialised();
  std::vector<Registry::NewRow> rows;
  std::vector<crypto::KeyId> ids;
  for (int user = 0; user < 300; ++user) {
    rows.push_back(NewUser(user));
    ids.push_back(rows.back().row.id);
  }
  ASSERT_TRUE(registry->InsertOrGet(rows, kNow).ok());
  const std::string file = Client().Query("CHECKPOINT; SELECT pg_relation_filepath('kveil.scope_keys')").at(0);
  registry.reset();
  server_.Stop();
  {
    std::fstream data(server_.DataFile(file), std::ios::in | std::ios::out | std::ios::binary);
    data.seekp(2 * 8192 + 4000);
    data << std::string(64, 'x');
  }
  server_.Start();
  registry = Connect();
  const auto found = registry->FindManyById(ids);
  ASSERT_TRUE(found.ok()) << found.status();
  size_t damaged = 0;
  for (const auto& row : *found) {
    if (!row.ok()) {
      ++damaged;
      EXPECT_TRUE(absl::IsDataLoss(row.status()));
      EXPECT_THAT(MessageOf(row.status()), HasSubstr("restore it from a backup"));
    } else {
      EXPECT_TRUE(row->has_value()) << "a key of a damaged page is taken for unknown";
    }
  }
  EXPECT_GT(damaged, 10u);
  EXPECT_LT(damaged, 150u);
}

TEST_F(PostgresRegistryTest, ARegistryRestoredInPlaceIsOpenedAnew) {
  auto registry = ConnectInitialised();
  const uint64_t openings = registry->openings();
  ASSERT_TRUE(registry->Poll().ok());
  Client().Query("VACUUM FULL kveil.erasures");
  EXPECT_TRUE(absl::IsUnavailable(registry->Poll().status()));
  ASSERT_TRUE(registry->EnsureOpen().ok());
  EXPECT_EQ(registry->openings(), openings + 1);
  EXPECT_TRUE(registry->Poll().ok());
  Client().Query("SET client_min_messages = error; DROP SCHEMA kveil CASCADE");
  EXPECT_FALSE(registry->Poll().ok());
  const absl::Status gone = registry->EnsureOpen();
  EXPECT_TRUE(absl::IsUnavailable(gone)) << gone;
  EXPECT_THAT(MessageOf(gone), HasSubstr("is missing"));
  EXPECT_EQ(Client().Query("SELECT count(*) FROM pg_namespace WHERE nspname = 'kveil'").at(0), "0")
      << "an empty one was made in silence";
}

TEST_F(PostgresRegistryTest, AnotherRegistryInItsPlaceIsNotUsed) {
  auto registry = ConnectInitialised();
  Client().Query("UPDATE kveil.registry SET registry_id = decode(repeat('02', 16), 'hex')");
  registry->Reopen();
  const absl::Status status = registry->EnsureOpen();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(MessageOf(status), HasSubstr("replaced"));
}

TEST_F(PostgresRegistryTest, TlsProvesWhoTheServerIs) {
  RegistryOptions options = server_.TlsOptionsFor(folder_);
  auto registry = Connect(options);
  ASSERT_NE(registry, nullptr);
  EXPECT_EQ(Client()
                .Query("SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND"
                       " application_name = 'kveil' AND datname = current_database()")
                .at(0),
            "1");
  RegistryOptions wrongName = options;
  wrongName.postgres->servers[0].host = "db.example";
  EXPECT_THAT(MessageOf(TryConnect(wrongName).status()), HasSubstr("does not match host name"));
  options.postgres->parameters.back().second = server_.otherAuthority();
  EXPECT_THAT(MessageOf(TryConnect(options).status()), HasSubstr("certificate verify failed"));
}

TEST_F(PostgresRegistryTest, OfSeveralServersTheFirstThatAnswersIsUsedAlsoWhenThoseBeforeAreSilent) {
  const UniqueFd silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(silent.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(listen(silent.get(), 5), 0);
  getsockname(silent.get(), reinterpret_cast<sockaddr*>(&address), &size);
  RegistryOptions options = server_.OptionsFor(folder_);
  const PostgresOptions::Server good = options.postgres->servers[0];
  options.postgres->servers = {{"127.0.0.1", "", "1"},
                               {"no-such-host.invalid", "", "5432"},
                               {"127.0.0.1", "", std::to_string(ntohs(address.sin_port))},
                               {"127.0.0.1", "", std::to_string(ntohs(address.sin_port))},
                               good};
  const auto start = std::chrono::steady_clock::now();
  const auto opened = TryConnect(options, seconds(2));
  EXPECT_TRUE(opened.ok()) << opened.status();
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(2));
  // Each says why, when there is none.
  options.postgres->servers.pop_back();
  const absl::Status status = TryConnect(options, seconds(3)).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("refused"), HasSubstr("no-such-host.invalid cannot be resolved"),
                                       HasSubstr("does not answer")));
}

// Two agents of two nodes, with one root key.
TEST_F(PostgresRegistryTest, AnErasureOnOneNodeReachesTheOtherWithinASecond) {
  KeyServiceOptions options = Options();
  options.registry = server_.OptionsFor(folder_);
  auto one = Open(options);
  auto other = Open(options);
  ASSERT_TRUE(one != nullptr && other != nullptr);
  KeyCache cache(*other);
  const crypto::KeyId id = SealingKey(*one, *std::make_unique<KeyCache>(*one), User("38"))->id;
  EXPECT_EQ(StateOf(*other, cache, id), KeyCache::State::kReady);
  EXPECT_EQ(SealingKey(*other, cache, User("38"))->id, id) << "the nodes have different keys of one user";
  const auto erased = one->Erase(std::nullopt, "38");
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_FALSE(erased->filesClean) << "PostgreSQL keeps old versions of rows";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(Eventually([&] {
    cache.Refresh();
    return cache.FindById(id).state != KeyCache::State::kReady;
  }));
  EXPECT_LT(std::chrono::steady_clock::now() - start, seconds(1));
  EXPECT_EQ(StateOf(*other, cache, id), KeyCache::State::kErased);
  EXPECT_TRUE(one->health().ok()) << one->health();
}

}  // namespace
}  // namespace kveil::keys
