// From what workers count to what a trail answers.
#include "audit/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "audit/query.h"
#include "audit/trail_files.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class RecorderTest : public testing::Test {
 protected:
  RecorderTest() {
    char path[] = "/tmp/kveil-recorder-XXXXXX";
    parent_ = mkdtemp(path);
    folder_ = parent_ + "/audit";
    Begin();
  }
  ~RecorderTest() override {
    recorder_.reset();
    std::filesystem::remove_all(parent_);
  }

  static absl::Time Now() { return absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now())); }
  void Begin(absl::Time now = Now() - absl::Hours(1)) {
    recorder_.reset();
    Recorder::Options options;
    options.folder = folder_;
    options.limits = limits_;
    options.agent = "node-a:7";
    options.version = "0.1.0";
    options.pseudonymsOf =
        [this](absl::Span<const crypto::KeyId> keys) -> absl::StatusOr<std::vector<std::optional<std::string>>> {
      steady_ += slowness_;
      if (!registry_.ok()) return registry_;
      std::vector<std::optional<std::string>> names;
      for (const crypto::KeyId& key : keys) {
        names.push_back(key.bytes[0] == 99 ? std::nullopt : std::optional(StrCat("p", int{key.bytes[0]})));
      }
      return names;
    };
    options.registryOf = [this]() -> absl::StatusOr<std::string> {
      if (!registry_.ok()) return registry_;
      return registryMark_;
    };
    now_ = now;
    options.wallClock = [this] { return now_; };
    options.steadyClock = [this] { return steady_; };
    recorder_ = std::make_unique<Recorder>(std::move(options), std::vector<Tally*>{&tally_, &other_});
  }
  static identity::Workload Workload(const std::string& unit, uint32_t uid = 0) {
    identity::Workload workload;
    workload.share = "/system.slice/" + unit;
    workload.cgroupPath = workload.share;
    workload.unit = unit;
    workload.uid = uid;
    return workload;
  }
  static Tally::What What(std::string_view topic, bool isByUser = false) {
    return {.cluster = "main",
            .topic = topic,
            .file = "clicks.json",
            .entry = 2,
            .access = Access::kRead,
            .isByUser = isByUser};
  }
  // Uses of a user each, with lines longer than what is kept while the disk is full. Returns how many.
  size_t AddMoreThanIsKept() {
    const std::string longFile(60'000, 'f');
    const size_t count = Recorder::kMostPending / longFile.size() + 10;
    for (size_t i = 0; i < count; ++i) {
      Tally::What what = What("clicks", true);
      what.file = longFile;
      tally_.Add(Workload(StrCat(i, ".service")), what, {.records = 1}, Keys({1}));
    }
    return count;
  }
  static std::vector<crypto::KeyId> Keys(std::initializer_list<uint8_t> first) {
    std::vector<crypto::KeyId> keys;
    for (const uint8_t byte : first) keys.emplace_back().bytes[0] = byte;
    return keys;
  }
  void Pass(absl::Duration time) {
    now_ += time;
    steady_ += time;
  }
  absl::Status Record() {
    Pass(absl::Minutes(1));
    return recorder_->Record();
  }
  Answer AskFor(const Query& query = {}) {
    absl::StatusOr<Answer> answer = Ask(folder_, *ReadPublicKey(folder_, ""), query);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.value_or(Answer());
  }

  std::string parent_;
  std::string folder_;
  Trail::Limits limits_;
  Tally tally_, other_;
  absl::Status registry_;
  absl::Duration slowness_;  // of each call of the registry
  std::string registryMark_ = "r1";
  absl::Time now_;
  absl::Duration steady_ = absl::Hours(100);
  std::unique_ptr<Recorder> recorder_;
};

