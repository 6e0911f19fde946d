// The stages of a record, each by itself.
#include "guard/stages/stages.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using observe::DropReason;
using observe::RefuseReason;
using State = Owner::State;

// A record as it lies in a batch.
class LaidOut {
 public:
  explicit LaidOut(const TestRecord& record) : bytes_(Padded(RecordsBytes({record}))) {
    kafka::RecordReader reader(bytes_, 1);
    EXPECT_TRUE(reader.Next(view)) << reader.status();
  }
  kafka::RecordView view;

 private:
  const ByteBuffer bytes_;
};

TestRecord WithHeaders(std::vector<std::pair<std::string, Text>> headers) {
  TestRecord record = Record("k", "value");
  record.headers = std::move(headers);
  return record;
}

constexpr char kHeaderOfNoEnvelope[] = "not an envelope";

class ValidateStageTest : public testing::Test {
 protected:
  // Why the record would be refused, and why it would stop a reader; kOther where it passes.
  static RefuseReason Produced(const kafka::RecordView& record) {
    const auto problem = ValidateProduced().Of(record, 0);
    return problem.has_value() ? problem->reason : RefuseReason::kOther;
  }
  RefuseReason Fetched(const kafka::RecordView& record) {
    const auto problem = ValidateFetched(scratch_, 0).Of(record, envelope_);
    return problem.has_value() ? problem->reason : RefuseReason::kOther;
  }

  ByteBuffer scratch_;
  Envelope envelope_;
};

TEST_F(ValidateStageTest, TakesARecordForPlaintextInBothDirectionsOrInNone) {
  for (const std::string name : {"trace", "Kveil", "kveil-hidden", "kvei", ""}) {
    const LaidOut record(WithHeaders({{"trace", "1"}, {name, kHeaderOfNoEnvelope}}));
    EXPECT_EQ(Produced(record.view), RefuseReason::kOther) << name;
    EXPECT_EQ(Fetched(record.view), RefuseReason::kOther) << name;
    EXPECT_FALSE(envelope_.isThere) << name;
  }
  for (const size_t place : {0, 1, 2}) {
    std::vector<std::pair<std::string, Text>> headers = {{"trace", "1"}, {"trace", "2"}};
    headers.insert(headers.begin() + static_cast<ptrdiff_t>(place), {"kveil", kHeaderOfNoEnvelope});
    const LaidOut record(WithHeaders(headers));
    EXPECT_EQ(Produced(record.view), RefuseReason::kAlreadySealed) << place;
    EXPECT_EQ(Fetched(record.view), RefuseReason::kTampered) << place;
  }
}

TEST_F(ValidateStageTest, FindsEveryEnvelopeHeaderAndKeepsTheFirst) {
  const LaidOut record(
      WithHeaders({{"a", "1"}, {"kveil", "2"}, {"b", "3"}, {"kveil", "4"}, {"kveil", "5"}, {"c", "6"}}));
  const EnvelopeHeaders found = FindEnvelopeHeaders(record.view);
  EXPECT_EQ(found.count, 3);
  EXPECT_EQ(found.first.key, "kveil");
  EXPECT_EQ(OwnedText(found.first.value), "2");
  EXPECT_TRUE(found.wellFormed);
}

TEST_F(ValidateStageTest, PassesNoMalformedHeadersInEitherDirection) {
  LaidOut record(WithHeaders({{"trace", "1"}, {"trace", "2"}}));
  record.view.headers = record.view.headers.first(record.view.headers.size() - 1);
  EXPECT_EQ(Produced(record.view), RefuseReason::kMalformed);
  EXPECT_EQ(Fetched(record.view), RefuseReason::kTampered);
  LaidOut sealed(WithHeaders({{"kveil", "1"}, {"trace", "2"}}));
  sealed.view.headers = sealed.view.headers.first(sealed.view.headers.size() - 1);
  EXPECT_EQ(Produced(sealed.view), RefuseReason::kAlreadySealed) << "it says so as far as it can be read";
  EXPECT_EQ(Fetched(sealed.view), RefuseReason::kTampered);
}

