// Readers whose rules let them have some records only: which they get, and what is done to the others.
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <set>

#include "guard/client/client_facts.h"
#include "guard/open/batch_opener.h"
#include "guard/stages/select.h"
#include "guard/stages/transform.h"
#include "guard_fixture.h"
#include "keys/service/revocations.h"
#include "policy/explain.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;
using std::chrono::hours;
using std::chrono::milliseconds;

constexpr int64_t kNow = 1'700'000'000'000;  // in milliseconds, and the base timestamp of a TestBatch

class ReadRulesTest : public BatchTest {
 protected:
  // The topic "clicks", whose users are at /user of the value; one entry for everybody, with this `where`.
  void UseWhere(const std::string& where, const std::string& more = "",
                const std::string& user = R"({"value": "/user"})") {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": )" + user +
              R"(}, "read": [{"any": true, "where": )" + where + "}]" + more + "}");
    ASSERT_EQ(ReadableBy(*Topic(), {}, readers_), policy::Readable::kSome);
  }
  OpenTask Task() const {
    OpenTask task = TaskToOpen();
    task.readers = &readers_;
    task.reader = &reader_;
    task.now = std::chrono::system_clock::time_point(milliseconds(kNow));
    return task;
  }
  static std::string Order(const std::string& user, const std::string& state) {
    return R"({"user": ")" + user + R"(", "state": ")" + state + R"("})";
  }
  static TestRecord With(TestRecord record, std::vector<std::pair<std::string, Text>> headers) {
    record.headers = std::move(headers);
    return record;
  }
  static std::set<int32_t> OffsetsOf(const ReadBatch& batch) {
    std::set<int32_t> offsets;
    for (const TestRecord& record : batch.records) offsets.insert(record.offsetDelta);
    return offsets;
  }
  using Offsets = std::set<int32_t>;
  Offsets Visible(Bytes batch) { return OffsetsOf(Opened(Task(), batch)); }

  policy::EntrySet readers_;
  identity::Workload reader_;
};

TEST_F(ReadRulesTest, LeaveOtherUsersOutAndKeepEveryOffset) {
  UseWhere(R"({"users": ["anna"]})");
  TestBatch batch;
  batch.baseOffset = 1000;
  const ByteBuffer sealed = Sealed({ClickOf("bert"), ClickOf("anna"), ClickOf("carl"), ClickOf("anna")}, batch);
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), sealed, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.opened, 2u);
  EXPECT_EQ(outcome.denied, 2u);
  EXPECT_EQ(outcome.erased, 0u);
  const ReadBatch opened = Read(out);
  ExpectSameButForCodecAndSize(opened.header, Read(sealed).header);
  EXPECT_EQ(OffsetsOf(opened), Offsets({1, 3}));
  EXPECT_EQ(opened.records.at(0).value, Click("anna"));
  EXPECT_TRUE(opened.records.at(0).headers.empty());
}

TEST_F(ReadRulesTest, LeaveUsersOutWhateverTheCodec) {
  UseWhere(R"({"users": ["anna"]})");
  for (const auto codec : {kafka::Codec::kGzip, kafka::Codec::kSnappy, kafka::Codec::kLz4, kafka::Codec::kZstd}) {
    const ByteBuffer sealed = Sealed(ProducedBatch({ClickOf("bert"), ClickOf("anna")}, codec));
    EXPECT_EQ(Visible(sealed), Offsets({1}));
  }
}

// A key that nobody knows could be anna's.
TEST_F(ReadRulesTest, LookForTheKeysOfAllWhoseRecordsAreLeftOut) {
  UseWhere(R"({"users": ["anna"], "header": {"name": "region", "equals": "eu"}})");
  const ByteBuffer sealed =
      Sealed({With(ClickOf("bert"), {{"region", "eu"}}), With(ClickOf("anna"), {{"region", "eu"}}), ClickOf("carl")});
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  ByteBuffer out;
  OpenOutcome outcome = OpenBatch(Task(), ViewOf(sealed), *scratch_, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kNeeds);
  EXPECT_TRUE(outcome.needs.keys.ids.empty());
  ASSERT_EQ(outcome.needs.keys.scopes.size(), 1u);
  EXPECT_EQ(outcome.needs.keys.scopes.at(0).subject, "anna");
  FetchMissing(std::move(outcome.needs));
  outcome = OpenBatch(Task(), ViewOf(sealed), *scratch_, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kNeeds);
  EXPECT_EQ(outcome.needs.keys.ids.size(), 1u) << "anna's key came with her name, and carl's record is out anyway";
  FetchMissing(std::move(outcome.needs));
  outcome = OpenBatch(Task(), ViewOf(sealed), *scratch_, out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten);
  EXPECT_EQ(outcome.opened, 1u);
  EXPECT_EQ(outcome.denied, 2u);
}

// As on a topic without rules: it may be anna's, of before the registry was restored.
TEST_F(ReadRulesTest, LeaveNoRecordOutWhoseKeyNobodyKnows) {
  UseWhere(R"({"users": ["anna"]})");
  std::vector<TestRecord> records = Read(Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("anna")})).records;
  (*records[1].headers[0].second)[5] ^= 0x55;  // inside the key id
  for (const bool masked : {false, true}) {
    OpenTask task = Task();
    task.masking.denied = masked;
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(task, ProducedBatch(records), out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
    EXPECT_EQ(outcome.reason, RefuseReason::kUnknownKey);
    EXPECT_TRUE(out.empty());
  }
  // What else denies it needs no key.
  UseWhere(R"({"users": ["anna"], "newerThan": "2h"})");
  records[1].timestampDelta = -milliseconds(hours(3)).count();
  EXPECT_EQ(Visible(ProducedBatch(records)), Offsets({0, 2}));
}

