// Batches that wait for very many keys, or for keys that no waiting brings.
#include "guard/worker/fetch_needs.h"

#include <gtest/gtest.h>

#include "absl/container/flat_hash_set.h"
#include "base/mutex.h"
#include "guard/apis/share_guard.h"
#include "produce_fixture.h"

namespace kveil::guard {
namespace {

using Clock = std::chrono::steady_clock;
using State = keys::KeyCache::State;
using observe::RefuseReason;

class ManyKeysTest : public ProduceGuardTest {
 protected:
  static std::vector<TestRecord> RecordsOf(size_t users) {
    std::vector<TestRecord> records;
    for (size_t i = 0; i < users; ++i) records.push_back(ClickOf(StrCat("user-", i)));
    return records;
  }
  size_t CountCached(const std::vector<crypto::KeyId>& ids, State state) {
    return static_cast<size_t>(std::count_if(
        ids.begin(), ids.end(), [&](const auto& id) { return scratch_->keyCache.FindById(id).state == state; }));
  }
  absl::Status Fetch(Needs needs, Clock::time_point deadline) {
    return Await(FetchNeeds(*loop_, *scratch_, connection_.workload, std::move(needs), deadline));
  }
  bool EnterRoom(const std::string& share) {
    return Await(scratch_->keyRoom.Enter(*loop_, share, 1, Clock::time_point::min()));
  }
  void LeaveRoom(const std::string& share) { Await(Leave(share)); }

 private:
  io::Task<bool> Leave(const std::string& share) {
    scratch_->keyRoom.Leave(share, 1);
    co_return true;
  }
};

TEST_F(ManyKeysTest, ABatchOfMoreNewUsersThanOneFetchMayAskForIsSealed) {
  const size_t users = 3 * keys::kMostKeysOfAFetch + 7;
  shared_->topicLimits.Learn(connection_, "clicks", TopicLimits::kDefault, TopicLimits::Clock::now());
  shared_->limits.keyTimeout = std::chrono::seconds(20);
  const ByteBuffer batch = ProducedBatch(RecordsOf(users));
  const RequestResult result = Produce({Topic("clicks", {{0, batch}})});
  ASSERT_TRUE(result.rewritten());
  const auto forwarded = WrittenRequest<ProduceRequest>(result.written, 9);
  const ReadBatch opened = Opened(*forwarded.topicData.at(0).partitionData.at(0).records);
  ASSERT_EQ(opened.records.size(), users);
  EXPECT_EQ(opened.records.back().value, Click(StrCat("user-", users - 1)));
  EXPECT_TRUE(EnterRoom(connection_.workload.share)) << "it still holds its room";
}

// Whoever forged one id of a batch has stopped its reader already: the rest is not looked for.
TEST_F(ManyKeysTest, MadeUpIdsCostOneFetchHoweverManyThereAre) {
  std::vector<crypto::KeyId> ids(5 * keys::kMostKeysOfAFetch);
  for (crypto::KeyId& id : ids) id = crypto::ComputeKeyId(crypto::SecretKey::Random());
  Needs needs;
  needs.keys.ids.assign(ids.begin(), ids.end());
  EXPECT_TRUE(Fetch(std::move(needs), Clock::now() + std::chrono::seconds(20)).ok());
  EXPECT_EQ(CountCached(ids, State::kUnknown), keys::kMostKeysOfAFetch);
}

TEST_F(ManyKeysTest, WaitsOnlyUntilTheDeadlineForAnotherBatchOfItsWorkload) {
  const std::string share = connection_.workload.share;
  ASSERT_TRUE(EnterRoom(share));
  connection_.workload.cgroupPath = share + "/of/its/own";
  const ByteBuffer batch = ProducedBatch(RecordsOf(keys::kMostKeysOfAFetch + 1));
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, batch}})})), 19);
  LeaveRoom(share);
  shared_->limits.keyTimeout = std::chrono::seconds(20);
  EXPECT_EQ(CodeOf(Produce({Topic("clicks", {{0, batch}})})), 0);
}

