// Readers whose rules ask for a user's consents and attributes.
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "guard/open/batch_opener.h"
#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using observe::RefuseReason;
using Offsets = std::set<int32_t>;

const absl::Time kConsentTime = absl::FromUnixSeconds(1'700'000'000);

users::UserFacts Consenting(absl::Time until = absl::InfiniteFuture()) { return {.consents = {{"marketing", until}}}; }

class ConsentRulesTest : public BatchTest {
 protected:
  // The topic "clicks", with these entries of `read`.
  void UseEntries(const std::string& entries, const std::string& user = R"({"value": "/user"})") {
    policy_ = PolicyOfFile(R"({"purposes": ["marketing", "research"], "topics": [
        {"name": "clicks", "seal": {"scope": "user", "user": )" +
                           user + R"(}, "read": [)" + entries + "]}]}");
    ASSERT_EQ(ReadableBy(*Topic(), reader_, readers_), policy::Readable::kSome);
  }
  void UseWhere(const std::string& where) { UseEntries(R"({"any": true, "where": )" + where + "}"); }
  OpenTask Task() const {
    OpenTask task = TaskToOpen();
    task.readers = &readers_;
    task.reader = &reader_;
    task.now = absl::ToChronoTime(kConsentTime);
    return task;
  }
  // What a worker that has no key yet lets the reader have.
  Offsets Visible(Bytes batch) {
    scratch_ = std::make_unique<WorkerScratch>(*service_);
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(Task(), batch, out);
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kRewritten) << outcome.problem;
    Offsets offsets;
    if (outcome.kind != OpenOutcome::Kind::kRewritten || Read(out).header.isControl()) return offsets;
    for (const TestRecord& record : Read(out).records) offsets.insert(record.offsetDelta);
    return offsets;
  }

  policy::EntrySet readers_;
  identity::Workload reader_;
};

TEST_F(ConsentRulesTest, GiveTheRecordsOfThoseWhoConsent) {
  UseWhere(R"({"consent": "marketing"})");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("carl"), ClickOf("anna")});
  EXPECT_EQ(Visible(sealed), Offsets()) << "nothing is known of anybody";
  Know("anna", Consenting());
  Know("bert", {.consents = {{"research"}}});
  EXPECT_EQ(Visible(sealed), Offsets({0, 3}));
  Know("anna", {});
  EXPECT_EQ(Visible(sealed), Offsets()) << "she has withdrawn it";
}

TEST_F(ConsentRulesTest, KnowWhenAConsentEnds) {
  UseWhere(R"({"consent": "marketing"})");
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  Know("anna", Consenting(kConsentTime + absl::Milliseconds(1)));
  Know("bert", Consenting(kConsentTime));
  EXPECT_EQ(Visible(sealed), Offsets({0}));
}

TEST_F(ConsentRulesTest, DecryptNothingOfThoseWhoDoNot) {
  UseWhere(R"({"consent": "marketing"})");
  Know("anna", Consenting());
  std::vector<TestRecord> records = Read(Sealed({ClickOf("bert"), ClickOf("anna")})).records;
  records[0].value->front() ^= 1;  // it would not open
  EXPECT_EQ(Visible(ProducedBatch(records)), Offsets({1}));
}

TEST_F(ConsentRulesTest, CompareAttributesWithTheReader) {
  identity::Pod pod;
  pod.nameSpace = "shop";
  pod.labels = {{"tenant", "b"}};
  reader_.pod = std::make_shared<const identity::Pod>(std::move(pod));
  UseEntries(R"({"workload": {"namespace": "shop"}, "where": {"attribute": {"name": "tenant", "label": "tenant"}}})");
  Know("anna", {.attributes = {{"tenant", "a"}}});
  Know("bert", {.attributes = {{"tenant", "b"}}});
  EXPECT_EQ(Visible(Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("carl")})), Offsets({1}));
}

TEST_F(ConsentRulesTest, JoinWithUsersAndValues) {
  UseEntries(R"({"any": true, "where": {"consent": "marketing", "users": ["anna"]}},
                {"any": true, "where": {"consent": "research", "value": {"pointer": "/page", "equals": "/home"}}})");
  Know("anna", Consenting());
  Know("bert", Consenting());
  Know("carl", {.consents = {{"research"}}});
  const ByteBuffer sealed =
      Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("carl"), Record("k", R"({"user": "carl", "page": "/x"})")});
  EXPECT_EQ(Visible(sealed), Offsets({0, 2}));
}

