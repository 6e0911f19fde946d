// No key of a batch outlives the batch, and nothing of an erased person's key outlives the erasure.
#include <gtest/gtest.h>

#include "../crypto/memory_search.h"
#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using crypto::MemorySearch;

class BatchKeysWipedTest : public BatchTest {
 protected:
  BatchKeysWipedTest() { UseUserKeys(); }

  keys::ScopeName NameOf(std::string_view user) const { return {keys::Scope::kUser, Topic()->seal->keyspace, user}; }
  const keys::CachedKey& KeyOf(std::string_view user) { return *scratch_->keyCache.FindForSealing(NameOf(user)); }
  static crypto::EnvelopeHeader HeaderOf(const ByteBuffer& sealed, size_t record) {
    const std::string header = *Read(sealed).records.at(record).headers.back().second;
    return *crypto::ParseEnvelopeHeader(AsBytes(header));
  }

  // How often the key of that batch is in memory.
  int CountBatchKey(const keys::CachedKey& key, const ByteBuffer& sealed, size_t record = 0) {
    const crypto::EnvelopeHeader header = HeaderOf(sealed, record);
    EXPECT_EQ(header.suite, crypto::Suite::kBatchKey);
    const MemorySearch search = Search(crypto::DeriveBatchKey(key.key, header.salt));
    return search.Count();
  }
  MemorySearch PeriodKeySearch(std::string_view user, const ByteBuffer& sealed, size_t record) {
    const crypto::EnvelopeHeader header = HeaderOf(sealed, record);
    EXPECT_EQ(header.suite, crypto::Suite::kPeriodKey);
    return Search(crypto::DerivePeriodKey(KeyOf(user).key, header.period));
  }
  static MemorySearch Search(const crypto::SecretKey& key) {
    MemorySearch search(key);
    EXPECT_GT(search.Count(), 0) << "the search itself does not work";
    return search;
  }

  // The topic's key.
  const keys::CachedKey& UseATopicKey() {
    UseTopicKey();
    const ByteBuffer sealed = Sealed({ClickOf("anna")});
    return *scratch_->keyCache.FindById(HeaderOf(sealed, 0).keyId).key;
  }
};

TEST_F(BatchKeysWipedTest, AfterSealing) {
  const keys::CachedKey& key = UseATopicKey();
  EXPECT_EQ(CountBatchKey(key, Sealed({ClickOf("anna"), ClickOf("bert")})), 0);
}

TEST_F(BatchKeysWipedTest, AfterOpening) {
  const keys::CachedKey& key = UseATopicKey();
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  ASSERT_EQ(Opened(sealed).records.size(), 2u);
  EXPECT_EQ(CountBatchKey(key, sealed), 0);
}

TEST_F(BatchKeysWipedTest, AfterABatchThatStopsInTheMiddle) {
  const keys::CachedKey& key = UseATopicKey();
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  std::vector<TestRecord> records = Read(sealed).records;
  records.at(1).value->front() ^= 1;
  EXPECT_EQ(OpenAgain(ProducedBatch(records)).kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(CountBatchKey(key, sealed), 0);
}

TEST_F(BatchKeysWipedTest, OfAUserWithVeryManyRecords) {
  Sealed({ClickOf("anna")});
  scratch_->keyCache.FindForSealing(NameOf("anna"))->sealed = keys::KeyCache::kMostUnderAPeriodKey;
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  ASSERT_EQ(Opened(sealed).records.size(), 2u);
  EXPECT_EQ(CountBatchKey(KeyOf("anna"), sealed), 0);
}

TEST_F(BatchKeysWipedTest, ErasingLeavesNothingOfThePersonsPeriodKey) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  const MemorySearch anna = PeriodKeySearch("anna", sealed, 0);
  const MemorySearch bert = PeriodKeySearch("bert", sealed, 1);
  ASSERT_EQ(Opened(sealed).records.size(), 2u);
  EXPECT_GE(anna.Count(), 2) << "it is not kept, expanded, for the next batch";
  Erase("anna");
  scratch_->keyCache.Refresh();
  EXPECT_EQ(anna.Count(), 0);
  EXPECT_GE(bert.Count(), 2);
}

TEST_F(BatchKeysWipedTest, APeriodKeyThatIsTooOldLeavesNothing) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  const MemorySearch anna = PeriodKeySearch("anna", sealed, 0);
  Advance(std::chrono::seconds(61));
  scratch_->keyCache.Refresh();
  EXPECT_EQ(anna.Count(), 0);
}

TEST_F(BatchKeysWipedTest, ErasingLeavesNothingOfThePersonsKey) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  const MemorySearch anna(KeyOf("anna").key);
  const MemorySearch bert(KeyOf("bert").key);
  ASSERT_EQ(Opened(sealed).records.size(), 2u);
  // The last key that a batch key was derived with is anna's.
  Sealed({ClickOf("anna")});
  ASSERT_GT(anna.Count(), 0) << "the search itself does not work";
  Erase("anna");
  scratch_->keyCache.Refresh();
  EXPECT_EQ(anna.Count(), 0);
  EXPECT_GT(bert.Count(), 0);
}

TEST_F(BatchKeysWipedTest, AKeyThatIsTooOldLeavesNothing) {
  Sealed({ClickOf("anna")});
  const MemorySearch anna(KeyOf("anna").key);
  Advance(std::chrono::seconds(61));
  scratch_->keyCache.Refresh();
  EXPECT_EQ(anna.Count(), 0);
}

}  // namespace
}  // namespace kveil::guard