TEST_F(ReadRulesTest, DecideByHeadersBeforeAnyKeyIsFetched) {
  UseWhere(R"({"header": {"name": "region", "equals": "eu"}})");
  const ByteBuffer sealed =
      Sealed({With(ClickOf("bert"), {{"region", "us"}}), With(ClickOf("anna"), {{"region", "eu"}}), ClickOf("carl"),
              With(ClickOf("dora"), {{"region", std::nullopt}})});
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  ByteBuffer out;
  OpenOutcome outcome = OpenBatch(Task(), ViewOf(sealed), *scratch_, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kNeeds);
  EXPECT_EQ(outcome.needs.keys.size(), 1u);
  FetchMissing(std::move(outcome.needs));
  EXPECT_EQ(Visible(sealed), Offsets({1}));
}

TEST_F(ReadRulesTest, TakeNoHeaderThatIsThereTwice) {
  UseWhere(R"({"header": {"name": "region", "equals": "eu"}})");
  const ByteBuffer sealed = Sealed({With(ClickOf("a"), {{"region", "eu"}, {"region", "eu"}}),
                                    With(ClickOf("b"), {{"region", "eu"}, {"region", "us"}}),
                                    With(ClickOf("c"), {{"region", "us"}, {"region", "eu"}}),
                                    With(ClickOf("d"), {{"Region", "us"}, {"region", "eu"}})});
  EXPECT_EQ(Visible(sealed), Offsets({3}));
}

// The first record of a user who had no key when the policy came is not left out.
TEST_F(ReadRulesTest, KnowUsersBeforeTheirFirstRecord) {
  UseWhere(R"({"users": ["anna"]})");
  ByteBuffer out;
  EXPECT_EQ(OpenTo(Task(), Sealed({ClickOf("bert")}), out).denied, 1u);
  EXPECT_EQ(Visible(Sealed({ClickOf("bert"), ClickOf("anna")})), Offsets({1}));
}

// The key of an erased user names nobody: a worker that sees the policy after the erasure could not know whose it was.
TEST_F(ReadRulesTest, LeaveErasedUsersOutAsAnybodys) {
  UseWhere(R"({"users": ["anna", "bert"]})");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("carl")});
  EXPECT_EQ(Visible(sealed), Offsets({0, 1}));
  Erase("anna");
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), sealed, out);
  EXPECT_EQ(outcome.erased, 0u);
  EXPECT_EQ(outcome.denied, 2u);
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({1}));
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  EXPECT_EQ(Visible(sealed), Offsets({1}));
}

TEST_F(ReadRulesTest, OpenAValueToSeeWhetherItFits) {
  UseWhere(R"({"value": {"pointer": "/state", "equals": "paid"}})");
  for (const bool compressed : {false, true}) {
    const std::vector<TestRecord> records = {Record("1", Order("a", "open")), Record("2", Order("b", "paid")),
                                             Record("3", Order("c", "open")), Record("4", Order("a", "paid")),
                                             Record("5", Order("a", std::string(300, 'x')))};
    const ByteBuffer sealed = Sealed(ProducedBatch(records, compressed ? kafka::Codec::kZstd : kafka::Codec::kNone));
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(Task(), sealed, out);
    ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
    EXPECT_EQ(outcome.opened, 2u);
    EXPECT_EQ(outcome.denied, 3u);
    const ReadBatch opened = Read(out);
    EXPECT_EQ(OffsetsOf(opened), Offsets({1, 3}));
    EXPECT_EQ(opened.records.at(0).value, Order("b", "paid"));
    EXPECT_EQ(opened.records.at(1).value, Order("a", "paid"));
    // What was opened and taken back is nowhere in what the reader gets.
    EXPECT_EQ(AsText(out).find("open"), std::string_view::npos);
  }
}

// A pass does not suspend, so others would wait while expressions are tried for minutes.
TEST_F(ReadRulesTest, StopBeforeWorkWithoutABound) {
  std::string entries;
  for (size_t i = 0; i < policy::kMostPatterns; ++i) {
    entries += StrCat(i == 0 ? "" : ",",
                      R"({"any": true, "where": {"header": {"name": "region", "matches": "[a-z]{0,200}"}}})");
  }
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "topic"}, "read": [)" + entries + "]}");
  ASSERT_EQ(ReadableBy(*Topic(), {}, readers_), policy::Readable::kSome);
  const auto opened = [&](size_t count) {
    const std::vector<TestRecord> records(count, With(ClickOf("a"), {{"region", std::string(1000, 'x')}}));
    ByteBuffer out;
    return OpenTo(Task(), ProducedBatch(records), out);
  };
  EXPECT_EQ(opened(100).denied, 100u);
  EXPECT_EQ(opened(250).denied, 250u) << "what was read once is read";
  EXPECT_GT(scratch_->ruleWork, 100u * 1000 * 200 * policy::kMostPatterns);
  const OpenOutcome outcome = opened(1000);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kTooLarge);
  EXPECT_LT(scratch_->ruleWork, 2 * kMostRuleWork) << "it ends there";
}