TEST_F(RecorderTest, TellsWhoReadHowMuchByWhichEntry) {
  tally_.Add(Workload("a.service", 33), What("clicks"), {.records = 5, .leftOut = 2});
  other_.Add(Workload("a.service", 33), What("clicks"), {.records = 7, .erased = 1});
  tally_.Add(Workload("b.service"), What("orders"), {.denials = 1});
  ASSERT_TRUE(Record().ok());
  tally_.Add(Workload("a.service", 33), What("clicks"), {.records = 3});
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor();
  EXPECT_THAT(answer.verification.faults, IsEmpty());
  ASSERT_THAT(answer.done, SizeIs(2));
  const Answer::Done& done = answer.done[0];
  EXPECT_EQ(done.workload, "a.service");
  EXPECT_EQ(done.uid, 33u);
  EXPECT_EQ(done.topic, "clicks");
  EXPECT_EQ(done.access, "read");
  EXPECT_EQ(done.file, "clicks.json");
  EXPECT_EQ(done.entry, 2u);
  EXPECT_EQ(done.counts.records, 15u);
  EXPECT_EQ(done.counts.leftOut, 2u);
  EXPECT_EQ(done.counts.erased, 1u);
  EXPECT_EQ(done.last - done.first, absl::Minutes(2));
  EXPECT_EQ(answer.done[1].counts.denials, 1u);
  EXPECT_THAT(AskFor({.topic = "orders"}).done, SizeIs(1));
  EXPECT_THAT(AskFor({.workload = "a.serv"}).done, SizeIs(1));
  EXPECT_THAT(AskFor({.workload = "nobody"}).done, IsEmpty());
  EXPECT_THAT(AskFor({.since = now_}).done, IsEmpty());
  EXPECT_EQ(AskFor({.since = now_ - absl::Seconds(30)}).done[0].counts.records, 3u);
}

TEST_F(RecorderTest, TellsWhoReadTheRecordsOfAUser) {
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 3}, Keys({1, 2, 1}));
  other_.Add(Workload("b.service"), What("clicks", true), {.records = 1}, Keys({1}));
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor({.pseudonyms = {{"p1", "q1"}}, .since = now_ - absl::Minutes(1), .until = now_});
  ASSERT_THAT(answer.done, SizeIs(2));
  EXPECT_EQ(answer.done[0].counts.records + answer.done[1].counts.records, 3u);
  EXPECT_THAT(answer.gaps, IsEmpty());
  EXPECT_THAT(AskFor({.pseudonyms = {{"p7"}}}).done, IsEmpty());
}

TEST_F(RecorderTest, PseudonymsOfAnotherRegistryAreNotKnown) {
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  ASSERT_TRUE(Record().ok());
  registryMark_ = "r2";
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor({.pseudonyms = {{"p1"}}, .registry = "r2", .until = now_});
  ASSERT_THAT(answer.done, SizeIs(1));
  EXPECT_EQ(answer.done[0].counts.records, 1u);
  EXPECT_THAT(answer.gaps, Contains(HasSubstr("pseudonyms of another registry")));
  EXPECT_THAT(AskFor({.pseudonyms = {{"p1"}}, .registry = "r2", .since = now_ - absl::Minutes(1), .until = now_}).gaps,
              IsEmpty());
}

TEST_F(RecorderTest, SaysOfAUserWhatWasNotCountedByUser) {
  tally_.Add(Workload("a.service"), What("orders"), {.records = 4});
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 2}, Keys({99, 1}));
  ASSERT_TRUE(Record().ok());
  const Query query{.pseudonyms = {{"p7"}}};
  EXPECT_THAT(AskFor(query).gaps,
              AllOf(Contains(HasSubstr("4 records of topic orders were counted, and no policy asked for whom")),
                    Contains(HasSubstr("1 records of topic clicks were counted, but not for whom"))));
  EXPECT_THAT(recorder_->Note(), HasSubstr("1 records of the last minute are not counted for their users"));
}

TEST_F(RecorderTest, WaitsForPseudonymsButNotForEver) {
  registry_ = absl::UnavailableError("the registry is away");
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  EXPECT_TRUE(absl::IsUnavailable(Record()));
  EXPECT_THAT(AskFor().done, IsEmpty());
  EXPECT_EQ(AskFor().knownUntil, now_ - absl::Minutes(1)) << "nothing is said of the minute that waits";
  registry_ = absl::OkStatus();
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.pseudonyms = {{"p1"}}}).done, SizeIs(1));
  registry_ = absl::UnavailableError("the registry is away");
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  for (int i = 0; i < 6; ++i) (void)Record();
  EXPECT_TRUE(recorder_->Health().ok());
  EXPECT_EQ(AskFor().done[0].counts.records, 2u);
  EXPECT_EQ(AskFor().done[0].counts.withoutUser, 1u);
}

