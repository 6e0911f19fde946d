// What a record of a topic changes, that nothing is read twice or missed, and what counts while nobody knows.
#include "consents/topic_follower.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>

#include "absl/time/clock.h"
#include "base/text.h"
#include "consents/topic_position.h"
#include "mock_topic.h"

namespace kveil::consents {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::Not;

class TopicFollowerTest : public testing::Test {
 protected:
  TopicFollowerTest() {
    char path[] = "/tmp/kveil-consents-XXXXXX";
    folder_ = mkdtemp(path);
  }
  ~TopicFollowerTest() override { std::filesystem::remove_all(folder_); }

  // An agent's keys, in the registry of the test.
  std::unique_ptr<keys::KeyService> Open() {
    keys::KeyServiceOptions options;
    options.root.file = folder_ + "/root.key";
    options.registry.sqlite = folder_ + "/registry.db";
    options.agentName = StrCat("agent-", ++agents_);
    auto service = keys::KeyService::Open(std::move(options));
    EXPECT_TRUE(service.ok()) << service.status();
    return *std::move(service);
  }
  static TopicFollowerOptions Options(const MockTopic& topic) {
    TopicFollowerOptions options;
    options.reader.topic = "consents";
    options.reader.connection.bootstrapServers = {topic.servers()};
    options.keyspace = "clicks";
    options.heartbeat = milliseconds(100);
    options.pause = milliseconds(100);
    options.fetchWait = milliseconds(20);
    return options;
  }

  static bool Comes(const std::function<bool()>& condition, seconds limit = seconds(60)) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::sleep_for(milliseconds(10));
    }
    return true;
  }
  static std::optional<keys::KnownUser> Known(keys::KeyService& service, const std::string& user) {
    auto known = service.ReadUser("clicks", user);
    EXPECT_TRUE(known.ok()) << known.status();
    if (!known.ok() || known->empty()) return std::nullopt;
    return std::move(known->front());
  }
  // As a rule would ask.
  static bool Consents(keys::KeyService& service, const std::string& user, const std::string& purpose) {
    const std::optional<keys::KnownUser> known = Known(service, user);
    return known.has_value() && known->facts.Consents(purpose, absl::Now());
  }
  static keys::Registry::Source Source(keys::KeyService& service) {
    const auto sources = service.ReadSources();
    EXPECT_TRUE(sources.ok()) << sources.status();
    return sources.ok() && !sources->empty() ? sources->front() : keys::Registry::Source();
  }
  // Whether all records that were produced before are in the registry.
  static bool IsRead(keys::KeyService& service, int64_t records, int32_t partition = 0) {
    const std::optional<TopicPosition> position = Decode(Source(service).state);
    return position.has_value() && position->partitions.at(partition).next >= records &&
           Source(service).age.has_value();
  }

  std::string folder_;
  int agents_ = 0;
};

constexpr char kBoth[] = R"({"purposes": {"marketing": true, "support": {"until": "2999-01-01"}}})";
constexpr char kOne[] = R"({"purposes": ["support"]})";

TEST_F(TopicFollowerTest, EachRecordIsTheWholeTruthOfAUsersConsents) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  topic.Produce("39", kBoth);
  auto keys = Open();
  const keys::UserChange region{"38", "clicks", {users::FactsChange::Kind::kSet, "region", {}, "eu"}};
  const keys::UserChange news{"38", "clicks", {users::FactsChange::Kind::kGrant, "news"}};
  ASSERT_TRUE(keys->ChangeUsers({region, news}, 0).ok());
  EXPECT_TRUE(Consents(*keys, "38", "news"));
  const TopicFollower follower(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing") && Consents(*keys, "39", "support"); }));
  EXPECT_TRUE(Consents(*keys, "38", "support"));
  EXPECT_FALSE(Consents(*keys, "38", "news")) << "the record does not name it";
  EXPECT_NE(Known(*keys, "38")->facts.Attribute("region"), nullptr) << "attributes are not the topic's";
  EXPECT_THAT(Known(*keys, "38")->history.back().text, HasSubstr("\"topic\":true"));
  topic.Produce("38", kOne);
  topic.Produce("39", std::nullopt);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 4); }));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  EXPECT_TRUE(Consents(*keys, "38", "support"));
  EXPECT_FALSE(Consents(*keys, "39", "support"));
  const std::string told = "all of it is read; offsets behind, by partition: 0: 0";
  EXPECT_TRUE(Comes([&] { return follower.status().note.find(told) != std::string::npos; })) << follower.status().note;
  EXPECT_TRUE(follower.status().problem.ok()) << follower.status().problem;
}

