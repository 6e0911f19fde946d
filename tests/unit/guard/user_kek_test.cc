// Records of users whose keys are mixed with a KEK key: sealed, opened, erased, and not opened without it.
#include <gmock/gmock.h>

#include "absl/strings/str_cat.h"
#include "crypto/envelope.h"
#include "guard_fixture.h"
#include "keys/root/open_root_key.h"

namespace kveil::guard {
namespace {

class UserKekSealTest : public BatchTest {
 protected:
  UserKekSealTest() {
    scratch_.reset();
    service_.reset();
    keys::KeyServiceOptions options = Options();
    options.kekProviders["p"].openKek = [this](std::string_view key) {
      auto kek = keys::OpenRootKey({.file = absl::StrCat(folder_, "/kek-", ToAbsl(key))}, true,
                                   std::chrono::steady_clock::now() + std::chrono::seconds(20));
      EXPECT_TRUE(kek.ok()) << kek.status();
      return *std::move(kek);
    };
    service_ = Open(options);
    NewWorker();
  }
  void NewWorker() { scratch_ = std::make_unique<WorkerScratch>(*service_); }
  void UseKek(const std::string& key) {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}, "keyspace": "people", "kek": {
        "provider": "p", "key": ")" +
              key + R"("}}, "read": [{"any": true}], "onErased": "drop"})");
  }
  void UseNoKek() {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}, "keyspace": "people"},
        "read": [{"any": true}], "onErased": "drop"})");
  }
  // Until the provider has answered.
  ByteBuffer SealedWhenThere(Bytes records) {
    ByteBuffer out;
    SealOutcome outcome;
    EXPECT_TRUE(Eventually([&] {
      outcome = SealBatch(TaskToSeal(records), *scratch_, out);
      if (outcome.kind == SealOutcome::Kind::kNeeds) {
        (void)scratch_->keyCache.Deliver(Ask(*service_, std::move(outcome.needs.keys)));
      }
      return outcome.kind == SealOutcome::Kind::kSealed;
    }));
    return out;
  }
  ByteBuffer SealedFor(const std::vector<std::string>& users) {
    std::vector<TestRecord> records;
    for (const std::string& user : users) records.push_back(ClickOf(user));
    return SealedWhenThere(ProducedBatch(std::move(records)));
  }
  static crypto::EnvelopeHeader EnvelopeIn(const TestRecord& record) {
    const auto header = crypto::ParseEnvelopeHeader(AsBytes(record.headers.back().second.value()));
    EXPECT_TRUE(header.ok()) << header.status();
    return *header;
  }
  uint64_t ErasedIn(Bytes sealed) {
    ByteBuffer out;
    return OpenTo(TaskToOpen(), sealed, out).erased;
  }
  // The batch with other bytes in the envelopes.
  template <typename Change>
  static ByteBuffer WithEnvelopes(Bytes sealed, Change change) {
    std::vector<TestRecord> records = Read(sealed).records;
    for (TestRecord& record : records) change(record.headers.back().second.value());
    return ProducedBatch(std::move(records));
  }
};

TEST_F(UserKekSealTest, ARecordSaysWhichKekKeyItIsUnderAndOpensWithIt) {
  UseKek("one");
  const ByteBuffer sealed = SealedFor({"anna", "anna", "bert"});
  const std::vector<TestRecord> records = Read(sealed).records;
  ASSERT_EQ(records.size(), 3u);
  for (const TestRecord& record : records) {
    const crypto::EnvelopeHeader envelope = EnvelopeIn(record);
    EXPECT_EQ(envelope.flags, crypto::kFlagMaskedKeyId | crypto::kFlagUnderKek);
    EXPECT_EQ(envelope.kekKeyId, EnvelopeIn(records[0]).kekKeyId);
    EXPECT_EQ(record.headers.back().second->size(), crypto::kMaxEnvelopeHeaderByIdSize - 2);
  }
  NewWorker();
  const ReadBatch opened = Opened(sealed);
  ASSERT_EQ(opened.records.size(), 3u);
  EXPECT_EQ(opened.records[2].value, Click("bert"));
}

TEST_F(UserKekSealTest, ATopicThatMovesStaysReadable) {
  UseNoKek();
  const ByteBuffer before = SealedFor({"anna"});
  UseKek("one");
  const ByteBuffer one = SealedFor({"anna"});
  UseKek("two");
  const ByteBuffer two = SealedFor({"anna"});
  EXPECT_FALSE(EnvelopeIn(Read(one).records[0]).kekKeyId == EnvelopeIn(Read(two).records[0]).kekKeyId);
  UseNoKek();
  const ByteBuffer after = SealedFor({"anna"});
  EXPECT_EQ(EnvelopeIn(Read(after).records[0]).flags, crypto::kFlagMaskedKeyId);
  NewWorker();
  for (const ByteBuffer* batch : {&before, &one, &two, &after}) {
    EXPECT_EQ(Opened(*batch).records.at(0).value, Click("anna"));
  }
  Erase("anna");
  for (const ByteBuffer* batch : {&before, &one, &two, &after}) EXPECT_EQ(ErasedIn(*batch), 1u);
  NewWorker();
  for (const ByteBuffer* batch : {&before, &one, &two, &after}) EXPECT_EQ(ErasedIn(*batch), 1u);
}