// What was decided of one user is not another's.
TEST_F(ConsentRulesTest, TellManyUsersApart) {
  UseWhere(R"({"consent": "marketing", "attribute": {"name": "number", "oneOf": ["7", "70", "123"]}})");
  std::vector<TestRecord> records;
  Offsets expected;
  for (int32_t i = 0; i < 400; ++i) {
    const std::string user = StrCat("u", i % 130);
    users::UserFacts facts = i % 2 == 0 ? users::UserFacts() : Consenting();
    facts.attributes = {{"number", StrCat(i % 130)}};
    if (i < 130) Know(user, std::move(facts));
    records.push_back(ClickOf(user));
    if (i % 130 == 7 || i % 130 == 123) expected.insert(i);
  }
  EXPECT_EQ(Visible(Sealed(records)), expected);
}

// Consents come with the key. Whoever is erased has neither.
TEST_F(ConsentRulesTest, LeaveErasedUsersOut) {
  UseWhere(R"({"consent": "marketing"})");
  Know("anna", Consenting());
  Know("bert", Consenting());
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  Erase("anna");
  EXPECT_EQ(Visible(sealed), Offsets({1}));
  UseEntries(R"({"any": true, "where": {"consent": "marketing"}}, {"any": true, "where": {"newerThan": "1h"}})");
  EXPECT_EQ(Visible(sealed), Offsets({1}));
}

TEST_F(ConsentRulesTest, StopBeforeAKeyOfWhichNobodyKnowsTheUser) {
  UseWhere(R"({"consent": "marketing"})");
  Know("anna", Consenting());
  std::vector<TestRecord> records = Read(Sealed({ClickOf("anna"), ClickOf("anna")})).records;
  (*records[0].headers[0].second)[5] ^= 0x55;  // inside the key id
  ByteBuffer out;
  const OpenOutcome outcome = OpenTo(Task(), ProducedBatch(records), out);
  EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(outcome.reason, RefuseReason::kUnknownKey);
}

// Clear text is of nobody, and so is a tombstone, whoever they name.
TEST_F(ConsentRulesTest, KnowNothingOfRecordsWithoutAnEnvelope) {
  UseEntries(R"({"any": true, "where": {"consent": "marketing"}})", R"({"key": true})");
  Know("anna", Consenting());
  const TestRecord sealed = Read(Sealed({Record("anna", "{}")})).records[0];
  EXPECT_EQ(Visible(ProducedBatch({Record("anna", "forged"), sealed, Record("anna", std::nullopt)})), Offsets({1}));
}

// Nobody can say whether she consents: to leave her records out would lose them.
TEST_F(ConsentRulesTest, StopWhereWhatIsKnownIsDamaged) {
  Know("bert", Consenting());
  facts_["anna"] = users::DamagedFacts();
  const auto outcomeOf = [&](Bytes batch) {
    scratch_ = std::make_unique<WorkerScratch>(*service_);
    ByteBuffer out;
    return OpenTo(Task(), batch, out);
  };
  for (const char* where : {R"({"consent": "marketing"})", R"({"attribute": {"name": "region", "equals": "eu"}})"}) {
    UseWhere(where);
    const OpenOutcome outcome = outcomeOf(Sealed({ClickOf("bert"), ClickOf("anna")}));
    EXPECT_EQ(outcome.kind, OpenOutcome::Kind::kStop);
    EXPECT_EQ(outcome.reason, RefuseReason::kKeysUnavailable);
  }
  const ByteBuffer sealed = Sealed({ClickOf("bert"), ClickOf("anna")});
  UseEntries(R"({"any": true, "where": {"consent": "marketing", "users": ["bert"]}})");
  EXPECT_EQ(Visible(sealed), Offsets({0})) << "the others' consents do not matter";
  UseEntries(R"({"any": true, "where": {"consent": "marketing"}}, {"any": true, "where": {"users": ["anna"]}})");
  EXPECT_EQ(Visible(sealed), Offsets({0, 1})) << "hers may be read in any case";
}

// They name nobody.
TEST_F(ConsentRulesTest, LeaveOldMessageFormatsOut) {
  UseEntries(R"({"any": true, "where": {"consent": "marketing"}})", R"({"key": true})");
  Know("anna", Consenting());
  for (const uint8_t magic : {0, 1}) {
    ByteBuffer message = ProducedBatch({Record("anna", "value")});
    message[16] = magic;
    ByteBuffer out;
    const OpenOutcome outcome = OpenTo(Task(), message, out);
    EXPECT_EQ(outcome.denied, 1u);
    EXPECT_EQ(outcome.plaintext, 0u);
    EXPECT_TRUE(Read(out).header.isControl());
  }
}

}  // namespace
}  // namespace kveil::guard