// It could make as many as it likes.
TEST_F(ManyKeysTest, CgroupsBelowAWorkloadHaveOneShareOfTheKeyServiceTogether) {
  keys::KeyServiceOptions options = Options();
  options.newUsersPerSecond = 1;  // and so ten at once
  scratch_.reset();
  service_.reset();
  service_ = Open(std::move(options));
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  const auto produce = [&](const identity::Workload& workload, std::string_view user) {
    connection_.workload = workload;
    guard_ = NewConnection();
    std::vector<TestRecord> records;
    for (int i = 0; i < 7; ++i) records.push_back(ClickOf(StrCat(user, i)));
    return CodeOf(Produce({Topic("clicks", {{0, ProducedBatch(std::move(records))}})}));
  };
  identity::Workload one, two, other;
  one.cgroupPath = "/user.slice/user-1000.slice/user@1000.service/app.slice/one.service";
  one.unit = "user@1000.service/one.service";
  two.cgroupPath = "/user.slice/user-1000.slice/user@1000.service/app.slice/two.service";
  two.unit = "user@1000.service/two.service";
  one.share = two.share = "/user.slice/user-1000.slice/user@1000.service";
  other.cgroupPath = other.share = "/system.slice/other.service";
  other.unit = "other.service";
  EXPECT_EQ(produce(one, "anna"), 0);
  EXPECT_EQ(produce(two, "bert"), 19) << "four users more than it may have";
  EXPECT_EQ(produce(other, "carl"), 0);
}

TEST_F(ManyKeysTest, ABatchOfMoreUsersThanItMayHaveIsRefusedForGood) {
  shared_->limits.batchUsers = 3;
  const auto codeOf = [&](std::vector<TestRecord> records) {
    return CodeOf(Produce({Topic("clicks", {{0, ProducedBatch(std::move(records))}})}));
  };
  EXPECT_EQ(codeOf(RecordsOf(4)), 10);
  EXPECT_FALSE(service_->Erase(std::nullopt, "user-0").ok()) << "a key was made before it was refused";
  // Records of the same users count once, and null values not at all: they are not sealed.
  std::vector<TestRecord> many = RecordsOf(3);
  for (const TestRecord& record : RecordsOf(3)) many.push_back(record);
  for (TestRecord& record : RecordsOf(3)) {
    record.value = std::nullopt;
    many.push_back(record);
  }
  EXPECT_EQ(codeOf(many), 0);
  // What the cache holds changes nothing about it.
  EXPECT_EQ(codeOf({ClickOf("user-3")}), 0);
  EXPECT_EQ(codeOf(RecordsOf(4)), 10);
}

// It may have been sealed on another node, or before the limit was lowered.
TEST_F(ManyKeysTest, AReaderGetsABatchOfMoreUsersThanMayBeSealedNow) {
  const size_t users = 2 * keys::kMostKeysOfAFetch;
  const ByteBuffer sealed = Sealed(RecordsOf(users));
  Advance(std::chrono::minutes(5));  // what sealing has cached is too old now
  shared_->limits.batchUsers = 1;
  shared_->limits.keyTimeout = std::chrono::seconds(20);
  RecordsOpener opener(*shared_, *scratch_, *loop_, connection_);
  RecordsOpener::Partition partition;
  partition.records = sealed;
  partition.topicName = "clicks";
  partition.topic = policy_->Find("clicks");
  RecordsOpener::Response response;
  response.keyDeadline = Clock::now() + shared_->limits.keyTimeout;
  proxy::BufferShelf shelf;
  proxy::Arena arena(shelf, budget_);
  const RecordsOpener::Result opened = Await(opener.Open(partition, response, arena));
  EXPECT_FALSE(opened.stop.has_value());
  const ReadBatch batch = Read(opened.records);
  ASSERT_EQ(batch.records.size(), users);
  EXPECT_EQ(batch.records.back().value, Click(StrCat("user-", users - 1)));
}

