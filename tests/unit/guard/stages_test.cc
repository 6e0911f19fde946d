// The stages of a record, each by itself.
#include "guard/stages/stages.h"

#include <gtest/gtest.h>

#include <deque>

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
    const auto problem = ValidateProduced().Of(record);
    return problem.has_value() ? problem->reason : RefuseReason::kOther;
  }
  RefuseReason Fetched(const kafka::RecordView& record) {
    const auto problem = ValidateFetched(scratch_).Of(record, envelope_);
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
    return std::make_unique<IdentifyProduced>(*Topic()->seal, "main", "clicks", salt_, *scratch_, needs_);
  }
  static State StateOf(IdentifyProduced& stage, const TestRecord& record) {
    const Owner* owner = nullptr;
    EXPECT_FALSE(stage.Of(LaidOut(record).view, owner).has_value());
    return owner->state;
  }
  crypto::KeyId IdOf(std::string_view user) {
    return scratch_->keyCache.FindForSealing({keys::Scope::kUser, Topic()->seal->keyspace, user})->id;
  }

  const crypto::Salt salt_ = crypto::RandomSalt();
  Needs needs_;
};

TEST_F(IdentifyStageTest, ANullValueIsNobodysAndNeedsNoKey) {
  for (const char* const more : {"user", "topic"}) {
    more == std::string("user") ? UseUserKeys() : UseTopicKey();
    EXPECT_EQ(StateOf(*Produced(), Record("k", std::nullopt)), State::kNobody);
    EXPECT_TRUE(needs_.empty());
  }
}

TEST_F(IdentifyStageTest, NotesEachKeyThatIsNotThereOnceAndGoesOn) {
  const auto stage = Produced();
  for (const char* const user : {"anna", "bert", "anna"}) EXPECT_EQ(StateOf(*stage, ClickOf(user)), State::kPending);
  EXPECT_EQ(needs_.keys.scopes.size(), 2u);
  FetchMissing(std::exchange(needs_, {}));
  const auto again = Produced();
  for (const char* const user : {"anna", "bert", "anna"}) EXPECT_EQ(StateOf(*again, ClickOf(user)), State::kPresent);
  EXPECT_TRUE(needs_.empty());
  EXPECT_EQ(again->keysUsed(), 2u);
}

TEST_F(IdentifyStageTest, OfATopicsKeyLooksIntoNoRecord) {
  UseTopicKey();
  EXPECT_EQ(StateOf(*Produced(), Record("k", "no JSON")), State::kPending);
  FetchMissing(std::exchange(needs_, {}));
  const auto stage = Produced();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(StateOf(*stage, Record("k", "no JSON")), State::kPresent);
  EXPECT_EQ(stage->keysUsed(), 1u);
}

TEST_F(IdentifyStageTest, AgreesInBothDirectionsOnWhoseRecordItIs) {
  const ByteBuffer produced = ProducedBatch({ClickOf("anna"), ClickOf("bert"), Record("t", std::nullopt)});
  const ReadBatch sealed = Read(Sealed(produced));
  IdentifyFetched stage(10, *scratch_, needs_);
  for (size_t i = 0; i < 2; ++i) {
    const LaidOut record(sealed.records.at(i));
    ByteBuffer scratch;
    Envelope envelope;
    ASSERT_FALSE(ValidateFetched(scratch).Of(record.view, envelope).has_value());
    const Owner* owner = nullptr;
    ASSERT_FALSE(stage.Of(envelope, owner).has_value());
    EXPECT_EQ(owner->state, State::kPresent);
    EXPECT_EQ(scratch_->keyCache.mask().Unmask(envelope.keyId, envelope.salt), IdOf(i == 0 ? "anna" : "bert"));
  }
  const Owner* owner = nullptr;
  ASSERT_FALSE(stage.Of(Envelope(), owner).has_value());
  EXPECT_EQ(owner->state, State::kNobody);
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

// The last cipher is shared by all keys beyond the first ones.
TEST(BatchOwnersTest, NeverGiveACipherThatHasAnothersKey) {
  using Owners = BatchOwners<int>;
  constexpr int kShared = static_cast<int>(Owners::kMaxCiphers);
  std::deque<crypto::BatchCipher> ciphers;
  const crypto::Salt salt = crypto::RandomSalt();
  std::vector<keys::ScopeKey> keys(kShared + 3);
  for (keys::ScopeKey& key : keys) key.key = crypto::SecretKey::Random();
  Owners owners(ciphers);
  const auto add = [&](int i) {
    return owners.Add(i, Owner(), keys.at(static_cast<size_t>(i)), crypto::Suite::kAes256Gcm, salt).cipher;
  };
  for (int i = 0; i < kShared; ++i) add(i);
  crypto::BatchCipher* const shared = add(kShared);
  EXPECT_EQ(shared, &ciphers.back());
  EXPECT_NE(owners.Find(kShared), nullptr) << "its records follow each other";
  EXPECT_EQ(add(kShared + 1), shared);
  EXPECT_EQ(owners.Find(kShared), nullptr);
  EXPECT_EQ(owners.Find(0)->cipher, &ciphers.front());
  EXPECT_EQ(owners.Find(kShared + 1), nullptr) << "it is found only behind a record of its own";
  EXPECT_EQ(ciphers.size(), Owners::kMaxCiphers + 1);
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
    TransformFetched stage(*Topic(), "clicks", 1 << 20, *scratch_);
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