TEST_F(RecorderTest, AWorkloadWithManyTopicsIsCountedAllTheSameAndTakesNobodysPlace) {
  for (size_t i = 0; i < 2 * Tally::kMostUsesOfAShare; ++i) {
    tally_.Add(Workload("many.service"), What(StrCat("t", i)), {.records = 1});
  }
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
  ASSERT_TRUE(Record().ok());
  uint64_t records = 0;
  for (const Answer::Done& done : AskFor({.workload = "many"}).done) records += done.counts.records;
  EXPECT_EQ(records, 2 * Tally::kMostUsesOfAShare);
  EXPECT_THAT(AskFor({.topic = "clicks"}).done, SizeIs(1));
  EXPECT_THAT(AskFor({.topic = "clicks"}).gaps, Contains(HasSubstr("256 records of topics that were not told apart")));
  EXPECT_THAT(recorder_->Note(), HasSubstr("256 records are counted without their topic"));
  ASSERT_TRUE(Record().ok());
  EXPECT_EQ(recorder_->Note(), "");
}

TEST_F(RecorderTest, AWorkloadWithManyUsersTakesNobodysPlace) {
  std::vector<crypto::KeyId> keys(2 * Tally::kMostUsersOfAShare);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i].bytes[8] = 1;
    std::memcpy(keys[i].bytes.data() + 2, &i, 4);
    keys[i].bytes[0] = static_cast<uint8_t>(i % 90);
  }
  tally_.Add(Workload("many.service"), What("clicks", true), {.records = keys.size()}, keys);
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.pseudonyms = {{"p1"}}, .workload = "a.service"}).done, SizeIs(1));
  EXPECT_EQ(AskFor({.workload = "many"}).done[0].counts.withoutUser, Tally::kMostUsersOfAShare);
}

TEST_F(RecorderTest, SharesHaveABoundAndAreCountedBeyondIt) {
  for (size_t i = 0; i < Tally::kMostShares + 10; ++i) {
    tally_.Add(Workload(StrCat(i, ".service")), What("clicks"), {.records = 1});
  }
  uint64_t records = 0;
  const AllCounted taken = tally_.Take();
  for (const auto& [use, counted] : taken) records += counted.counts.records;
  EXPECT_EQ(records, Tally::kMostShares + 10);
  EXPECT_EQ(taken.size(), Tally::kMostShares + 1);
}

TEST_F(RecorderTest, AnEndInOrderLeavesNoGapAndACrashDoes) {
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
  Pass(absl::Minutes(1));
  recorder_->Stop();
  EXPECT_EQ(AskFor().done.size(), 1u) << "the open minute is written at the end";
  Begin(now_);
  EXPECT_THAT(AskFor({.since = now_ - absl::Minutes(1), .until = now_}).gaps, IsEmpty());
  // What a crash leaves: a trail that does not end with a word.
  ASSERT_TRUE(Record().ok());
  const std::string left = parent_ + "/left";
  std::filesystem::copy(folder_, left);
  recorder_.reset();
  folder_ = left;
  Begin(now_ + absl::Minutes(10));
  EXPECT_THAT(AskFor().gaps, Contains(HasSubstr("the agent ended without a word")));
  EXPECT_THAT(AskFor({.since = now_ - absl::Minutes(5), .until = now_}).gaps,
              ElementsAre(HasSubstr(StrCat("between ", TextOf(now_ - absl::Minutes(10))))));
}

TEST_F(RecorderTest, WhatCannotBeWrittenIsWrittenLater) {
  recorder_.reset();
  const std::string before = folder_;
  folder_ = parent_ + "/missing/audit";
  Begin();
  EXPECT_FALSE(recorder_->Health().ok());
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
  EXPECT_FALSE(Record().ok());
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 2});
  EXPECT_FALSE(Record().ok());
  EXPECT_THAT(std::string(recorder_->Health().message()), HasSubstr("missing/audit"));
  ASSERT_TRUE(std::filesystem::create_directory(parent_ + "/missing"));
  ASSERT_TRUE(Record().ok());
  EXPECT_TRUE(recorder_->Health().ok());
  EXPECT_EQ(AskFor().done[0].counts.records, 3u);
}