TEST_F(UserKekSealTest, RecordsOfOneUserUnderSeveralKeksOpenInOneBatch) {
  std::vector<TestRecord> records;
  for (const char* kek : {"one", "two", "one"}) {
    UseKek(kek);
    records.push_back(Read(SealedFor({"anna"})).records.at(0));
  }
  UseNoKek();
  records.push_back(Read(SealedFor({"anna"})).records.at(0));
  NewWorker();
  const ReadBatch opened = Opened(ProducedBatch(std::move(records)));
  ASSERT_EQ(opened.records.size(), 4u);
  for (const TestRecord& record : opened.records) EXPECT_EQ(record.value, Click("anna"));
}

TEST_F(UserKekSealTest, AnotherKekKeyOrNoneOpensNothing) {
  UseKek("two");
  const std::string other(AsText(EnvelopeIn(Read(SealedFor({"bert"})).records[0]).kekKeyId.bytes));
  UseKek("one");
  const ByteBuffer sealed = SealedFor({"anna"});
  for (const bool isKnown : {true, false}) {
    NewWorker();
    if (isKnown) Opened(sealed);
    const auto exchanged =
        WithEnvelopes(sealed, [&](std::string& header) { header.replace(header.size() - 16, 16, other); });
    EXPECT_EQ(OpenAgain(exchanged).reason, observe::RefuseReason::kTampered);
    const auto without = WithEnvelopes(sealed, [](std::string& header) {
      header[1] = static_cast<char>(header[1] & ~crypto::kFlagUnderKek);
      header.resize(header.size() - 16);
    });
    EXPECT_EQ(OpenAgain(without).reason, observe::RefuseReason::kTampered);
    const auto madeUp = WithEnvelopes(sealed, [](std::string& header) { header.back() ^= 1; });
    const std::string reason = [&] {
      ByteBuffer out;
      OpenOutcome outcome;
      EXPECT_TRUE(Eventually([&] {
        outcome = OpenBatch(TaskToOpen(), ViewOf(madeUp), *scratch_, out);
        if (outcome.kind == OpenOutcome::Kind::kNeeds) {
          (void)scratch_->keyCache.Deliver(Ask(*service_, std::move(outcome.needs.keys)));
        }
        return outcome.kind == OpenOutcome::Kind::kStop;
      }));
      EXPECT_EQ(outcome.reason, observe::RefuseReason::kUnknownKey);
      return outcome.problem;
    }();
    EXPECT_EQ(reason, "the registry does not know a record's key or the KEK key it is under");
  }
}

TEST_F(UserKekSealTest, ABatchGrowsByNoMoreThanIsCountedOn) {
  UseKek("one");
  EXPECT_EQ(MostGrowthOf(*Topic()->seal), kMostGrowthOfUsers);
  std::vector<TestRecord> records(1000, Record("k", R"({"user":"a"})"));
  const ByteBuffer produced = ProducedBatch(std::move(records));
  const ByteBuffer sealed = SealedWhenThere(produced);
  EXPECT_GT(sealed.size(), produced.size() + 1000 * kMostGrowth);
  EXPECT_LE(sealed.size(), produced.size() + 1000 * kMostGrowthOfUsers);
}

TEST_F(UserKekSealTest, ATopicThatGetsAKekHasItsBatchesCutAsBefore) {
  const ByteBuffer produced = ProducedBatch(std::vector<TestRecord>(1000, Record("k", R"({"user":"a"})")));
  UseNoKek();
  const auto partsOf = [&](size_t limit) {
    SealTask task = TaskToSeal(produced);
    task.topicLimit = limit;
    ByteBuffer out;
    const SealOutcome outcome = Seal(task, out);
    EXPECT_EQ(outcome.kind, SealOutcome::Kind::kSealed);
    std::vector<int32_t> records;
    for (const SealedPart& part : outcome.parts) records.push_back(part.records);
    return records;
  };
  std::vector<std::vector<int32_t>> before, after;
  for (size_t growth = 40; growth < 90; growth += 5) before.push_back(partsOf(produced.size() + 1000 * growth));
  EXPECT_GT(before.front().size(), 1u);
  EXPECT_EQ(before.back().size(), 1u);
  UseKek("one");
  SealedFor({"a"});
  for (size_t growth = 40; growth < 90; growth += 5) after.push_back(partsOf(produced.size() + 1000 * growth));
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace kveil::guard
