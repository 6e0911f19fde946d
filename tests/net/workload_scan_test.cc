// Looking at all processes in turns, what becomes of the namespaces meanwhile, and who waits.
#include "intercept/workloads/workload_scan.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/text.h"
#include "intercept/namespaces/namespace_table.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::NamespaceTable;
using intercept::Redirect;
using intercept::RefusedConnect;
using intercept::WorkloadScan;
using Clock = WorkloadScan::Clock;

// No descriptor can be opened during its life.
class NoDescriptors {
 public:
  NoDescriptors() {
    Require(::getrlimit(RLIMIT_NOFILE, &before_) == 0, "the limit");
    const rlimit least = {.rlim_cur = 0, .rlim_max = before_.rlim_max};
    Require(::setrlimit(RLIMIT_NOFILE, &least) == 0, "a limit");
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_;
};

intercept::CgroupTree Open(const Cgroup& cgroup) {
  auto tree = intercept::CgroupTree::Open(cgroup.path());
  Require(tree.ok(), "the cgroup tree");
  return *std::move(tree);
}

// Cgroups that nobody lives in, each a little work.
std::vector<std::unique_ptr<Cgroup>> MakeCgroups(const Cgroup& parent, size_t count) {
  std::vector<std::unique_ptr<Cgroup>> made;
  while (made.size() < count) made.push_back(std::make_unique<Cgroup>(parent, StrCat("idle", made.size())));
  return made;
}

size_t TurnsOf(WorkloadScan& scan) {
  size_t turns = 1;
  while (!scan.GoOn(Clock::now())) ++turns;
  return turns;
}

TEST(WorkloadScanTest, FindsEveryNamespaceInTurnsAsAtOnce) {
  constexpr size_t kMany = 300;  // more than a read tells of, so that lines end in the next one
  const Cgroup node;
  const Cgroup outer(node, "outer"), inner(outer, "inner"), other(node, "other");
  const Workload one(inner, nullptr, [] { return MakeNamespaces(kMany); });
  const Workload two(other, nullptr, [] { return MakeNamespaces(1); });
  const intercept::CgroupTree tree = Open(node);
  const auto findAll = [&] {
    WorkloadScan scan(tree);
    EXPECT_TRUE(scan.GoOn(Clock::time_point::max()));
    return scan.found();
  };
  ASSERT_TRUE(Eventually([&] { return findAll().size() == kMany + 2; })) << findAll().size();
  WorkloadScan inTurns(tree);
  EXPECT_GT(TurnsOf(inTurns), 10u);
  const auto atOnce = findAll();
  ASSERT_EQ(inTurns.found().size(), atOnce.size());
  for (const auto& [inode, resident] : inTurns.found()) {
    ASSERT_TRUE(atOnce.contains(inode));
    EXPECT_EQ(resident.pid, atOnce.at(inode).pid);
    EXPECT_EQ(resident.cgroupPath, atOnce.at(inode).cgroupPath);
  }
  EXPECT_EQ(atOnce.at(intercept::NamespaceInode(intercept::NamespaceFile(one.pid()))).cgroupPath,
            tree.PathFromRoot(one.pid() < two.pid() ? inner.path() : other.path()));
}

TEST(WorkloadScanTest, StopsWhenItsTurnIsOverAndEndsThoughCgroupsComeAndGo) {
  const Cgroup node;
  auto idle = MakeCgroups(node, 1000);
  const intercept::CgroupTree tree = Open(node);
  WorkloadScan scan(tree);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(scan.GoOn(Clock::now()));
  idle.resize(500);
  const Cgroup late(node, "late");
  EXPECT_GT(TurnsOf(scan), 100u);
}

TEST(WorkloadScanTest, ProcessThatIsReapedBetweenTwoReadsIsNotTakenForHidden) {
  for (const bool seesAll : {true, false}) {
    const Cgroup node;
    std::vector<std::unique_ptr<Workload>> many;  // more than a read tells of
    while (many.size() < 150) many.push_back(std::make_unique<Workload>(node, nullptr, PauseForEver));
    const intercept::CgroupTree tree = Open(node);
    WorkloadScan scan(tree, seesAll);
    ASSERT_FALSE(scan.GoOn(Clock::now()));
    many.clear();
    EXPECT_TRUE(scan.GoOn(Clock::time_point::max()));
    EXPECT_EQ(scan.hidden(), 0u) << seesAll;
  }
}

TEST(WorkloadScanTest, ProcessesOutsideOfThePidNamespaceAreHidden) {
  const Cgroup node;
  const Cgroup hidden(node, "hidden"), container(node, "container");
  const Workload one(hidden, nullptr, PauseForEver), two(hidden, nullptr, PauseForEver);
  const intercept::CgroupTree tree = Open(node);
  const auto scanInPidNamespace = [&]() -> std::string {
    Require(::unshare(CLONE_NEWPID) == 0, "a pid namespace");
    const pid_t child = ::fork();
    if (child == 0) {
      WorkloadScan scan(tree);
      (void)scan.GoOn(Clock::time_point::max());
      ::_exit(static_cast<int>(scan.hidden()));
    }
    int status = 0;
    Require(::waitpid(child, &status, 0) == child && WIFEXITED(status), "its end");
    return StrCat(WEXITSTATUS(status));
  };
  EXPECT_EQ(RunWorkload(container, nullptr, scanInPidNamespace), "3") << "those two, and who waits for the end";
}

TEST(CgroupTreeTest, ContainsItselfAndWhatIsBelowAndNothingElse) {
  const Cgroup node;
  const Cgroup one(node, "one"), below(one, "below"), deep(below, "deep"), alike(node, "one2");
  const intercept::CgroupTree tree = Open(one);
  for (const Cgroup* cgroup : {&one, &below, &deep}) EXPECT_TRUE(*tree.Contains(cgroup->id())) << cgroup->path();
  for (const Cgroup* cgroup : {&node, &alike}) EXPECT_FALSE(*tree.Contains(cgroup->id())) << cgroup->path();
  uint64_t gone = 0;
  {
    const Cgroup ended(one, "ended");
    gone = ended.id();
  }
  EXPECT_FALSE(*tree.Contains(gone));
  EXPECT_FALSE(*tree.Contains(0));
  const NoDescriptors none;
  EXPECT_EQ(tree.Contains(below.id()).status().code(), absl::StatusCode::kUnavailable);
}

// The table alone, with the test as its thread.
class NamespaceTableTest : public Stage {
 protected:
  NamespaceTableTest() {
    redirect = *Redirect::Start(config, {});
    sockets = *intercept::SocketMaker::Start();
    StartTable();
  }