TEST_F(RecorderTest, WhatThereIsNoRoomForIsSaidToBeLost) {
  recorder_.reset();
  folder_ = parent_ + "/missing/audit";
  Begin();
  const std::string longName(20'000, 'x');
  const int count = static_cast<int>(Recorder::kMostPending / longName.size()) + 10;
  for (int i = 0; i < count; ++i) {
    Tally::What what = What("clicks");
    what.file = longName;
    tally_.Add(Workload("a.service"), what, {.records = 1});
    EXPECT_FALSE(Record().ok());
  }
  ASSERT_TRUE(std::filesystem::create_directory(parent_ + "/missing"));
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor();
  EXPECT_THAT(answer.gaps, Contains(HasSubstr("could not be written for too long")));
  EXPECT_LT(answer.done[0].counts.records, static_cast<uint64_t>(count));
  EXPECT_GT(answer.done[0].counts.records, static_cast<uint64_t>(count) - 40);
}

TEST_F(RecorderTest, AMinuteMayHaveMoreLinesThanAreKeptWhenTheDiskIsFull) {
  const size_t count = AddMoreThanIsKept();
  ASSERT_TRUE(Record().ok());
  EXPECT_EQ(AskFor().done.size(), count);
  EXPECT_EQ(AskFor({.pseudonyms = {{"p1"}}}).done.size(), count);
  EXPECT_EQ(recorder_->Note(), "");
}

TEST_F(RecorderTest, WhatIsLostIsSaidWithItsRecords) {
  recorder_.reset();
  folder_ = parent_ + "/missing/audit";
  Begin();
  const size_t count = AddMoreThanIsKept();
  EXPECT_FALSE(Record().ok());
  EXPECT_THAT(recorder_->Note(), HasSubstr("could not be kept"));
  ASSERT_TRUE(std::filesystem::create_directory(parent_ + "/missing"));
  ASSERT_TRUE(Record().ok());
  const Answer uses = AskFor(), users = AskFor({.pseudonyms = {{"p1"}}});
  EXPECT_EQ(uses.done.size(), users.done.size()) << "a use and its users are lost together";
  EXPECT_LT(uses.done.size(), count);
  EXPECT_THAT(uses.gaps, Contains(HasSubstr(StrCat(count - uses.done.size(), " records in "))));
}

TEST_F(RecorderTest, AStepOfTheClockIsAGapAndWhatFollowsHasTheTrueTime) {
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
  ASSERT_TRUE(Record().ok());
  const absl::Time jump = now_;
  now_ += absl::Hours(24 * 365);
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 2});
  ASSERT_TRUE(Record().ok());
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 4});
  ASSERT_TRUE(Record().ok());
  now_ -= absl::Hours(24 * 365);
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 8});
  ASSERT_TRUE(Record().ok());
  const absl::Time back = now_;
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 16});
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor().verification.faults, IsEmpty());
  const Answer wrong = AskFor({.since = jump, .until = back});
  EXPECT_THAT(wrong.gaps, Contains(HasSubstr("the clock was set forward")));
  const Answer right = AskFor({.since = back, .until = now_});
  EXPECT_THAT(right.gaps, IsEmpty());
  ASSERT_THAT(right.done, SizeIs(1));
  EXPECT_EQ(right.done[0].counts.records, 16u);
  EXPECT_EQ(right.done[0].last, now_);
  EXPECT_EQ(AskFor().done[0].counts.records, 31u);
}

TEST_F(RecorderTest, TheTimeWithoutAnAgentIsAGap) {
  ASSERT_TRUE(Record().ok());
  recorder_->Stop();
  const absl::Time stopped = now_;
  Begin(now_ + absl::Minutes(20));
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.since = stopped + absl::Minutes(1), .until = stopped + absl::Minutes(2)}).gaps,
              ElementsAre(HasSubstr("no agent wrote this trail")));
  EXPECT_THAT(AskFor({.since = stopped + absl::Minutes(20), .until = now_}).gaps, IsEmpty());
}

TEST_F(RecorderTest, ACrashAtAHandoverIsAGap) {
  ASSERT_TRUE(Record().ok());
  const std::string left = parent_ + "/left";
  std::filesystem::copy(folder_, left);
  recorder_.reset();
  // The next one has started before the first one signed for the last time.
  folder_ = parent_ + "/missing/audit";
  const absl::Time started = now_ - absl::Seconds(30);
  Begin(started);
  std::filesystem::create_directory(parent_ + "/missing");
  std::filesystem::rename(left, folder_);
  Pass(absl::Seconds(30));
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.since = now_ - absl::Seconds(30), .until = now_}).gaps,
              ElementsAre(HasSubstr("the agent ended without a word")));
}