TEST_F(ManyKeysTest, AReaderStopsBeforeABatchOfMoreKeysThanAWorkerCanHave) {
  const ByteBuffer sealed = Sealed(RecordsOf(4));
  Advance(std::chrono::minutes(5));
  OpenTask task = TaskToOpen();
  task.keysLimit = 3;
  const OpenOutcome stopped = OpenTo(task, sealed, *std::make_unique<ByteBuffer>());
  EXPECT_EQ(stopped.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(stopped.reason, RefuseReason::kTooLarge);
  task.keysLimit = 4;
  EXPECT_EQ(Opened(task, sealed).records.size(), 4u);
}

// In the place of a key service: has a key of every id, but under KEKs that are away.
class KeksAway : public keys::KeySource {
 public:
  explicit KeksAway(const keys::KeyService& service) : service_(service) {}

  void Fetch(keys::Misses misses, std::string_view, absl::AnyInvocable<void(keys::FetchResult)> done) override {
    keys::FetchResult result;
    result.generation = revocations().generation();
    result.unwrapped = options().steadyNow();
    {
      const MutexLock lock(mutex_);
      ++fetches_;
      for (const keys::KeyRef& ref : misses.ids) {
        ++read_[*ref.kek];
        keys::FetchResult::ById& found = result.ids.emplace_back();
        found.id = ref.id;
        found.kek = ref.kek;
        found.state = keys::FetchResult::IdState::kReady;
        if (erased_.contains(ref.id)) {
          found.state = keys::FetchResult::IdState::kErased;
        } else if (away_.contains(*ref.kek)) {
          result.ids.pop_back();
          result.status = absl::UnavailableError("its KEK is away");
        } else {
          found.key.key = crypto::SecretKey::Random();
          found.key.kek = keys::KekUse{*ref.kek, result.unwrapped};
        }
      }
    }
    done(std::move(result));
  }
  crypto::KeyIdMask NewMask() const override { return service_.NewMask(); }
  const keys::KeyServiceOptions& options() const override { return service_.options(); }
  const keys::Revocations& revocations() const override { return service_.revocations(); }

  void IsAway(const crypto::KeyId& kek, bool isAway) {
    const MutexLock lock(mutex_);
    if (isAway) {
      away_.insert(kek);
    } else {
      away_.erase(kek);
    }
  }
  void IsErased(const crypto::KeyId& id) {
    const MutexLock lock(mutex_);
    erased_.insert(id);
  }
  size_t fetches() {
    const MutexLock lock(mutex_);
    return fetches_;
  }
  // Rows of keys under the KEK.
  size_t read(const crypto::KeyId& kek) {
    const MutexLock lock(mutex_);
    return read_[kek];
  }

 private:
  const keys::KeyService& service_;
  Mutex mutex_;
  size_t fetches_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<crypto::KeyId, size_t> read_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<crypto::KeyId> away_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<crypto::KeyId> erased_ ABSL_GUARDED_BY(mutex_);
};

class KeksAwayTest : public ManyKeysTest {
 protected:
  KeksAwayTest() { scratch_ = std::make_unique<WorkerScratch>(source_); }
  // What is still under way needs the source.
  ~KeksAwayTest() override {
    EXPECT_TRUE(Eventually([&] { return begun_ == ended_; }));
  }

  static crypto::KeyId NewId() { return crypto::ComputeKeyId(crypto::SecretKey::Random()); }
  Needs UsersUnder(const crypto::KeyId& kek) const {
    Needs needs;
    for (size_t i = 0; i < kUsers; ++i) needs.keys.ids.emplace_back(NewId(), kek);
    return needs;
  }
  static Clock::time_point Soon() { return Clock::now() + std::chrono::seconds(20); }
  void Begin(Needs needs) {
    ++begun_;
    loop_->Post([this, needs = std::move(needs)]() mutable { loop_->Spawn(FetchToEnd(std::move(needs))); });
  }
  int ended() const { return ended_; }

  static constexpr size_t kUsers = keys::kMostKeysOfAFetch + 50;
  const crypto::KeyId one_ = NewId(), two_ = NewId();
  KeksAway source_{*service_};

 private:
  io::Task<void> FetchToEnd(Needs needs) {
    auto fetching = FetchNeeds(*loop_, *scratch_, connection_.workload, std::move(needs), Soon());
    const absl::Status fetched = co_await std::move(fetching);
    EXPECT_TRUE(fetched.ok()) << fetched;
    ++ended_;
  }

  std::atomic<int> begun_{0}, ended_{0};
};

TEST_F(KeksAwayTest, HoldUpNoBatchUnderOthers) {
  source_.IsAway(one_, true);
  Begin(UsersUnder(one_));
  Begin(UsersUnder(one_));
  EXPECT_TRUE(Eventually([&] { return source_.fetches() > 1; }));
  const auto begun = Clock::now();
  EXPECT_TRUE(Fetch(UsersUnder(two_), Soon()).ok());
  EXPECT_LT(Clock::now() - begun, std::chrono::seconds(10)) << "the others wait for 20";
  EXPECT_EQ(ended(), 0);
  source_.IsAway(one_, false);
  EXPECT_TRUE(Eventually([&] { return ended() == 2; }));
  EXPECT_TRUE(EnterRoom(connection_.workload.share)) << "one still holds its room";
}

TEST_F(KeksAwayTest, HaveFewRowsReadHoweverManyUsersWait) {
  source_.IsAway(one_, true);
  Needs needs = UsersUnder(one_);
  source_.IsErased(needs.keys.ids.front().id);
  source_.IsErased(needs.keys.ids.back().id);
  Begin(std::move(needs));
  EXPECT_TRUE(Eventually([&] { return source_.fetches() >= 6; }));
  EXPECT_LT(source_.read(one_), 3 * keys::kMostKeysOfAFetch);
  const size_t fetches = source_.fetches();
  const size_t before = source_.read(one_);
  EXPECT_TRUE(Eventually([&] { return source_.fetches() >= fetches + 3; }));
  EXPECT_LE(source_.read(one_) - before, source_.fetches() - fetches) << "one of each KEK tells as much as all";
  source_.IsAway(one_, false);
  EXPECT_TRUE(Eventually([&] { return ended() == 1; }));
}

TEST_F(KeksAwayTest, StopNoReaderOfUsersWhoAreErased) {
  source_.IsAway(one_, true);
  Needs needs = UsersUnder(one_);
  for (const keys::KeyRef& ref : needs.keys.ids) source_.IsErased(ref.id);
  EXPECT_TRUE(Fetch(std::move(needs), Soon()).ok());
  EXPECT_EQ(source_.fetches(), 2u);
}

class DamagedKeysTest : public InterceptorTest {
 protected:
  DamagedKeysTest() {
    UseTopics(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [{"any": true}]})");
    anna_ = Sealed({ClickOf("anna")});  // hers is the first key
    bert_ = Sealed({ClickOf("bert")});
    Advance(std::chrono::minutes(5));  // what the worker has cached is too old now
    damaged_ = std::make_unique<DamagedKey>(registryFile());
    shared_->limits.keyTimeout = std::chrono::hours(1);  // it must not be waited for
  }

  RecordsOpener::Result OpenRecords(const ByteBuffer& records) {
    RecordsOpener opener(*shared_, *scratch_, *loop_, connection_);
    RecordsOpener::Partition partition;
    partition.records = records;
    partition.topicName = "clicks";
    partition.topic = Topic();
    RecordsOpener::Response response;
    response.keyDeadline = Clock::now() + shared_->limits.keyTimeout;
    proxy::Arena arena(shelf_, budget_);
    return Await(opener.Open(partition, response, arena));
  }

  proxy::BufferShelf shelf_{0};
  proxy::MemoryBudget budget_{size_t{1} << 30};
  ByteBuffer anna_;
  ByteBuffer bert_;
  std::unique_ptr<DamagedKey> damaged_;
};