class IdentifyStageTest : public BatchTest {
 protected:
  IdentifyStageTest() { UseUserKeys(); }

  std::unique_ptr<IdentifyProduced> Produced() {
    return std::make_unique<IdentifyProduced>(*Topic()->seal, "main", "clicks", marks_, *scratch_, needs_);
  }
  static Owner OwnerOf(IdentifyProduced& stage, const TestRecord& record) {
    const LaidOut laidOut(record);
    ProducedRecord produced;
    produced.view = laidOut.view;
    stage.Of(absl::MakeSpan(&produced, 1));
    EXPECT_FALSE(produced.problem.has_value());
    return produced.owner;
  }
  static State StateOf(IdentifyProduced& stage, const TestRecord& record) { return OwnerOf(stage, record).state; }
  keys::ScopeName NameOf(std::string_view user) { return {keys::Scope::kUser, Topic()->seal->keyspace, user}; }
  keys::CachedKey& CachedKeyOf(std::string_view user) { return *scratch_->keyCache.FindForSealing(NameOf(user)); }
  crypto::KeyId IdOf(std::string_view user) { return CachedKeyOf(user).id; }
  Needs Needing(std::string_view user) {
    Needs needs;
    needs.keys.scopes.emplace_back(NameOf(user));
    return needs;
  }

  const BatchMarks marks_{.salt = crypto::RandomSalt(), .period = 7};
  Needs needs_;
};

TEST_F(IdentifyStageTest, ANullValueIsNobodysAndNeedsNoKey) {
  for (const char* const more : {"user", "topic"}) {
    more == std::string("user") ? UseUserKeys() : UseTopicKey();
    EXPECT_EQ(StateOf(*Produced(), Record("k", std::nullopt)), State::kNobody);
    EXPECT_TRUE(needs_.empty());
  }
}

TEST_F(IdentifyStageTest, TheKeyOfATopicIsThatUnderItsKek) {
  const auto keyspaceFor = [this](const std::string& seal) {
    UsePolicy(R"({"name": "clicks", "read": [], "seal": {)" + seal + "}}");
    needs_ = {};
    EXPECT_EQ(StateOf(*Produced(), ClickOf("anna")), State::kPending);
    EXPECT_EQ(needs_.keys.scopes.size(), 1u);
    return needs_.keys.scopes.at(0);
  };
  const auto topic = keyspaceFor(R"("scope": "topic", "kek": {"provider": "p", "key": "k-${cluster}-${topic}"})");
  EXPECT_EQ(topic.view(),
            (keys::ScopeName{keys::Scope::kTopic, keys::KeyspaceUnder("main", {"p", "k-main-clicks"}), "clicks"}));
  const auto cluster = keyspaceFor(R"("scope": "cluster", "kek": {"provider": "p", "key": "k"})");
  EXPECT_EQ(cluster.view(), (keys::ScopeName{keys::Scope::kCluster, keys::KeyspaceUnder("", {"p", "k"}), "main"}));
  const auto user = keyspaceFor(
      R"("scope": "user", "user": {"value": "/user"}, "keyspace": "people", "kek": {"provider": "p", "key": "k"})");
  EXPECT_EQ(user.view(), (keys::ScopeName{keys::Scope::kUser, keys::KeyspaceUnder("people", {"p", "k"}), "anna"}));
  EXPECT_EQ(keyspaceFor(R"("scope": "topic")").view(), (keys::ScopeName{keys::Scope::kTopic, "main", "clicks"}));
}

TEST_F(IdentifyStageTest, NotesEachKeyThatIsNotThereOnceAndGoesOn) {
  const auto stage = Produced();
  for (const char* const user : {"anna", "bert", "anna"}) EXPECT_EQ(StateOf(*stage, ClickOf(user)), State::kPending);
  EXPECT_EQ(needs_.keys.scopes.size(), 2u);
  FetchMissing(std::exchange(needs_, {}));
  scratch_->keyCache.BeginPass();
  const auto again = Produced();
  for (const char* const user : {"anna", "bert", "anna"}) EXPECT_EQ(StateOf(*again, ClickOf(user)), State::kPresent);
  EXPECT_TRUE(needs_.empty());
  EXPECT_EQ(scratch_->keyCache.keysUsed(), 2u);
}