TEST_F(TopicFollowerTest, WhatCannotBeReadGrantsNothingAndIsNamed) {
  MockTopic topic(1);
  auto keys = Open();
  const TopicFollower follower(Options(topic), *keys);
  int64_t count = 0;
  for (const char* garbage : {"", "secret", R"({"purposes": {"secret": 1}})", R"({"purposes": ["a"], "secret": 1})"}) {
    topic.Produce("38", kBoth);
    topic.Produce("38", garbage);
    count += 2;
    ASSERT_TRUE(Comes([&] { return IsRead(*keys, count); }));
    EXPECT_FALSE(Consents(*keys, "38", "marketing")) << garbage;
  }
  topic.Produce("", kBoth);
  topic.Produce(std::string("\x01"), kBoth);
  topic.Produce("39", kBoth);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "39", "marketing"); })) << "it goes on";
  const std::string told = StrCat("6 record(s) cannot be read, the last one in partition 0 at offset ", count + 1);
  EXPECT_TRUE(Comes([&] { return follower.status().note.find(told) != std::string::npos; })) << follower.status().note;
  EXPECT_THAT(follower.status().note, Not(HasSubstr("secret")));
}

TEST_F(TopicFollowerTest, ATopicThatIsWrittenToAllTheTimeIsReadToItsEnd) {
  MockTopic topic(1);
  for (int i = 0; i < 300; ++i) topic.Send(StrCat("u", i), kBoth);
  topic.Flush();
  auto keys = Open();
  std::atomic<bool> isOver = false;
  std::thread producer([&] {
    for (int i = 0; !isOver; ++i) topic.Produce(StrCat("u", i % 300), i % 2 == 0 ? kBoth : kOne);
  });
  const TopicFollower follower(Options(topic), *keys);
  const bool isRead = Comes([&] { return Source(*keys).age.has_value(); });
  // Later records, too.
  const auto next = [&] { return Decode(Source(*keys).state)->partitions.at(0).next; };
  const auto current = [&] { return Decode(Source(*keys).state)->current; };
  const int64_t nextThen = isRead ? next() : 0;
  const int64_t then = isRead ? current() : 0;
  const bool goesOn = isRead && Comes([&] { return next() > nextThen && current() > then; });
  isOver = true;
  producer.join();
  EXPECT_TRUE(isRead) << follower.status().note;
  EXPECT_TRUE(goesOn) << follower.status().note;
}

TEST_F(TopicFollowerTest, AUserInTwoPartitionsHasNoConsent) {
  MockTopic topic(2);
  auto keys = Open();
  const TopicFollower follower(Options(topic), *keys);
  topic.Produce("38", kBoth, 0);
  topic.Produce("39", kBoth, 1);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing") && Consents(*keys, "39", "marketing"); }));
  topic.Produce("38", kBoth, 1);
  ASSERT_TRUE(Comes([&] { return !Consents(*keys, "38", "marketing"); }));
  topic.Produce("38", kBoth, 1);
  topic.Produce("38", kBoth, 0);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 3, 1) && IsRead(*keys, 2, 0); }));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  EXPECT_TRUE(Consents(*keys, "39", "marketing"));
}

TEST_F(TopicFollowerTest, AnErasedUserStaysErased) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  auto keys = Open();
  const TopicFollower follower(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  ASSERT_TRUE(keys->EraseUsers(std::nullopt, std::vector<std::string>{"38"}).ok());
  topic.Produce("38", kBoth);
  topic.Produce("39", kBoth);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "39", "marketing"); }));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  EXPECT_TRUE(Known(*keys, "38")->erased.has_value());
}