TEST_F(DamagedKeysTest, StopAReaderAtOnceAndThatIsNoOutage) {
  const RecordsOpener::Result stopped = OpenRecords(anna_);
  EXPECT_EQ(stopped.stop, RefuseReason::kKeysUnavailable);
  EXPECT_TRUE(stopped.missing.empty()) << "a share group would wait for it";
  EXPECT_FALSE(OpenRecords(bert_).stop.has_value());
  EXPECT_NE(std::string(service_->health().message()).find("damaged"), std::string::npos);
}

TEST_F(DamagedKeysTest, LeaveAShareGroupItsTopic) {
  shared_->topicNames.Learn(Id(1), "clicks", connection_);
  ShareGuard guard(Context());
  kafka::ShareFetchRequest request;
  request.shareSessionEpoch = 0;
  request.maxBytes = 1 << 20;
  request.topics.emplace_back().topicId = Id(1);
  EXPECT_TRUE(Request(guard, 2, request).forwarded());
  kafka::ShareFetchResponse response;
  auto& topic = response.responses.emplace_back();
  topic.topicId = Id(1);
  topic.partitions.emplace_back().records = anna_;
  EXPECT_TRUE(Response(guard, 2, response).rewritten());
  EXPECT_FALSE(shared_->keyOutages.any());
  EXPECT_TRUE(Request(guard, 2, request).forwarded());
}