// What is opened for nothing is work all the same, within the bound of a batch.
TEST_F(ReadRulesTest, CountWhatIsOpenedForNothing) {
  UseWhere(R"({"value": {"pointer": "/state", "equals": "paid"}})");
  const std::vector<TestRecord> records(20, Record("1", Order("a", std::string(50'000, 'x'))));
  for (const bool masked : {false, true}) {
    OpenTask task = Task();
    task.masking.denied = masked;
    const ByteBuffer sealed = Sealed(ProducedBatch(records, kafka::Codec::kZstd));
    ASSERT_LT(sealed.size(), 10'000u);
    ByteBuffer out;
    EXPECT_EQ(OpenTo(task, sealed, out).denied, 20u);
    EXPECT_GE(scratch_->decompressedBytes, 20u * 50'000);
    EXPECT_LE(scratch_->decompressedBytes, 20u * 51'000);
    task.batchLimit = 500'000;
    const OpenOutcome outcome = OpenTo(task, sealed, out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
    EXPECT_EQ(outcome.reason, RefuseReason::kTooLarge);
  }
}

TEST_F(ReadRulesTest, LeaveOutAnErasedUsersValueThatNobodyKnows) {
  UseWhere(R"({"value": {"pointer": "/state", "equals": "paid"}})", R"(, "onErased": "mask")");
  const ByteBuffer sealed = Sealed({Record("1", Order("bert", "paid")), Record("2", Order("anna", "paid"))});
  Erase("anna");
  OpenTask task = Task();
  task.masking.erased = true;
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, sealed, out);
  EXPECT_EQ(outcome.denied, 1u);
  EXPECT_EQ(outcome.erased, 0u);
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({0}));
}

TEST_F(ReadRulesTest, CountAgesFromEachRecordsOwnTime) {
  UseWhere(R"({"newerThan": "2h"})");
  std::vector<TestRecord> records = {ClickOf("a"), ClickOf("b"), ClickOf("c")};
  records[0].timestampDelta = -milliseconds(hours(3)).count();
  records[1].timestampDelta = -milliseconds(hours(1)).count();
  records[2].timestampDelta = milliseconds(hours(1)).count();
  EXPECT_EQ(Visible(Sealed(records)), Offsets({1, 2}));
  // The broker's clock: one time for the whole batch.
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kLogAppendTimeBit;
  batch.maxTimestamp = kNow - milliseconds(hours(1)).count();
  EXPECT_EQ(Visible(Sealed(records, batch)), Offsets({0, 1, 2}));
  batch.maxTimestamp = kNow - milliseconds(hours(2)).count();
  EXPECT_TRUE(Opened(Task(), Sealed(records, batch)).header.isControl());
}

// The base timestamp of such a batch is when its tombstones may go. Deltas count from it, as in clients.
TEST_F(ReadRulesTest, CountAgesFromADeleteHorizon) {
  UseWhere(R"({"newerThan": "2h"})");
  std::vector<TestRecord> records = {ClickOf("a"), ClickOf("b")};
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kDeleteHorizonBit;
  batch.baseTimestamp = kNow + milliseconds(hours(24)).count();
  records[0].timestampDelta = -milliseconds(hours(27)).count();
  records[1].timestampDelta = -milliseconds(hours(25)).count();
  EXPECT_EQ(Visible(Sealed(records, batch)), Offsets({1}));
}

TEST_F(ReadRulesTest, KnowNoAgeOfARecordWithoutATime) {
  UseWhere(R"({"olderThan": "1h"})");
  TestBatch batch;
  batch.baseTimestamp = -1;
  EXPECT_TRUE(Opened(Task(), Sealed({ClickOf("a")}, batch)).header.isControl());
  batch.baseTimestamp = std::numeric_limits<int64_t>::max();
  TestRecord beyond = ClickOf("a");
  beyond.timestampDelta = std::numeric_limits<int64_t>::max();
  EXPECT_TRUE(Opened(Task(), Sealed({beyond}, batch)).header.isControl());
}

TEST_F(ReadRulesTest, GiveTombstonesToTheUserThatTheirKeyNames) {
  UseWhere(R"({"users": ["anna"]})", "", R"({"key": true})");
  const ByteBuffer sealed = Sealed({Record("bert", std::nullopt), Record("anna", std::nullopt), Record("anna", "{}"),
                                    Record(std::nullopt, std::nullopt)});
  EXPECT_EQ(Visible(sealed), Offsets({1, 2}));
  // In a value that is not there, no user is.
  UseWhere(R"({"users": ["anna"]})");
  EXPECT_EQ(Visible(Sealed({Record("anna", std::nullopt), ClickOf("anna")})), Offsets({1}));
  UseWhere(R"({"value": {"pointer": "/user", "equals": "anna"}})");
  EXPECT_EQ(Visible(Sealed({Record("anna", std::nullopt), ClickOf("anna")})), Offsets({1}));
}

TEST_F(ReadRulesTest, KnowNoUserOfPlaintext) {
  UseWhere(R"({"users": ["anna"]})");
  const TestRecord sealed = Read(Sealed({ClickOf("anna")})).records[0];
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), ProducedBatch({ClickOf("anna"), sealed}), out);
  EXPECT_EQ(outcome.denied, 1u);
  EXPECT_EQ(outcome.plaintext, 0u);
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({1})) << "anybody may write clear text that names anna";
}

TEST_F(ReadRulesTest, KnowNoUserOfPlaintextWhoseKeyNamesOne) {
  UseWhere(R"({"users": ["anna"]})", "", R"({"key": true})");
  const TestRecord sealed = Read(Sealed({Record("anna", "{}")})).records[0];
  EXPECT_EQ(Visible(ProducedBatch({Record("anna", "forged"), sealed})), Offsets({1}));
}

TEST_F(ReadRulesTest, LookIntoPlaintextAsItIs) {
  UseWhere(R"({"value": {"pointer": "/user", "equals": "anna"}})");
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), ProducedBatch({ClickOf("bert"), ClickOf("anna")}), out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.plaintext, 1u);
  EXPECT_EQ(outcome.denied, 1u);
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({1}));
}