TEST_F(TopicFollowerTest, AnotherAgentGoesOnWhereTheFirstOneStopped) {
  MockTopic topic(1);
  for (int i = 0; i < 700; ++i) topic.Send(StrCat("u", i), kBoth);
  topic.Flush();
  auto keys = Open();
  auto others = Open();
  TopicFollowerOptions options = Options(topic);
  options.lease = std::chrono::hours(1);
  auto first = std::make_unique<TopicFollower>(options, *keys);
  ASSERT_TRUE(Comes([&] { return Source(*keys).state.find("consents") != std::string::npos; }));
  const TopicFollower second(options, *others);
  EXPECT_TRUE(Comes([&] { return second.status().note.find("agent-1") != std::string::npos; })) << second.status().note;
  topic.Produce("u1", std::nullopt);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 701); }));
  const keys::Registry::Source before = Source(*keys);
  EXPECT_EQ(before.follower, "agent-1");
  EXPECT_TRUE(Comes([&] { return first->status().isFollowed && first->status().readAt.has_value(); }));
  first->BeginEnd();
  EXPECT_TRUE(Comes([&] { return !first->status().isFollowed && !first->status().behind.has_value(); }));
  EXPECT_TRUE(first->status().readAt.has_value());
  first.reset();  // it gives the lease back
  ASSERT_TRUE(Comes([&] { return Consents(*others, "u2", "marketing"); }));
  topic.Produce("u2", std::nullopt);
  ASSERT_TRUE(Comes([&] { return !Consents(*others, "u2", "marketing"); }));
  const keys::Registry::Source after = Source(*others);
  EXPECT_EQ(after.follower, "agent-2");
  EXPECT_GT(after.term, before.term);
  EXPECT_EQ(after.generation, before.generation) << "nothing is read twice";
  EXPECT_FALSE(Consents(*others, "u1", "marketing"));
  EXPECT_EQ(Known(*others, "u3")->history.size(), 1u);
}

TEST_F(TopicFollowerTest, ReadsAnewWhatIsNotTheTopicThatWasRead) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  auto keys = Open();
  auto follower = std::make_unique<TopicFollower>(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing") && IsRead(*keys, 1); }));
  follower.reset();
  const TopicPosition read = *Decode(Source(*keys).state);
  std::vector<std::pair<const char*, TopicPosition>> others(8, {"", read});
  others[0].first = "another record was the last one";
  ++others[0].second.partitions[0].time;
  others[1].first = "more was read than there is";
  others[1].second.partitions[0] = {100, 99, read.partitions[0].time};
  others[2].first = "another cluster";
  others[2].second.cluster = "another";
  others[3].first = "another topic";
  others[3].second.topic = "another";
  others[4].first = "another number of partitions";
  others[4].second.partitions.resize(2);
  others[5].first = "a long pause";
  others[5].second.current -= absl::ToInt64Milliseconds(absl::Hours(13));
  others[6].first = "ids of another kind";
  others[6].second.as = "int64";
  others[7].first = "a record was left out";
  others[7].second.hasLeftOut = true;
  for (const auto& [what, position] : others) {
    const auto led = keys->LeadSource("clicks", milliseconds(0));
    ASSERT_TRUE(led.ok() && led->has_value());
    const std::string state = Encode(position);
    const keys::Registry::SourceMove move{"clicks",        (*led)->source.term, (*led)->source.generation, state,
                                          milliseconds(0), seconds(3600),       (*led)->source.state};
    // Of a user who is in the former topic only.
    const keys::ConsentRecord former{"40", 0, {{"marketing"}}};
    ASSERT_TRUE(keys->FollowSource(move, (*led)->opening, {&former, 1}, false)->isDone);
    ASSERT_TRUE(Comes([&] { return Consents(*keys, "40", "marketing"); })) << what;
    const TopicFollower anew(Options(topic), *keys);
    ASSERT_TRUE(Comes([&] { return Source(*keys).generation == (*led)->source.generation + 1 && IsRead(*keys, 1); }))
        << what << ": " << anew.status().problem;
    EXPECT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); })) << what;
    EXPECT_FALSE(Consents(*keys, "40", "marketing")) << what;
  }
}

TEST_F(TopicFollowerTest, APartitionOfWhichNoRecordIsKnownIsReadFromItsBeginning) {
  MockTopic topic(2);
  topic.Produce("38", kBoth, 0);
  auto keys = Open();
  auto follower = std::make_unique<TopicFollower>(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing") && IsRead(*keys, 1); }));
  follower.reset();
  const auto led = keys->LeadSource("clicks", milliseconds(0));
  ASSERT_TRUE(led.ok() && led->has_value());
  // What was read of the other partition had no records. It was made anew since.
  TopicPosition position = *Decode((*led)->source.state);
  position.partitions[1] = {2, -1, 0};
  const std::string state = Encode(position);
  const keys::Registry::SourceMove move{"clicks",        (*led)->source.term, (*led)->source.generation, state,
                                        milliseconds(0), seconds(3600),       (*led)->source.state};
  ASSERT_TRUE(keys->FollowSource(move, (*led)->opening, {}, false)->isDone);
  topic.Produce("39", kBoth, 1);
  topic.Produce("40", kBoth, 1);
  topic.Produce("41", kBoth, 1);
  const TopicFollower again(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 3, 1); }));
  for (const char* user : {"38", "39", "40", "41"}) EXPECT_TRUE(Consents(*keys, user, "marketing")) << user;
  EXPECT_EQ(Source(*keys).generation, (*led)->source.generation);
}