  void StartTable() {
    table.emplace(
        *redirect, *sockets, Open(node),
        intercept::Namespaces::Callbacks{
            .serve = [this](uint64_t,
                            const std::vector<UniqueFd>& /*listeners*/) { std::this_thread::sleep_for(servingTakes); },
            .release = [this](uint64_t cookie) { released.push_back(cookie); }},
        [](uint64_t, int) {}, nullptr);
    Require(table->AddOwn().ok(), "the own namespace");
    table->Scan();
  }

  // Goes on by the smallest turns until the processes of the intercepted cgroup itself have been seen.
  void PassTheFirstCgroup() {
    for (int i = 0; i < 20; ++i) Require(!table->GoOnScanning(Clock::now()), "a scan that takes longer");
  }
  std::unique_ptr<Workload> LiveIn(const Netns& netns) const {
    return std::make_unique<Workload>(node, &netns, PauseForEver);
  }
  void Connect(const Netns& netns, const Workload& workload) { Connect(netns, workload, node); }
  void Connect(const Netns& netns, const Workload& workload, const Cgroup& cgroup) {
    Connect(netns.cookie(), workload.pid(), cgroup);
  }
  void Connect(uint64_t cookie, pid_t pid, const Cgroup& cgroup) {
    RefusedConnect refused;
    refused.reason = RefusedConnect::Reason::kHeld;
    refused.netnsCookie = cookie;
    refused.cgroupId = refused.shareCgroupId = cgroup.id();
    refused.pid = static_cast<uint32_t>(pid);
    refused.family = AF_INET;
    table->OnRefused(refused);
  }
  void End(const Netns& netns, std::unique_ptr<Workload>& workload) {
    workload.reset();
    table->OnWitnessEnded(netns.cookie());
  }
  // Whether nothing is due but scans, between which there are rests.
  bool RestsAfterScans() {
    return Eventually([this] {
      table->ScanIfDue();
      return table->MillisecondsToWait() > 0;
    });
  }
  bool IsServed(const Netns& netns) const {
    const auto status = table->StatusOf(netns.cookie());
    return status.has_value() && status->state == intercept::Namespaces::NamespaceStatus::State::kServed;
  }