TEST_F(ReadRulesTest, MaskWhereThePolicySaysSo) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "mask")");
  const ByteBuffer sealed = Sealed({With(ClickOf("bert"), {{"trace", "1"}}), ClickOf("anna"), ClickOf("bert")});
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  ASSERT_TRUE(task.masking.denied);
  const ReadBatch opened = Opened(task, sealed);
  ASSERT_EQ(opened.records.size(), 3u);
  EXPECT_EQ(opened.records.at(0).key, "key-bert");
  EXPECT_EQ(opened.records.at(0).value, "");
  const std::vector<std::pair<std::string, Text>> headers = {{"trace", "1"}, {"kveil-hidden", "denied"}};
  EXPECT_EQ(opened.records.at(0).headers, headers);
  EXPECT_EQ(opened.records.at(1).value, Click("anna"));
  // What was opened to see whether it fits is masked, too.
  UseWhere(R"({"value": {"pointer": "/user", "equals": "anna"}})", R"(, "onDenied": "mask")");
  task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  const ReadBatch again = Opened(task, sealed);
  ASSERT_EQ(again.records.size(), 3u);
  EXPECT_EQ(again.records.at(0).value, "");
  EXPECT_EQ(again.records.at(1).value, Click("anna"));
}

TEST_F(ReadRulesTest, MaskWithTheValueThatThePolicyGives) {
  const auto masked = [this](const std::string& onDenied) {
    UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": )" + onDenied);
    OpenTask task = Task();
    task.masking = ClientFacts().MaskingOf(*Topic());
    const ByteBuffer sealed = Sealed({With(ClickOf("bert"), {{"trace", "1"}}), ClickOf("anna")});
    const ReadBatch opened = Opened(task, sealed);
    EXPECT_EQ(opened.records.size(), 2u);
    EXPECT_EQ(opened.records.at(1).value, Click("anna"));
    const std::vector<std::pair<std::string, Text>> headers = {{"trace", "1"}, {"kveil-hidden", "denied"}};
    EXPECT_EQ(opened.records.at(0).headers, headers);
    return opened.records.at(0).value;
  };
  EXPECT_EQ(masked(R"({"mask": {"hidden": true}})"), R"({"hidden":true})");
  EXPECT_EQ(masked(R"({"mask": null})"), "null");
  EXPECT_EQ(masked(R"("null")"), std::nullopt);
}

// A batch of many small records must not become many times as large as a batch may be.
TEST_F(ReadRulesTest, MaskWithNothingWhereTheBatchBecomesTooLarge) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": {"mask": ")" + std::string(900, 'x') + "\"}");
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  const auto openedWith = [&](size_t batchLimit) {
    task.batchLimit = batchLimit;
    ByteBuffer out;
    const OpenOutcome outcome =
        OpenTo(task, Sealed(ProducedBatch(std::vector<TestRecord>(50, ClickOf("bert")), kafka::Codec::kZstd)), out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
    EXPECT_LE(out.size(), batchLimit + 50 * 24);
    return Read(out);
  };
  for (const auto& [batchLimit, masked] : {std::pair<size_t, size_t>(100'000, 902), {10'000, 0}}) {
    const ReadBatch opened = openedWith(batchLimit);
    ASSERT_EQ(opened.records.size(), 50u);
    for (const TestRecord& record : opened.records) EXPECT_EQ(record.value->size(), masked);
  }
}

// Of what is in clear text and short, a mask is longer.
TEST_F(ReadRulesTest, StopWhereEvenEmptyMasksMakeTheBatchTooLarge) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "mask")");
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  const ByteBuffer batch = ProducedBatch(std::vector<TestRecord>(1000, Record("", "")), kafka::Codec::kZstd);
  for (const auto& [batchLimit, fits] : {std::pair<size_t, bool>(100'000, true), {20'000, false}}) {
    task.batchLimit = batchLimit;
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(task, batch, out);
    EXPECT_EQ(outcome.kind, fits ? OpenOutcome::Kind::kRewritten : OpenOutcome::Kind::kStop) << outcome.problem;
    EXPECT_EQ(out.empty(), !fits);
    if (!fits) {
      EXPECT_EQ(outcome.reason, RefuseReason::kTooLarge);
    }
  }
}

// What is opened and what is masked share one limit.
TEST_F(ReadRulesTest, MasksAndOpenedValuesAreNoLargerThanABatchTogether) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": {"mask": ")" + std::string(900, 'x') + "\"}");
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  task.batchLimit = 50'000;
  std::vector<TestRecord> records(40, ClickOf("bert"));
  for (int i = 0; i < 40; ++i) records.push_back(Record("k", Order("anna", std::string(1000, 'y'))));
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, Sealed(ProducedBatch(records, kafka::Codec::kZstd)), out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_LE(out.size(), 51'000u);
  const ReadBatch opened = Read(out);
  ASSERT_EQ(opened.records.size(), 80u);
  EXPECT_EQ(opened.records.front().value, "");
  EXPECT_EQ(opened.records.back().value, Order("anna", std::string(1000, 'y')));
}

// Whoever writes records that a reader gets masked could otherwise keep the reader from its own.
TEST_F(ReadRulesTest, MasksTakeNoRoomFromWhatMayBeRead) {
  for (const char* where : {R"({"users": ["anna"]})", R"({"value": {"pointer": "/user", "equals": "anna"}})"}) {
    UseWhere(where, R"(, "onDenied": {"mask": ")" + std::string(900, 'x') + "\"}");
    OpenTask task = Task();
    task.masking = ClientFacts().MaskingOf(*Topic());
    task.batchLimit = 10'000;
    std::vector<TestRecord> records(20, ClickOf("bert"));
    const std::string mine = Order("anna", std::string(4000, 'y'));
    records.push_back(Record("k", mine));
    const ReadBatch opened = Opened(task, Sealed(ProducedBatch(records, kafka::Codec::kZstd)));
    ASSERT_EQ(opened.records.size(), 21u) << where;
    EXPECT_EQ(opened.records.back().value, mine);
  }
}

