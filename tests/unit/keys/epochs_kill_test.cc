// An agent is killed in the middle of any step of a turn, and another goes on: no key is lost.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "epochs_fixture.h"

namespace kveil::keys {
namespace {

// What changes something that is there afterwards: a commit of SQLite, a call of PostgreSQL, a root key file's next
// state. The agent is killed after PostgreSQL was sent a call, as the server then does it, and before the others.
bool IsKillPoint(const __ptrace_syscall_info& info, bool isServer, bool& isSend) {
  if (info.op == PTRACE_SYSCALL_INFO_EXIT) return std::exchange(isSend, false);
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return false;
  isSend = isServer && info.entry.nr == SYS_sendto;
#ifdef SYS_unlink  // not on arm64
  if (info.entry.nr == SYS_unlink || info.entry.nr == SYS_rename) return true;
#endif
  for (const uint64_t call : {SYS_fdatasync, SYS_fsync, SYS_renameat2, SYS_unlinkat, SYS_ftruncate}) {
    if (info.entry.nr == call) return true;
  }
  return false;
}

constexpr int kMayNotBeTraced = 77;  // as under an emulator, or where the kernel's settings forbid it

// Runs `work` in a process of its own, and kills it at the point with that number, counted from where it first stops
// itself. False: it came to its end before. nullopt: processes may not be traced here.
template <typename Work>
std::optional<bool> IsKilledAt(int point, bool isServer, Work work) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(kMayNotBeTraced);
    work();
    _exit(0);
  }
  int status = 0;
  bool isSend = false;
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kMayNotBeTraced) return std::nullopt;
  EXPECT_TRUE(WIFSTOPPED(status)) << status;
  EXPECT_EQ(ptrace(PTRACE_SETOPTIONS, child, nullptr, long{PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL}), 0);
  for (int passed = 0;;) {
    EXPECT_EQ(ptrace(PTRACE_SYSCALL, child, nullptr, nullptr), 0);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    if (!WIFSTOPPED(status)) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
      return false;
    }
    __ptrace_syscall_info info{};
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
    EXPECT_GT(ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), child, sizeof(info), &info), 0);
    if (!IsKillPoint(info, isServer, isSend) || ++passed < point) continue;
    EXPECT_EQ(kill(child, SIGKILL), 0);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return true;
  }
}

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
    const std::optional<bool> wasKilled = IsKilledAt(points + 1, isServer, [&] {
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