TEST(KeyOutagesTest, AreOfOneTopicOfOneClusterAndEnd) {
  KeyOutages outages;
  KeyOutages::Clock::time_point now{};
  Needs missing;
  missing.keys.ids.resize(1000);
  outages.Began({"main", "clicks"}, std::move(missing), now);
  EXPECT_TRUE(outages.any());
  EXPECT_FALSE(outages.Find({"other", "clicks"}, now).has_value());
  EXPECT_FALSE(outages.Find({"main", "orders"}, now).has_value());
  ASSERT_TRUE(outages.Find({"main", "clicks"}, now).has_value());
  EXPECT_LE(outages.Find({"main", "clicks"}, now)->keys.size(), keys::kMostKeysOfAFetch);
  outages.Ended({"other", "clicks"});
  EXPECT_TRUE(outages.Find({"main", "clicks"}, now).has_value());
  outages.Ended({"main", "clicks"});
  EXPECT_FALSE(outages.any());
}

TEST(KeyOutagesTest, AreTriedWithOneKeyOfEachKek) {
  KeyOutages outages;
  const KeyOutages::Clock::time_point now{};
  const auto newId = [] { return crypto::ComputeKeyId(crypto::SecretKey::Random()); };
  Needs missing;
  for (const crypto::KeyId& kek : {newId(), newId()}) {
    for (int i = 0; i < 10; ++i) missing.keys.ids.emplace_back(newId(), kek);
    for (int i = 0; i < 10; ++i) {
      missing.keys.scopes.emplace_back(
          keys::Scope::kUser, keys::KeyspaceUnder("people", {"p", StrCat(int{kek.bytes[0]}, kek.bytes[1])}), StrCat(i));
    }
  }
  missing.keys.ids.emplace_back(newId());
  outages.Began({"main", "clicks"}, missing, now);
  const Needs tried = *outages.Find({"main", "clicks"}, now);
  EXPECT_EQ(tried.keys.ids.size(), 3u);
  EXPECT_EQ(tried.keys.scopes.size(), 2u);
}

TEST(KeyOutagesTest, ThatNobodyAsksAboutAnyMoreAreForgotten) {
  KeyOutages outages;
  KeyOutages::Clock::time_point now{};
  outages.Began({"main", "clicks"}, {}, now);
  now += std::chrono::minutes(11);
  EXPECT_FALSE(outages.Find({"main", "orders"}, now).has_value());
  EXPECT_FALSE(outages.any());
}

}  // namespace
}  // namespace kveil::guard