TEST_F(RecorderTest, ACrashWhileTheClockIsWrongIsAGap) {
  ASSERT_TRUE(Record().ok());
  const absl::Time right = now_;
  now_ += absl::Hours(24);
  ASSERT_TRUE(Record().ok());
  const absl::Time wrong = now_;
  const std::string left = parent_ + "/left";
  std::filesystem::copy(folder_, left);
  recorder_.reset();
  folder_ = left;
  Begin(right + absl::Minutes(10));
  EXPECT_THAT(AskFor({.since = right, .until = now_}).gaps,
              Contains(HasSubstr("ended without a word, when the clock said " + TextOf(wrong))));
  // After an end in order, only the clock is said.
  recorder_->Stop();
  const absl::Time stopped = now_;
  Begin(stopped - absl::Minutes(5));
  EXPECT_THAT(AskFor({.since = stopped - absl::Minutes(1), .until = stopped}).gaps,
              Not(Contains(HasSubstr(StrCat("clock said ", TextOf(stopped))))));
}

// What was counted must not keep the agent from ending.
TEST_F(RecorderTest, ASlowRegistryIsAskedForSomeSecondsInAll) {
  std::vector<crypto::KeyId> keys(3000);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i].bytes[0] = 1;
    keys[i].bytes[1] = static_cast<uint8_t>(i);
    keys[i].bytes[2] = static_cast<uint8_t>(i >> 8);
  }
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = keys.size()}, keys);
  slowness_ = absl::Seconds(2);  // each call
  Pass(absl::Minutes(1));
  const absl::Duration before = steady_;
  recorder_->Stop();
  EXPECT_LE(steady_ - before, absl::Seconds(6));
  const Answer answer = AskFor({.pseudonyms = {{"p1"}}});
  ASSERT_THAT(answer.done, SizeIs(1));
  EXPECT_GT(answer.done[0].counts.records, 0u);
  EXPECT_THAT(answer.gaps, Contains(HasSubstr("records of topic clicks were counted, but not for whom")));
}

TEST_F(RecorderTest, GapsBeyondThoseThatAreNamedAreCounted) {
  recorder_.reset();
  auto trail = Trail::Open(folder_, {});
  ASSERT_TRUE(trail.ok()) << trail.status();
  const std::vector<std::string> lines(1100, LineOfLost({.from = now_, .to = now_, .lines = 1, .records = 1}));
  ASSERT_TRUE((*trail)->Append(lines, {.now = now_, .elapsed = absl::ZeroDuration()}).ok());
  const Answer answer = AskFor({.since = now_ - absl::Hours(2), .until = now_ + absl::Hours(2)});
  EXPECT_THAT(answer.gaps[0], HasSubstr("nothing is known from before"));
  EXPECT_THAT(answer.gaps.back(), HasSubstr("and 102 more such times or topics"));
}

TEST_F(RecorderTest, NamesThatAreDeniedTakeNoPlaceOfWhatIsRead) {
  for (size_t i = 0; i < 10 * Tally::kMostUsesOfAShare; ++i) {
    tally_.Add(Workload("many.service"), What(StrCat("made-up-", i)), {.refused = 1, .denials = 1});
  }
  tally_.Add(Workload("many.service"), What("clicks"), {.records = 7});
  EXPECT_LE(FilesOf(folder_)->size(), 1u);
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor({.topic = "clicks"});
  ASSERT_THAT(answer.done, SizeIs(1));
  EXPECT_EQ(answer.done[0].counts.records, 7u);
  EXPECT_THAT(answer.gaps, Contains(HasSubstr("denials and refused records")));
  EXPECT_LE(AskFor().done.size(), Tally::kMostDenialsOfAShare + 2);
  EXPECT_THAT(recorder_->Note(), HasSubstr("was denied more topics than are told apart"));
}

TEST_F(RecorderTest, WhatWasNotToldApartIsAGapForItsWorkloadAndNobodyElse) {
  for (size_t i = 0; i < 2 * Tally::kMostUsesOfAShare; ++i) {
    tally_.Add(Workload("many.service"), What(StrCat("t", i)), {.records = 1});
  }
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.topic = "clicks", .workload = "many.service"}).gaps, Contains(HasSubstr("not told apart")));
  EXPECT_THAT(AskFor({.topic = "clicks", .workload = "b.service"}).gaps, Not(Contains(HasSubstr("not told apart"))));
  // Of a share with several workloads, it is not known of which.
  for (size_t i = 0; i < 2 * Tally::kMostUsesOfAShare; ++i) {
    identity::Workload workload = Workload(i % 2 == 0 ? "c.service" : "d.service");
    workload.share = "/shared";
    tally_.Add(workload, What(StrCat("t", i)), {.records = 1});
  }
  ASSERT_TRUE(Record().ok());
  for (const char* name : {"c.service", "d.service"}) {
    EXPECT_THAT(AskFor({.topic = "clicks", .workload = name}).gaps, Contains(HasSubstr("not told apart"))) << name;
  }
}