TEST_F(ReadRulesTest, GiveOthersAsTheyAreSealed) {
  for (const char* where : {R"({"users": ["anna"]})", R"({"value": {"pointer": "/user", "equals": "anna"}})"}) {
    UseWhere(where, R"(, "onDenied": "sealed")");
    OpenTask task = Task();
    task.masking = ClientFacts().MaskingOf(*Topic());
    const std::vector<TestRecord> sealed = Read(Sealed({ClickOf("bert"), ClickOf("anna")})).records;
    const ReadBatch opened = Opened(task, ProducedBatch(sealed));
    ASSERT_EQ(opened.records.size(), 2u);
    EXPECT_TRUE(SameContent(opened.records.at(0), sealed.at(0))) << where;
    EXPECT_EQ(opened.records.at(1).value, Click("anna"));
  }
  // Where that is all that there is, the batch stays as it came.
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "sealed")");
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(task, Sealed({ClickOf("bert"), Record("k", std::nullopt)}), out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kUnchanged) << outcome.problem;
  EXPECT_EQ(outcome.denied, 2u);
}

// What is in clear text is not given as it is.
TEST_F(ReadRulesTest, MaskClearTextWhereOthersAreGivenSealed) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "sealed")");
  OpenTask task = Task();
  task.masking = ClientFacts().MaskingOf(*Topic());
  const ReadBatch opened = Opened(task, ProducedBatch({ClickOf("bert"), ClickOf("anna")}));
  ASSERT_EQ(opened.records.size(), 2u);
  for (const TestRecord& record : opened.records) {
    EXPECT_EQ(record.value, "");
    EXPECT_EQ(record.headers.at(0).first, kMaskedHeaderName);
  }
}

class DeniedErrorTest : public ReadRulesTest {
 protected:
  OpenOutcome OpenFrom(int64_t offset, Bytes sealed, ByteBuffer& out) {
    OpenTask task = Task();
    task.masking = ClientFacts().MaskingOf(*Topic());
    task.fetchOffset = offset;
    return OpenTo(task, sealed, out);
  }
  static TestBatch From1000() {
    TestBatch batch;
    batch.baseOffset = 1000;
    return batch;
  }
};

TEST_F(DeniedErrorTest, EndsTheBatchBeforeTheRecord) {
  UseWhere(R"({"users": ["anna", "bert"]})", R"(, "onDenied": "error")");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("carl"), ClickOf("anna")}, From1000());
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  ByteBuffer out;
  const OpenOutcome outcome = OpenFrom(1000, sealed, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_EQ(outcome.deniedFrom, 1002);
  EXPECT_EQ(outcome.opened, 2u);
  const ReadBatch opened = Read(out);
  EXPECT_EQ(OffsetsOf(opened), Offsets({0, 1}));
  EXPECT_EQ(opened.header.lastOffsetDelta, 1) << "the reader asks for the denied record next";
  EXPECT_EQ(opened.header.baseOffset, 1000);
}

TEST_F(DeniedErrorTest, StopsAtTheRecord) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "error")");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("carl"), ClickOf("anna")}, From1000());
  ByteBuffer out;
  const OpenOutcome outcome = OpenFrom(1001, sealed, out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kDenied);
  EXPECT_TRUE(out.empty());
}

// Clients throw away what is before the offset that they asked from, so that one may be asked for that is behind it.
TEST_F(DeniedErrorTest, GoesOnBehindTheRecord) {
  UseWhere(R"({"users": ["anna"]})", R"(, "onDenied": "error")");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("carl"), ClickOf("anna")}, From1000());
  ByteBuffer out;
  const OpenOutcome outcome = OpenFrom(1002, sealed, out);
  ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
  EXPECT_FALSE(outcome.deniedFrom.has_value());
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({0, 2}));
}

TEST_F(DeniedErrorTest, StopsAtWhatItsValueDenies) {
  UseWhere(R"({"value": {"pointer": "/user", "equals": "anna"}})", R"(, "onDenied": "error")");
  ByteBuffer out;
  const OpenOutcome outcome = OpenFrom(0, Sealed({ClickOf("anna"), ClickOf("bert")}), out);
  EXPECT_EQ(outcome.deniedFrom, 1);
  EXPECT_EQ(OffsetsOf(Read(out)), Offsets({0}));
}

// Nobody could have had such a record, so it is no reason to stop, whatever this worker knew of its user before.
TEST_F(DeniedErrorTest, GoesOnBehindErasedUsers) {
  for (const char* where :
       {R"({"users": ["anna", "bert"]})", R"({"value": {"pointer": "/page", "equals": "/home"}})"}) {
    UseWhere(where, R"(, "onErased": "mask", "onDenied": "error")");
    const bool namesUsers = std::string_view(where).find("users") != std::string_view::npos;
    const std::string gone = namesUsers ? "carl" : "dora";
    const ByteBuffer sealed = Sealed({ClickOf("bert"), ClickOf(gone), ClickOf("anna")}, From1000());
    if (namesUsers) {
      UseWhere(StrCat(R"({"users": ["anna", "bert", ")", gone, "\"]}"), R"(, "onErased": "mask", "onDenied": "error")");
    }
    (void)Visible(sealed);
    Erase(gone);
    for (const bool isFresh : {false, true}) {
      if (isFresh) scratch_ = std::make_unique<WorkerScratch>(*service_);
      ByteBuffer out;
      const OpenOutcome outcome = OpenFrom(1001, sealed, out);
      ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << where << outcome.problem;
      EXPECT_FALSE(outcome.deniedFrom.has_value()) << where;
      EXPECT_EQ(OffsetsOf(Read(out)), Offsets({0, 2})) << "its key and headers are not the reader's to see";
    }
  }
}

