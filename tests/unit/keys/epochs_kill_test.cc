// An agent is killed in the middle of any step of a turn, and another goes on: no key is lost.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <utility>

#include "epochs_fixture.h"
#include "killed_at.h"

namespace kveil::keys {
namespace {

// The agent is killed after PostgreSQL was sent a call, as the server then does it, and before a file is changed.
struct IsKillPoint {
  bool isServer;
  bool isSend = false;
  bool operator()(const __ptrace_syscall_info& info) {
    if (info.op == PTRACE_SYSCALL_INFO_EXIT) return std::exchange(isSend, false);
    isSend = isServer && info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_sendto;
    return ChangesAFile(info);
  }
};

// What the killed agent has sent, the server may still be doing.
constexpr char kAwaitBackends[] =
    "DO $$ BEGIN FOR i IN 1..3000 LOOP PERFORM pg_stat_clear_snapshot(); EXIT WHEN NOT EXISTS (SELECT FROM"
    " pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND pid <>"
    " pg_backend_pid()); PERFORM pg_sleep(0.01); END LOOP; END $$";

class EpochsKillTest : public EpochsTest {};
INSTANTIATE_TEST_SUITE_P(Backends, EpochsKillTest, testing::Values(kSqliteEpochs, kPostgresEpochs),
                         [](const auto& info) { return info.param.name; });

TEST_P(EpochsKillTest, AnAgentThatIsKilledAtAnyPointOfATurnLosesNoKey) {
  constexpr int kUsers = 260;  // more than one step rewraps
  const bool isServer = !GetParam().prefix.empty();
  const Keys before = KeysOf(*OpenAgent(), 0, kUsers);
  int64_t epoch = 1;
  int points = 0, turned = 0;
  for (bool isKilled = true; isKilled; ++points) {
    ASSERT_LT(points, 100);
    const std::optional<bool> wasKilled = IsKilledAt(points + 1, IsKillPoint{isServer}, [&] {
      Turner turner(GetParam().options(folder_), keyFile(), 1);
      raise(SIGSTOP);
      turner.steady += std::chrono::minutes(11);
      turner.turns->Ask();
      (void)turner.Settle();
    });
    ASSERT_TRUE(wasKilled.has_value()) << "processes may not be traced here";
    isKilled = *wasKilled;
    if (isServer) Execute(kAwaitBackends);
    Execute("UPDATE {}turns SET seen = 0");
    if (isServer) Execute("UPDATE kveil.agents SET seen = seen - 11000; UPDATE kveil.turns SET ended = ended - 600001");
    Turner next(GetParam().options(folder_), keyFile(), 2);
    const int64_t now = next.Settle();
    next.steady += std::chrono::minutes(11);
    ASSERT_TRUE(next.Step().ok());
    ASSERT_TRUE(now == epoch || now == epoch + 1) << points;
    turned += now == epoch ? 0 : 1;
    epoch = now;
    ASSERT_EQ(next.registry->ReadEpochs()->size(), 1u) << points;
    const auto rows = next.registry->ReadRowsAfter({}, 2 * kUsers);
    ASSERT_TRUE(rows.ok()) << rows.status();
    ASSERT_EQ(rows->size(), size_t{kUsers});
    for (const Registry::Found& row : *rows) {
      ASSERT_EQ((*row)->epoch, epoch) << points;
      ASSERT_TRUE(next.keys->Unwrap(**row).ok()) << points;
    }
    ASSERT_FALSE(std::filesystem::exists(keyFile() + ".replacing")) << points;
    if (isServer) Execute("DELETE FROM kveil.agents");
  }
  EXPECT_GT(points, 8);
  EXPECT_GT(turned, points / 2) << "most points are within a turn";
  EXPECT_EQ(KeysOf(*OpenAgent("node-2"), 0, kUsers), before);
}

}  // namespace
}  // namespace kveil::keys