TEST_F(IdentifyStageTest, OfATopicsKeyLooksIntoNoRecord) {
  UseTopicKey();
  EXPECT_EQ(StateOf(*Produced(), Record("k", "no JSON")), State::kPending);
  FetchMissing(std::exchange(needs_, {}));
  scratch_->keyCache.BeginPass();
  const auto stage = Produced();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(StateOf(*stage, Record("k", "no JSON")), State::kPresent);
  EXPECT_EQ(scratch_->keyCache.keysUsed(), 1u);
}

TEST_F(IdentifyStageTest, AgreesInBothDirectionsOnWhoseRecordItIs) {
  const ByteBuffer produced = ProducedBatch({ClickOf("anna"), ClickOf("bert"), Record("t", std::nullopt)});
  const ReadBatch sealed = Read(Sealed(produced));
  IdentifyFetched stage(10, *scratch_, needs_);
  ByteBuffer scratch;
  ValidateFetched validate(scratch, 2);
  std::deque<LaidOut> laidOut;
  std::vector<FetchedRecord> records(3);
  for (size_t i = 0; i < 3; ++i) {
    laidOut.emplace_back(sealed.records.at(i));
    records[i].view = laidOut[i].view;
    ASSERT_FALSE(validate.Of(records[i].view, records[i].envelope).has_value());
  }
  stage.Of(absl::MakeSpan(records));
  for (const FetchedRecord& record : records) EXPECT_FALSE(record.problem.has_value());
  EXPECT_EQ(records[0].owner.key->id, IdOf("anna"));
  EXPECT_EQ(records[1].owner.key->id, IdOf("bert"));
  EXPECT_EQ(records[2].owner.state, State::kNobody);
}

TEST_F(IdentifyStageTest, TellsEachRecordOfManyItsOwnOwner) {
  const std::vector<std::string> names = {"anna", "\\u0062ert", "", "carl", "anna", "no user"};  // one is spelled anew
  std::deque<LaidOut> laidOut;
  std::vector<ProducedRecord> records(kMostIdentifiedAtOnce);
  for (size_t i = 0; i < records.size(); ++i) {
    const std::string& name = names[i % names.size()];
    laidOut.emplace_back(name.empty()        ? Record("k", std::nullopt)
                         : name == "no user" ? Record("k", "{}")
                                             : ClickOf(name));
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < records.size(); ++i) {
      records[i] = ProducedRecord();
      records[i].view = laidOut[i].view;
    }
    Produced()->Of(absl::MakeSpan(records));
    FetchMissing(std::exchange(needs_, {}));
  }
  const auto user = [](const std::string& name) { return name == "\\u0062ert" ? "bert" : name; };
  for (size_t i = 0; i < records.size(); ++i) {
    const std::string& name = names[i % names.size()];
    EXPECT_EQ(records[i].problem.has_value(), name == "no user") << i;
    ASSERT_EQ(records[i].owner.key != nullptr, !name.empty() && name != "no user") << i;
    if (records[i].owner.key == nullptr) continue;
    EXPECT_EQ(records[i].owner.key->id, IdOf(user(name))) << i;
    EXPECT_EQ(scratch_->keyCache.mask().Unmask(records[i].owner.idInHeader, marks_.salt), IdOf(user(name))) << i;
  }
}

TEST_F(IdentifyStageTest, TakesABatchKeyForAUserWithVeryManyRecords) {
  FetchMissing(Needing("anna"));
  const auto stage = Produced();
  EXPECT_EQ(OwnerOf(*stage, ClickOf("anna")).suite, crypto::Suite::kPeriodKey);
  CachedKeyOf("anna").sealed = keys::KeyCache::kMostUnderAPeriodKey - 1;
  EXPECT_EQ(OwnerOf(*stage, ClickOf("anna")).suite, crypto::Suite::kPeriodKey);
  EXPECT_EQ(OwnerOf(*stage, ClickOf("anna")).suite, crypto::Suite::kBatchKey);
  Advance(std::chrono::seconds(1 << 14));
  FetchMissing(Needing("anna"));
  EXPECT_EQ(OwnerOf(*stage, ClickOf("anna")).suite, crypto::Suite::kPeriodKey);
}