// Headers and times decide before whose the record is, so that the reader learns nothing of an erasure from them. What
// the commands say is what the reader gets.
TEST_F(DeniedErrorTest, DeniesErasedUsersByHeadersFirstAsExplained) {
  int erasures = 0;
  for (const char* where :
       {R"({"header": {"name": "region", "equals": "eu"}})", R"({"users": ["anna"]})",
        R"({"header": {"name": "region", "equals": "eu"}, "users": ["anna"]})",
        R"({"newerThan": "1h", "value": {"pointer": "/page", "equals": "/home"}})", R"({"newerThan": "1h"})"}) {
    for (const char* region : {"eu", "us"}) {
      UseWhere(where, R"(, "onErased": "mask", "onDenied": "error")");
      const std::string erased = StrCat("erased-", ++erasures);
      TestRecord record = With(ClickOf(erased), {{"region", region}});
      const bool isOld = std::string_view(region) == "us";
      if (isOld) record.timestampDelta = -milliseconds(hours(2)).count();
      const ByteBuffer sealed = Sealed({record});
      Erase(erased);
      ByteBuffer out;
      const OpenOutcome outcome = OpenFrom(0, sealed, out);
      policy::DescribedRecord described;
      described.user = erased;
      described.isErased = true;
      described.headers = {{"region", region}};
      described.age = isOld ? hours(2) : hours(0);
      described.value = Click(erased);
      const policy::Explanation explained = policy::ExplainRecord(Topic(), {}, described);
      const bool isError = outcome.kind == OpenOutcome::Kind::kStop && outcome.reason == RefuseReason::kDenied;
      EXPECT_EQ(explained.isErased, outcome.erased == 1) << where << region << ": " << explained.why;
      EXPECT_EQ(explained.why.find("answered with an error") != std::string::npos, isError)
          << where << region << ": " << explained.why;
      EXPECT_EQ(explained.why.find("are left out") != std::string::npos, outcome.denied == 1 && !isError)
          << where << region << ": " << explained.why;
      const bool deniesByOutside = std::string_view(where) != R"({"users": ["anna"]})" && isOld;
      EXPECT_EQ(isError, deniesByOutside) << where << region;
    }
  }
}

TEST_F(DeniedErrorTest, GoesOnBehindClearTextThatIsDropped) {
  for (const char* where : {R"({"users": ["anna"]})", R"({"value": {"pointer": "/user", "equals": "anna"}})"}) {
    UseWhere(where, R"(, "plaintext": "drop", "onDenied": "error")");
    const TestRecord sealed = Read(Sealed({ClickOf("anna")})).records[0];
    ByteBuffer out;
    const OpenOutcome outcome = OpenFrom(0, ProducedBatch({ClickOf("anna"), ClickOf("bert"), sealed}), out);
    ASSERT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << where << outcome.problem;
    EXPECT_FALSE(outcome.deniedFrom.has_value()) << where;
    EXPECT_EQ(OffsetsOf(Read(out)), Offsets({2}));
  }
}