TEST_F(TopicFollowerTest, ConsentsCountNoMoreWhenTheTopicIsOutOfReachForTooLong) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  auto keys = Open();
  TopicFollowerOptions options = Options(topic);
  options.staleAfter = seconds(4);
  options.lease = milliseconds(500);
  const TopicFollower follower(options, *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  topic.SetDown(true);
  ASSERT_TRUE(Comes([&] { return !Consents(*keys, "38", "marketing"); }));
  const std::string told = "counts: it was not read to its end for too long";
  ASSERT_TRUE(Comes([&] { return follower.status().problem.message().find(told) != absl::string_view::npos; }))
      << follower.status().problem;
  // A command may take a user over now.
  const keys::UserChange news{"38", "clicks", {users::FactsChange::Kind::kGrant, "news"}};
  EXPECT_EQ(keys->ChangeUsers({&news, 1}, 0)->outcomes.at(0), keys::ChangedUsers::Outcome::kChanged);
  EXPECT_TRUE(Consents(*keys, "38", "news"));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  topic.SetDown(false);
  topic.Produce("39", kBoth);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "39", "marketing"); }));
}

TEST_F(TopicFollowerTest, ACommandWithdrawsAndGrantsNothing) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  auto keys = Open();
  const TopicFollower follower(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  using Kind = users::FactsChange::Kind;
  const std::vector<keys::UserChange> changes = {{"38", "clicks", {Kind::kWithdraw, "marketing"}},
                                                 {"38", "clicks", {Kind::kGrant, "marketing"}}};
  const auto changed = keys->ChangeUsers(changes, 0);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->outcomes[0], keys::ChangedUsers::Outcome::kChanged);
  EXPECT_EQ(changed->outcomes[1], keys::ChangedUsers::Outcome::kFollowed);
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  EXPECT_TRUE(Consents(*keys, "38", "support"));
  // A record from before the withdrawal, which comes late.
  topic.Produce("38", kBoth, 0, absl::Now() - absl::Hours(1));
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 2); }));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  topic.Produce("38", kBoth);
  EXPECT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); })) << "the last writer wins";
}

// The producer's clock is ahead. What is known of the order is that a record was written after a look at the ends.
TEST_F(TopicFollowerTest, AWithdrawalByCommandHoldsAgainstARecordOfTheFuture) {
  MockTopic topic(1);
  auto keys = Open();
  auto follower = std::make_unique<TopicFollower>(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 0); }));
  follower.reset();
  const absl::Time ahead = absl::Now() + absl::Hours(1);
  topic.Produce("38", kBoth, 0, ahead);
  const keys::UserChange withdrawn{"38", "clicks", {users::FactsChange::Kind::kWithdraw, "marketing"}};
  EXPECT_EQ(keys->ChangeUsers({&withdrawn, 1}, 0)->outcomes[0], keys::ChangedUsers::Outcome::kChanged);
  follower = std::make_unique<TopicFollower>(Options(topic), *keys);
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 1) && Consents(*keys, "38", "support"); }))
      << follower->status().note << "\n"
      << Source(*keys).state;
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  for (const char* told : {"1 record(s) had times that had yet to come", "1 consent(s) were not granted"}) {
    EXPECT_TRUE(Comes([&] { return follower->status().note.find(told) != std::string::npos; }))
        << follower->status().note;
  }
  // Another user's, who has withdrawn before a look at the ends that did not have the record.
  const keys::UserChange before{"39", "clicks", {users::FactsChange::Kind::kWithdraw, "marketing"}};
  EXPECT_TRUE(keys->ChangeUsers({&before, 1}, 0).ok());
  const int64_t then = absl::ToUnixMillis(absl::Now());
  ASSERT_TRUE(Comes([&] { return Decode(Source(*keys).state)->current > then; }));
  topic.Produce("39", kBoth, 0, ahead);
  EXPECT_TRUE(Comes([&] { return Consents(*keys, "39", "marketing"); }));
}