TEST_F(IdentifyStageTest, TakesABatchKeyWhereManyShareTheKey) {
  UseTopicKey();
  StateOf(*Produced(), Record("k", "value"));
  FetchMissing(std::exchange(needs_, {}));
  const Owner owner = OwnerOf(*Produced(), Record("k", "value"));
  EXPECT_EQ(owner.suite, crypto::Suite::kBatchKey);
  EXPECT_EQ(owner.idInHeader, owner.key->id);
}

TEST_F(IdentifyStageTest, CountsTheUsersThatItFinds) {
  std::vector<TestRecord> records = {ClickOf("anna"), Record("k", std::nullopt), ClickOf("bert"), ClickOf("anna"),
                                     Record("k", "nobody's")};
  const ByteBuffer bytes = Padded(RecordsBytes(records));
  const auto hasMoreThan = [&](size_t limit) {
    return HasMoreUsersThan(limit, *Topic()->seal, bytes, static_cast<int32_t>(records.size()), scratch_->userFinder);
  };
  EXPECT_TRUE(hasMoreThan(1));
  EXPECT_FALSE(hasMoreThan(2));
}

class AuthorizeStageTest : public BatchTest {
 protected:
  Decision Decide(State state, const Text& value, Masking masking) const {
    Owner owner;
    owner.state = state;
    return AuthorizeFetched(*Topic(), masking).Of(LaidOut(Record("k", value)).view, owner);
  }
  static constexpr Masking kNone{}, kAll{.erased = true, .plaintext = true};
};

TEST_F(AuthorizeStageTest, HidesOrMasksRecordsOfErasedUsers) {
  UseUserKeys();
  EXPECT_EQ(Decide(State::kErased, "sealed", kNone).verdict, Verdict::kHide);
  EXPECT_EQ(Decide(State::kErased, "sealed", {.plaintext = true}).verdict, Verdict::kHide);
  EXPECT_EQ(Decide(State::kErased, "sealed", kAll).verdict, Verdict::kMask);
  EXPECT_EQ(Decide(State::kErased, "sealed", kAll).why, DropReason::kErased);
  EXPECT_EQ(Decide(State::kPresent, "sealed", kAll).verdict, Verdict::kPass);
}

TEST_F(AuthorizeStageTest, PassesPlaintextUnlessThePolicyDropsIt) {
  UseTopicKey();
  EXPECT_EQ(Decide(State::kNobody, "clear", kAll).verdict, Verdict::kPass);
  UseTopicKey(R"(, "plaintext": "drop")");
  EXPECT_EQ(Decide(State::kNobody, "clear", kNone).verdict, Verdict::kHide);
  EXPECT_EQ(Decide(State::kNobody, "clear", {.erased = true}).verdict, Verdict::kHide);
  EXPECT_EQ(Decide(State::kNobody, "clear", kAll).verdict, Verdict::kMask);
  EXPECT_EQ(Decide(State::kNobody, "clear", kAll).why, DropReason::kPlaintext);
  EXPECT_EQ(Decide(State::kNobody, std::nullopt, kNone).verdict, Verdict::kPass) << "there is no value to hide";
  EXPECT_EQ(Decide(State::kPresent, "sealed", kNone).verdict, Verdict::kPass);
}

TEST_F(AuthorizeStageTest, StopsAtAnOldMessageThatItCouldNotMask) {
  UseTopicKey();
  EXPECT_EQ(AuthorizeFetched(*Topic(), kAll).OfLegacyMessage().verdict, Verdict::kPass);
  UseTopicKey(R"(, "plaintext": "drop")");
  EXPECT_EQ(AuthorizeFetched(*Topic(), kNone).OfLegacyMessage().verdict, Verdict::kHide);
  const Decision stop = AuthorizeFetched(*Topic(), kAll).OfLegacyMessage();
  EXPECT_EQ(stop.verdict, Verdict::kStop);
  EXPECT_EQ(stop.problem.reason, RefuseReason::kOldFormat);
}