// The reader asks for what is behind the record again, when it gets there.
TEST_F(DeniedErrorTest, WaitsForNoKeyBehindTheRecord) {
  for (const char* where : {R"({"header": {"name": "region", "equals": "eu"}})", R"({"users": ["anna"]})"}) {
    UseWhere(where, R"(, "onDenied": "error")");
    const auto eu = [](const std::string& user) { return With(ClickOf(user), {{"region", "eu"}}); };
    const std::vector<TestRecord> records = Read(Sealed({eu("anna"), ClickOf("carl"), eu("dora")})).records;
    scratch_ = std::make_unique<WorkerScratch>(*service_);
    ByteBuffer out;
    EXPECT_EQ(OpenFrom(0, ProducedBatch({records[0], records[1]}), out).deniedFrom, 1) << where;
    OpenTask task = Task();
    out.clear();
    const OpenOutcome outcome = OpenBatch(task, ViewOf(ProducedBatch(records)), *scratch_, out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << where << ": dora's key is not known";
    EXPECT_EQ(outcome.deniedFrom, 1) << where;
  }
}

TEST_F(DeniedErrorTest, StopsAtOldMessageFormats) {
  UseWhere(R"({"newerThan": "1h"})", R"(, "onDenied": "error")");
  ByteBuffer message = ProducedBatch({Record("k", "value")});
  message[16] = 1;
  ByteBuffer out;
  EXPECT_EQ(OpenFrom(0, message, out).reason, RefuseReason::kDenied);
  EXPECT_EQ(OpenFrom(1, message, out).kind, OpenOutcome::Kind::kRewritten);
  UseWhere(R"({"newerThan": "1h"})", R"(, "plaintext": "drop", "onDenied": "error")");
  EXPECT_EQ(OpenFrom(0, message, out).kind, OpenOutcome::Kind::kRewritten) << "nobody could have it";
}

// A client's name is its own choice, and a masked record shows its key.
TEST_F(ReadRulesTest, MaskForNoClientsName) {
  UseWhere(R"({"users": ["anna"]})");
  ClientFacts client;
  client.LearnName("rskafka");
  EXPECT_TRUE(client.MaskingOf(*Topic()).erased);
  EXPECT_FALSE(client.MaskingOf(*Topic()).denied);
}

TEST_F(ReadRulesTest, PutAFillerInTheBatchsPlaceWhereNothingIsLeft) {
  UseWhere(R"({"users": ["anna"]})");
  TestBatch batch;
  batch.baseOffset = 500;
  batch.attributes = kafka::BatchHeader::kTransactionalBit;
  const ReadBatch filler = Opened(Task(), Sealed({ClickOf("bert"), ClickOf("carl"), ClickOf("bert")}, batch));
  EXPECT_TRUE(filler.header.isControl());
  EXPECT_EQ(filler.header.baseOffset, 500);
  EXPECT_EQ(filler.header.lastOffsetDelta, 2);
  // The same where the reader asks from behind all that it may have.
  OpenTask task = Task();
  task.fetchOffset = 501;
  EXPECT_TRUE(Opened(task, Sealed({ClickOf("anna"), ClickOf("carl")}, batch)).header.isControl());
  task.fetchOffset = 500;
  EXPECT_FALSE(Opened(task, Sealed({ClickOf("anna"), ClickOf("carl")}, batch)).header.isControl());
}

TEST_F(ReadRulesTest, LeaveTransactionsMarkersAlone) {
  UseWhere(R"({"users": ["anna"]})");
  TestBatch batch;
  batch.attributes = kafka::BatchHeader::kControlBit | kafka::BatchHeader::kTransactionalBit;
  const ByteBuffer marker =
      ProducedBatch({Record(std::string("\0\0\0\1", 4), std::string(6, '\0'))}, kafka::Codec::kNone, batch);
  ByteBuffer out;
  EXPECT_EQ(OpenTo(Task(), marker, out).kind, OpenOutcome::Kind::kUnchanged);
}

// A record that the reader may not have stops nobody; one that it may have is never skipped.
TEST_F(ReadRulesTest, StopOnlyAtRecordsThatMayBeRead) {
  UseWhere(R"({"users": ["anna"]})");
  std::vector<TestRecord> records = Read(Sealed({ClickOf("bert"), ClickOf("anna")})).records;
  records[0].value->front() ^= 1;
  EXPECT_EQ(Visible(ProducedBatch(records)), Offsets({1}));
  records[1].value->front() ^= 1;
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), ProducedBatch(records), out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kTampered);
}

// A writer who puts anna's envelope on another record gains nothing: it does not open.
TEST_F(ReadRulesTest, AreNotDeceivedByABorrowedEnvelope) {
  UseWhere(R"({"users": ["anna"]})");
  std::vector<TestRecord> records = Read(Sealed({ClickOf("bert"), ClickOf("anna")})).records;
  records[0].headers = records[1].headers;
  ByteBuffer out;
  EXPECT_EQ(OpenTo(Task(), ProducedBatch(records), out).kind, OpenOutcome::Kind::kStop);
}

TEST_F(ReadRulesTest, KnowNothingOfOldMessageFormats) {
  UseWhere(R"({"newerThan": "1h"})");
  for (const uint8_t magic : {0, 1}) {
    ByteBuffer message = ProducedBatch({Record("k", "value")});
    message[16] = magic;
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(Task(), message, out);
    EXPECT_EQ(outcome.denied, 1u);
    EXPECT_EQ(outcome.plaintext, 0u);
    EXPECT_TRUE(Read(out).header.isControl());
    // They have no place for a mask.
    OpenTask masking = Task();
    masking.masking.denied = true;
    out.clear();
    EXPECT_EQ(OpenTo(masking, message, out).denied, 1u);
    EXPECT_TRUE(Read(out).header.isControl());
    masking.masking.needed = true;
    out.clear();
    EXPECT_EQ(OpenTo(masking, message, out).kind, OpenOutcome::Kind::kStop);
  }
}

// More records than are identified at once, and runs of those that may be read of every length.
TEST_F(ReadRulesTest, HoldInLargeBatches) {
  UseWhere(R"({"users": ["anna", "bert"], "value": {"pointer": "/page", "equals": "/home"}})");
  std::vector<TestRecord> records;
  Offsets expected;
  for (int32_t i = 0; i < 500; ++i) {
    const char* const users[] = {"anna", "carl", "bert", "dora", "anna"};
    const std::string user = users[static_cast<size_t>(i * i % 7) % 5];
    const bool fits = i % 3 != 0;
    records.push_back(Record("k", fits ? Click(user) : Order(user, "x")));
    if (fits && (user == "anna" || user == "bert")) expected.insert(i);
  }
  EXPECT_EQ(Visible(Sealed(ProducedBatch(records, kafka::Codec::kLz4))), expected);
}

TEST_F(ReadRulesTest, AreForgottenWithTheirPolicy) {
  for (int i = 0; i < 5; ++i) {
    UseWhere(R"({"users": ["anna"]})");
    (void)Visible(Sealed({ClickOf("anna")}));
    EXPECT_EQ(scratch_->listedUsers.size(), 1u) << "of the policy in force alone";
  }
}