TEST_F(TopicFollowerTest, ATimeThatIsTooFarAheadMakesTheRecordUnreadable) {
  MockTopic topic(1);
  auto keys = Open();
  const TopicFollower follower(Options(topic), *keys);
  topic.Produce("38", kBoth, 0, absl::Now() + absl::Hours(23));
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  topic.Produce("38", kBoth, 0, absl::FromUnixMillis(absl::ToUnixMicros(absl::Now())));
  ASSERT_TRUE(Comes([&] { return IsRead(*keys, 2); }));
  EXPECT_FALSE(Consents(*keys, "38", "marketing"));
  const std::string told = "1 record(s) cannot be read, the last one in partition 0 at offset 1";
  EXPECT_TRUE(Comes([&] { return follower.status().note.find(told) != std::string::npos; })) << follower.status().note;
  EXPECT_THAT(follower.status().note, HasSubstr("more than a day ahead"));
  topic.Produce("38", kOne);
  EXPECT_TRUE(Comes([&] { return Consents(*keys, "38", "support"); })) << "the next record counts";
}

TEST_F(TopicFollowerTest, TheLeasePacesAgentsOfWhichNoneCanBegin) {
  auto keys = Open();
  auto others = Open();
  TopicFollowerOptions options;
  {
    const MockTopic gone(1);
    options = Options(gone);
  }
  options.lease = std::chrono::hours(1);
  const TopicFollower first(options, *keys);
  ASSERT_TRUE(Comes([&] { return !first.status().problem.ok(); }));
  const TopicFollower second(options, *others);
  ASSERT_TRUE(Comes([&] { return !second.status().problem.ok(); }));
  EXPECT_EQ(Source(*keys).term, 1);
}

TEST_F(TopicFollowerTest, ReadsAnewWhenACommandAsksForIt) {
  MockTopic topic(1);
  topic.Produce("38", kBoth);
  auto keys = Open();
  auto others = Open();
  TopicFollowerOptions options = Options(topic);
  options.lease = std::chrono::hours(1);
  const TopicFollower follower(options, *keys);
  ASSERT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  const int64_t generation = Source(*keys).generation;
  // Of a user who is in no record.
  const auto led = others->LeadSource("clicks", milliseconds(0));
  ASSERT_TRUE(led.ok() && led->has_value());
  const keys::Registry::SourceMove move{"clicks",        (*led)->source.term, generation,          (*led)->source.state,
                                        milliseconds(0), seconds(3600),       (*led)->source.state};
  const keys::ConsentRecord former{"40", 0, {{"marketing"}}};
  ASSERT_TRUE(others->FollowSource(move, (*led)->opening, {&former, 1}, false)->isDone);
  const auto asked = others->RereadSource("clicks");  // by another agent than the one that follows
  ASSERT_TRUE(asked.ok()) << asked.status();
  ASSERT_TRUE(Comes([&] { return Source(*keys).generation == generation + 1 && IsRead(*keys, 1); }))
      << follower.status().note;
  EXPECT_TRUE(Comes([&] { return Consents(*keys, "38", "marketing"); }));
  EXPECT_FALSE(Consents(*keys, "40", "marketing"));
}

TEST_F(TopicFollowerTest, AProblemSaysWhyNothingCounts) {
  auto keys = Open();
  TopicFollowerOptions options;
  {
    const MockTopic gone(1);
    options = Options(gone);
  }
  options.lease = milliseconds(200);
  const TopicFollower follower(options, *keys);
  ASSERT_TRUE(Comes([&] { return !follower.status().problem.ok(); }));
  EXPECT_THAT(std::string(follower.status().problem.message()),
              testing::AllOf(HasSubstr("no consent in keyspace clicks"), HasSubstr("do not answer")));
}

TEST(TopicPositionTest, IsReadAsItWasWritten) {
  const TopicPosition position{"consents", "text", "cluster", 7, {{5, 4, 3}, {0, -1, 0}}, {2, 1, 9, "it is not JSON"}};
  EXPECT_EQ(Decode(Encode(position)), position);
  for (const char* text : {"", "{}", "[]", "null", R"({"topic":"t"})"}) EXPECT_EQ(Decode(text), std::nullopt) << text;
}

}  // namespace
}  // namespace kveil::consents