TEST_F(RecorderTest, ANameThatIsTooLongForATopicIsOneOfTheOthers) {
  tally_.Add(Workload("a.service"), What(std::string(Tally::kLongestTopic + 1, 'x')), {.denials = 1});
  const AllCounted taken = tally_.Take();
  ASSERT_THAT(taken, SizeIs(1));
  EXPECT_EQ(taken.begin()->first.topic, "");
}

TEST_F(RecorderTest, EveryShareHasRoomForSomeUsers) {
  std::vector<crypto::KeyId> keys(Tally::kMostUsersOfAShare);
  for (size_t i = 0; i < keys.size(); ++i) std::memcpy(keys[i].bytes.data(), &i, 4);
  for (int i = 0; i < 10; ++i) {
    tally_.Add(Workload(StrCat("many-", i, ".service")), What("clicks", true), {.records = keys.size()}, keys);
  }
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 1}, Keys({1}));
  ASSERT_TRUE(Record().ok());
  EXPECT_THAT(AskFor({.pseudonyms = {{"p1"}}, .workload = "a.service"}).done, SizeIs(1));
}

TEST_F(RecorderTest, RecordsThatHaveNoUserAreSaidToHaveNone) {
  tally_.Add(Workload("a.service"), What("clicks", true), {.records = 5}, Keys({1, 2}));
  ASSERT_TRUE(Record().ok());
  EXPECT_EQ(AskFor().done[0].counts.withoutUser, 3u);
  EXPECT_THAT(AskFor({.pseudonyms = {{"p7"}}}).gaps,
              Contains(HasSubstr("3 records of topic clicks were counted, but not for whom")));
  EXPECT_EQ(recorder_->Note(), "") << "there may be no user, as with a topic's key";
}

TEST_F(RecorderTest, LinesThatAreRemovedForWantOfRoomAreAProblem) {
  recorder_.reset();
  limits_ = {.bytes = 20'000, .fileBytes = 2'000};
  Begin();
  for (int i = 0; i < 100; ++i) {
    tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
    (void)Record();
  }
  EXPECT_TRUE(absl::IsResourceExhausted(recorder_->Health())) << recorder_->Health();
  Begin(now_);
  EXPECT_TRUE(absl::IsResourceExhausted(recorder_->Health())) << "also after a restart";
}

TEST_F(RecorderTest, OfManyGapsTheGeneralOnesAreSaidFirst) {
  for (int k = 0; k < 3; ++k) {
    for (size_t i = 0; i < 250; ++i) {
      tally_.Add(Workload(StrCat("s", k, ".service")), What(StrCat("t", k * 250 + i)), {.records = 1});
    }
  }
  ASSERT_TRUE(Record().ok());
  const Answer answer = AskFor({.pseudonyms = {{"p1"}}, .until = now_ + absl::Minutes(10)});
  EXPECT_THAT(answer.gaps[0], HasSubstr("nothing is known from before"));
  EXPECT_THAT(answer.gaps[1], HasSubstr("nothing is known from after"));
  EXPECT_THAT(answer.gaps, Contains(HasSubstr("250 records of topic (others)")));
}

TEST_F(RecorderTest, ADamagedTrailIsWrongUntilSomebodyLooks) {
  tally_.Add(Workload("a.service"), What("clicks"), {.records = 1});
  ASSERT_TRUE(Record().ok());
  std::filesystem::remove(folder_ + "/" + FilesOf(folder_)->back());
  EXPECT_TRUE(absl::IsDataLoss(Record()) || absl::IsDataLoss(Record()));
  EXPECT_THAT(std::string(recorder_->Health().message()), HasSubstr("kveil audit verify"));
}

TEST_F(RecorderTest, ItsThreadEndsAtOnce) {
  recorder_->Start();
  recorder_->Stop();
  EXPECT_THAT(AskFor().verification.faults, IsEmpty());
}

}  // namespace
}  // namespace kveil::audit