  const std::vector<std::unique_ptr<Cgroup>> idle = MakeCgroups(node, 2000);
  std::unique_ptr<Redirect> redirect;
  std::unique_ptr<intercept::SocketMaker> sockets;
  std::vector<uint64_t> released;
  std::chrono::milliseconds servingTakes{};
  std::optional<NamespaceTable> table;
};

TEST_F(NamespaceTableTest, ScanGoesOnInTurnsAndConnectsAreServedBetweenThem) {
  ASSERT_TRUE(IsServed(pod.netns));
  const Netns late;
  const auto resident = LiveIn(late);
  table->WantScan();
  ASSERT_TRUE(Eventually([&] { return table->MillisecondsToWait() == 0; }));
  PassTheFirstCgroup();
  EXPECT_EQ(table->MillisecondsToWait(), 0) << "its next turn comes at once";
  Connect(late, *resident);
  EXPECT_TRUE(IsServed(late));
  EXPECT_FALSE(table->GoOnScanning(Clock::now()));
  table->Scan();
  EXPECT_TRUE(IsServed(late));
  EXPECT_TRUE(released.empty());
}

TEST_F(NamespaceTableTest, TurnOfALongScanEndsInTime) {
  const auto fastest = [this] {  // a busy machine makes some of them look long
    auto least = Clock::duration::max();
    for (int i = 0; i < 5; ++i) {
      const auto start = Clock::now();
      table->Scan();
      least = std::min(least, Clock::now() - start);
    }
    return least;
  };
  std::vector<std::unique_ptr<Cgroup>> more;
  while (fastest() < std::chrono::milliseconds(60)) {
    more.push_back(std::make_unique<Cgroup>(node, StrCat("more", more.size())));
    for (int i = 0; i < 500; ++i) Require(::mkdir(StrCat(more.back()->path(), "/", i).c_str(), 0755) == 0, "a cgroup");
  }
  table->WantScan();
  ASSERT_TRUE(Eventually([&] { return table->MillisecondsToWait() == 0; }));
  auto least = Clock::duration::max();  // of those that others could follow
  for (;;) {
    const auto start = Clock::now();
    table->ScanIfDue();
    const auto took = Clock::now() - start;
    if (table->MillisecondsToWait() != 0) break;
    least = std::min(least, took);
  }
  EXPECT_LT(least, std::chrono::milliseconds(50)) << "or it was through at once";
  EXPECT_GE(least, std::chrono::milliseconds(20));
}

// The timer must not have it do nothing else.
TEST_F(NamespaceTableTest, ScanRestsTenTimesAsLongAsItTookWhoeverAsksForIt) {
  const auto start = Clock::now();
  table->Scan();
  const auto took = Clock::now() - start;
  table->WantScan();
  EXPECT_GT(table->MillisecondsToWait(), took / std::chrono::milliseconds(1) * 3);
  table->ScanIfDue();
  EXPECT_GT(table->MillisecondsToWait(), 0) << "not begun";
}

// One lived there when the scan began, others have come to a cgroup that it had passed.
TEST_F(NamespaceTableTest, NamespaceWhoseWitnessEndsDuringAScanIsKeptForTheNext) {
  const Netns late;
  PassTheFirstCgroup();
  auto first = LiveIn(late), second = LiveIn(late);
  Connect(late, *first);
  ASSERT_TRUE(IsServed(late));
  End(late, first);
  table->Scan();
  EXPECT_TRUE(IsServed(late)) << "the scan had passed the second one's cgroup before it was there";
  EXPECT_GE(table->MillisecondsToWait(), 0) << "the next scan is due";
  table->Scan();
  EXPECT_EQ(table->StatusOf(late.cookie())->process, static_cast<uint32_t>(second->pid()));
  End(late, second);
  table->Scan();
  EXPECT_TRUE(released.empty()) << "a scan misses whoever moves to where it has been";
  EXPECT_GE(table->MillisecondsToWait(), 0) << "the next scan is due";
  table->Scan();
  EXPECT_EQ(released, std::vector{late.cookie()}) << "nobody is left";
}

// Its end has not been told yet.
TEST_F(NamespaceTableTest, NamespaceWhoseWitnessHasEndedUnnoticedIsKeptForTheNext) {
  const Netns late;
  PassTheFirstCgroup();
  auto first = LiveIn(late), second = LiveIn(late);
  Connect(late, *first);
  first.reset();
  table->Scan();
  EXPECT_TRUE(IsServed(late));
  table->Scan();
  EXPECT_EQ(table->StatusOf(late.cookie())->process, static_cast<uint32_t>(second->pid()));
  EXPECT_TRUE(released.empty());
}

TEST_F(NamespaceTableTest, NamespaceThatAScanMissedIsKeptOnceSomebodyIsFoundInIt) {
  const Netns late;
  auto resident = LiveIn(late);
  Connect(late, *resident);
  for (int i = 0; i < 3; ++i) {
    End(late, resident);
    table->Scan();
    resident = LiveIn(late);
    table->Scan();
    EXPECT_TRUE(released.empty());
    EXPECT_TRUE(IsServed(late));
  }
}

TEST_F(NamespaceTableTest, NamespaceThatCannotBeOpenedIsNoFaultWhereItHasEndedOrIsServed) {
  constexpr uint64_t kUnknown = UINT64_MAX / 2;
  const Netns late;
  auto resident = LiveIn(late);
  auto ended = LiveIn(late);
  const pid_t gone = ended->pid();
  ended.reset();
  Connect(late, *resident);
  {
    const NoDescriptors none;
    Connect(kUnknown, gone, node);
    Connect(kUnknown + 1, resident->pid(), node);
  }
  EXPECT_TRUE(table->Health().ok()) << table->Health();
  const Netns unopened;
  const auto living = LiveIn(unopened);
  {
    const NoDescriptors none;
    Connect(unopened, *living);
  }
  EXPECT_FALSE(table->Health().ok());
}

TEST_F(NamespaceTableTest, ScanThatCouldNotLookEverywhereLetsGoOfNothing) {
  const Netns late;
  auto first = LiveIn(late);
  const auto second = LiveIn(late);
  Connect(late, *first);
  End(late, first);
  {
    const NoDescriptors none;
    for (int i = 0; i < 3; ++i) table->Scan();
  }
  EXPECT_TRUE(released.empty());
  EXPECT_THAT(std::string(table->SeesAllProcesses().message()), testing::HasSubstr("Too many open files"));
  EXPECT_GE(table->MillisecondsToWait(), 0) << "the next scan is due";
  table->Scan();
  EXPECT_TRUE(IsServed(late));
  EXPECT_TRUE(table->SeesAllProcesses().ok()) << table->SeesAllProcesses();
}

// All at once, and for a while: nobody's doing.
TEST_F(NamespaceTableTest, WhatAnAgentFindsWhenItStartsIsChargedToNobody) {
  const Netns first, second;
  const auto inFirst = LiveIn(first), inSecond = LiveIn(second);
  servingTakes = std::chrono::milliseconds(300);
  StartTable();
  servingTakes = {};
  ASSERT_TRUE(IsServed(first));
  const Netns late;
  const auto resident = LiveIn(late);
  Connect(late, *resident);
  EXPECT_TRUE(IsServed(late)) << table->CrowdHealth();
}

// One that has used up its time, and one that lives in a namespace together with it.
TEST_F(NamespaceTableTest, WhoConnectsPaysWhereWhoeverWasThereFirstHasNoTimeLeft) {
  const Cgroup spender(node, "spender"), other(node, "other");
  const Netns known, unknown;
  known.Ip("link set lo down");
  const Workload spenderInKnown(spender, &known, PauseForEver), otherInKnown(other, &known, PauseForEver);
  Connect(known, spenderInKnown, spender);
  ASSERT_TRUE(table->StatusOf(known.cookie()).has_value());
  ASSERT_FALSE(IsServed(known));
  const Netns slow;
  const Workload spenderInSlow(spender, &slow, PauseForEver);
  servingTakes = std::chrono::milliseconds(500);  // which takes seconds to pay back
  Connect(slow, spenderInSlow, spender);
  servingTakes = {};

  known.Ip("link set lo up");
  const Workload spenderInUnknown(spender, &unknown, PauseForEver);
  Connect(unknown, spenderInUnknown, spender);
  Connect(known, spenderInKnown, spender);
  table->RetryHeld();
  EXPECT_THAT(std::string(table->CrowdHealth().message()), testing::HasSubstr("/spender"));
  EXPECT_FALSE(IsServed(unknown));
  EXPECT_FALSE(IsServed(known));
  EXPECT_TRUE(RestsAfterScans());
  const Workload otherInUnknown(other, &unknown, PauseForEver);
  Connect(unknown, otherInUnknown, other);
  EXPECT_TRUE(IsServed(unknown));
  Connect(known, otherInKnown, other);
  EXPECT_TRUE(IsServed(known));
}

TEST_F(NamespaceTableTest, HeldConnectComesBeforeNamespacesFromWhichNobodyConnects) {
  const Cgroup spender(node, "spender");
  const Netns slow, late;
  const Workload inSlow(spender, &slow, PauseForEver), inLate(spender, &late, PauseForEver);
  servingTakes = std::chrono::milliseconds(400);  // 150 more than there are: a second and a half
  Connect(slow, inSlow, spender);
  const size_t before = table->Status().size();
  const Workload quiet(spender, nullptr, [] { return MakeNamespaces(8); });
  servingTakes = std::chrono::milliseconds(20);
  Connect(late, inLate, spender);
  ASSERT_FALSE(IsServed(late));
  EXPECT_TRUE(RestsAfterScans());
  ASSERT_FALSE(IsServed(late));
  const auto end = Clock::now() + Slowed(std::chrono::seconds(10));
  while (!IsServed(late) && Clock::now() < end) {
    table->ScanIfDue();
    table->RetryHeld();
  }
  EXPECT_TRUE(IsServed(late));
  EXPECT_EQ(table->Status().size(), before + 1);
}

TEST_F(NamespaceTableTest, ScanLeavesHalfOfTheBurstForConnects) {
  constexpr size_t kQuiet = 10;
  const Cgroup spender(node, "spender");
  const intercept::CgroupTree tree = Open(spender);
  const Workload quiet(spender, nullptr, [] { return MakeNamespaces(kQuiet); });
  ASSERT_TRUE(Eventually([&] {
    WorkloadScan scan(tree);
    return scan.GoOn(Clock::time_point::max()) && scan.found().size() == kQuiet + 1;  // and the test's own
  }));
  servingTakes = std::chrono::milliseconds(50);
  table->Scan();
  const Netns late;
  const Workload inLate(spender, &late, PauseForEver);
  Connect(late, inLate, spender);
  EXPECT_TRUE(IsServed(late)) << table->CrowdHealth();
}

TEST_F(NamespaceTableTest, UserHasTheTimeOfOneHoweverManyWorkloadsHeHas) {
  const Cgroup session(node, "session"), second(node, "second"), others(node, "others");
  const auto live = [] { return MakeNamespaces(1); };
  const auto scanUntilServed = [&](size_t count) {
    return Eventually([&] {
      table->Scan();
      return table->Status().size() == count;
    });
  };
  const size_t before = table->Status().size();
  servingTakes = std::chrono::seconds(1);  // the most that is charged at once: eight seconds to pay back
  const Workload one(session, nullptr, live, kNobody);
  ASSERT_TRUE(scanUntilServed(before + 1));
  servingTakes = {};
  const Workload two(second, nullptr, live, kNobody), three(others, nullptr, live, kNobody - 1);
  ASSERT_TRUE(scanUntilServed(before + 2));
  for (int i = 0; i < 20 && table->CrowdHealth().ok(); ++i) table->Scan();
  EXPECT_THAT(std::string(table->CrowdHealth().message()), testing::HasSubstr(StrCat("user ", kNobody, ":")));
  EXPECT_EQ(table->Status().size(), before + 2);
}

TEST_F(NamespaceTableTest, WhoConnectsPaysThoughTheNextAttemptIsNotDueYet) {
  const Cgroup spender(node, "spender"), other(node, "other");
  const Netns known, slow, slower;
  known.Ip("link set lo down");
  const Workload spenderInKnown(spender, &known, PauseForEver), otherInKnown(other, &known, PauseForEver);
  const Workload inSlow(spender, &slow, PauseForEver), inSlower(spender, &slower, PauseForEver);
  Connect(known, spenderInKnown, spender);
  servingTakes = std::chrono::milliseconds(230);  // nearly all that it has
  Connect(slow, inSlow, spender);
  Connect(known, spenderInKnown, spender);  // the next attempt is due 200 ms later
  servingTakes = std::chrono::milliseconds(150);
  Connect(slower, inSlower, spender);  // and its own next turn a second and more
  servingTakes = {};
  known.Ip("link set lo up");
  Connect(known, otherInKnown, other);
  const auto end = Clock::now() + Slowed(std::chrono::seconds(1));
  while (!IsServed(known) && Clock::now() < end) table->RetryHeld();
  EXPECT_TRUE(IsServed(known));
}

}  // namespace
}  // namespace kveil::nettest