class TransformStageTest : public BatchTest {
 protected:
  TransformStageTest() { UseUserKeys(); }

  // What is written of a plaintext record.
  std::vector<TestRecord> Written(const TestRecord& record, const Decision& decision) {
    ByteBuffer out;
    scratch_->writer.Begin({}, out);
    TransformFetched stage(*Topic(), "clicks", 1 << 20, /*emptyMasks=*/false, *scratch_);
    EXPECT_FALSE(stage.Of(LaidOut(record).view, Envelope(), Owner(), decision).has_value());
    if (scratch_->writer.count() == 0) {
      scratch_->writer.Abandon();
      return {};
    }
    EXPECT_TRUE(scratch_->writer.Finish(kafka::Codec::kNone).ok());
    return Read(out).records;
  }
};

TEST_F(TransformStageTest, WritesWhatTheVerdictSays) {
  const TestRecord record = Record("k", "clear");
  const auto passed = Written(record, {});
  ASSERT_EQ(passed.size(), 1u);
  EXPECT_TRUE(SameContent(passed.at(0), record));
  const auto masked = Written(record, {.verdict = Verdict::kMask, .why = DropReason::kPlaintext});
  ASSERT_EQ(masked.size(), 1u);
  EXPECT_EQ(masked.at(0).value, "");
  EXPECT_EQ(masked.at(0).headers.at(0).second, "plaintext");
  EXPECT_TRUE(Written(record, {.verdict = Verdict::kHide}).empty());
  EXPECT_TRUE(Written(record, {.verdict = Verdict::kStop}).empty());
}

class ObserveStageTest : public testing::Test {
 protected:
  void See(int32_t offsetDelta, State state, Verdict verdict, const Text& value = "value") {
    TestRecord record = Record("k", value);
    record.offsetDelta = offsetDelta;
    Owner owner;
    owner.state = state;
    Decision decision;
    decision.verdict = verdict;
    stage_.Of(LaidOut(record).view, owner, decision);
  }

  kafka::BatchHeader header_{.baseOffset = 100};
  FetchedCounts counts_;
  ObserveFetched stage_{header_, counts_};
};

TEST_F(ObserveStageTest, CountsEachRecordAsWhatItWas) {
  See(0, State::kNobody, Verdict::kPass);
  See(1, State::kNobody, Verdict::kPass, std::nullopt);
  EXPECT_TRUE(stage_.ChangesNothing());
  EXPECT_FALSE(counts_.plaintextDropped);
  See(2, State::kPresent, Verdict::kPass);
  EXPECT_FALSE(stage_.ChangesNothing());
  See(3, State::kErased, Verdict::kHide);
  See(4, State::kErased, Verdict::kMask);
  See(5, State::kNobody, Verdict::kMask);
  See(6, State::kPresent, Verdict::kHide);
  EXPECT_EQ(counts_.plaintext, 2u);
  EXPECT_TRUE(counts_.plaintextDropped);
  EXPECT_EQ(counts_.erased, 2u);
  EXPECT_EQ(counts_.opened, 1u) << "what may not be read is not opened";
}

TEST_F(ObserveStageTest, KnowsWhatIsLeftFromAnOffsetOn) {
  See(0, State::kPresent, Verdict::kPass);
  EXPECT_FALSE(stage_.LeavesNothingFrom(1000)) << "nothing was hidden";
  See(1, State::kErased, Verdict::kMask);
  See(2, State::kErased, Verdict::kHide);
  EXPECT_FALSE(stage_.LeavesNothingFrom(101));
  EXPECT_TRUE(stage_.LeavesNothingFrom(102));
}

TEST(ObserveProducedTest, CountsWhatIsSealed) {
  ProducedCounts counts;
  ObserveProduced stage(counts);
  Owner owner;
  stage.Of(owner);
  owner.state = State::kPresent;
  stage.Of(owner);
  owner.isErasedSubject = true;
  stage.Of(owner);
  EXPECT_EQ(counts.sealed, 2u);
  EXPECT_EQ(counts.afterErasure, 1u);
}

}  // namespace
}  // namespace kveil::guard