// The keys of users that only others' entries name may be damaged, or not to be had: that is no business of a reader's.
TEST_F(ReadRulesTest, WaitForNoUserWhomOnlyOthersEntriesName) {
  UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}}, "read": [
      {"any": true, "where": {"header": {"name": "region", "equals": "eu"}}},
      {"workload": {"unit": "a.service"}, "where": {"users": ["anna"]}},
      {"workload": {"unit": "b.service"}, "where": {"users": ["bert"]}}]})");
  const ByteBuffer sealed = Sealed({With(ClickOf("bert"), {{"region", "eu"}}), ClickOf("anna"), ClickOf("carl")});
  scratch_ = std::make_unique<WorkerScratch>(*service_);
  const auto missingOf = [&](const char* unit) {
    identity::Workload workload;
    workload.unit = unit;
    readers_ = {};
    EXPECT_EQ(ReadableBy(*Topic(), workload, readers_), policy::Readable::kSome);
    ByteBuffer out;
    OpenOutcome outcome = OpenBatch(Task(), ViewOf(sealed), *scratch_, out);
    std::set<std::string> subjects;
    for (const keys::OwnedScopeName& name : outcome.needs.keys.scopes) subjects.insert(name.subject);
    if (!outcome.needs.empty()) FetchMissing(std::move(outcome.needs));
    return subjects;
  };
  using Subjects = std::set<std::string>;
  EXPECT_EQ(missingOf("c.service"), Subjects());
  EXPECT_EQ(Visible(sealed), Offsets({0}));
  EXPECT_EQ(missingOf("a.service"), Subjects({"anna"}));
  EXPECT_EQ(Visible(sealed), Offsets({0, 1}));
  EXPECT_EQ(missingOf("b.service"), Subjects({"bert"})) << "though this worker knows all that anna's reader needs";
  EXPECT_EQ(Visible(sealed), Offsets({0}));
}

// Other connections of the worker do not wait while the keys of a long list are looked for.
TEST_F(ReadRulesTest, LookForTheKeysOfALongListInPieces) {
  constexpr size_t kUsers = 2500;
  std::string list;
  for (size_t i = 0; i < kUsers; ++i) StrAppend(&list, i == 0 ? "\"" : ",\"", i, "\"");
  UseWhere(R"({"users": [)" + list + "]}");
  ListedUsers& users = scratch_->listedUsers.Of(*Topic());
  const auto look = [&](Needs& needs) { return users.AreKnown(readers_, scratch_->keyCache, needs); };
  size_t fetched = 0;
  int calls = 0;
  for (bool areKnown = false; !areKnown && calls < 20; ++calls) {
    Needs needs;
    areKnown = look(needs);
    EXPECT_LE(needs.keys.size(), 1000u);
    fetched += needs.keys.size();
    if (!needs.empty()) FetchMissing(std::move(needs));
  }
  EXPECT_EQ(fetched, kUsers) << "each once";
  EXPECT_LT(calls, 10);
}

// Keys that were found are not fetched again when the policies are reloaded, though the worker has them no more.
TEST_F(ReadRulesTest, LookForNobodyAgainWhoWasInTheListBefore) {
  constexpr size_t kUsers = 2500;
  const auto use = [&](const std::set<size_t>& without, const std::string& more = "") {
    std::string list;
    for (size_t i = 0; i < kUsers; ++i) {
      if (!without.contains(i)) StrAppend(&list, list.empty() ? "\"" : ",\"", 10'000 + i, "\"");
    }
    UseWhere(R"({"users": [)" + list + "]" + more + "}");
  };
  const auto missing = [&](keys::KeyCache& cache) {
    ListedUsers& users = scratch_->listedUsers.Of(*Topic());
    std::set<std::string> subjects;
    for (int calls = 0; calls < 10; ++calls) {
      Needs needs;
      if (users.AreKnown(readers_, cache, needs)) return subjects;
      for (const keys::OwnedScopeName& name : needs.keys.scopes) subjects.insert(name.subject);
      if (&cache == &scratch_->keyCache && !needs.empty()) FetchMissing(std::move(needs));
    }
    return subjects;
  };
  using Subjects = std::set<std::string>;
  const std::set<size_t> absent = {0, 700, kUsers - 1};
  use(absent);
  EXPECT_EQ(missing(scratch_->keyCache).size(), kUsers - absent.size());
  keys::KeyCache empty(*service_);
  use(absent, R"(, "newerThan": "1h")");
  EXPECT_EQ(missing(empty), Subjects()) << "the same list";
  use({1, 2000});
  EXPECT_EQ(missing(empty), Subjects({"10000", "10700", "12499"})) << "a few others";
  use({1, 2000}, R"(, "newerThan": "2h")");
  EXPECT_EQ(missing(empty), Subjects({"10000", "10700", "12499"})) << "who were not found";
  EXPECT_EQ(missing(scratch_->keyCache), Subjects({"10000", "10700", "12499"}));
  EXPECT_EQ(missing(empty), Subjects());
  const ByteBuffer sealed = Sealed({ClickOf("10001"), ClickOf("10699"), ClickOf("12000"), ClickOf("12499")});
  EXPECT_EQ(Visible(sealed), Offsets({1, 3})) << "each user by the right number";
}

// A user's key in a registry that was restored may be another than the one that was there before.
TEST_F(ReadRulesTest, LookForUsersAgainWhenTheRegistryMayBeAnother) {
  UseWhere(R"({"users": ["anna"]})");
  EXPECT_EQ(Visible(Sealed({ClickOf("anna")})), Offsets({0}));
  ListedUsers& users = scratch_->listedUsers.Of(*Topic());
  Needs needs;
  EXPECT_TRUE(users.AreKnown(readers_, scratch_->keyCache, needs));
  const_cast<keys::Revocations&>(service_->revocations()).RevokeAll();
  scratch_->keyCache.Refresh();
  EXPECT_FALSE(users.AreKnown(readers_, scratch_->keyCache, needs));
  EXPECT_EQ(needs.keys.scopes.size(), 1u);
}

}  // namespace
}  // namespace kveil::guard
