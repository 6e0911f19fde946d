// No key of a batch outlives the batch, and nothing of an erased person's key outlives the erasure.
#include <gtest/gtest.h>

#include "../crypto/memory_search.h"
#include "crypto/hmac.h"
#include "guard_fixture.h"

namespace kveil::guard {
namespace {

using crypto::MemorySearch;

class BatchKeysWipedTest : public BatchTest {
 protected:
  BatchKeysWipedTest() { UseUserKeys(); }

  keys::ScopeName NameOf(std::string_view user) const { return {keys::Scope::kUser, Topic()->seal->keyspace, user}; }

  // How often the key of that user in that batch is in memory.
  int CountBatchKey(std::string_view user, const ByteBuffer& sealed, size_t record) {
    return BatchKeySearch(user, sealed, record).Count();
  }
  MemorySearch BatchKeySearch(std::string_view user, const ByteBuffer& sealed, size_t record) {
    const std::string header = *Read(sealed).records.at(record).headers.back().second;
    const crypto::Salt salt = crypto::ParseEnvelopeHeader(AsBytes(header))->salt;
    const keys::ScopeKey* const key = scratch_->keyCache.FindForSealing(NameOf(user));
    const crypto::SecretKey batchKey = crypto::DeriveBatchKey(key->key, crypto::Suite::kAes256Gcm, salt);
    MemorySearch search(batchKey);
    EXPECT_GT(search.Count(), 0) << "the search itself does not work";
    return search;
  }
};

TEST_F(BatchKeysWipedTest, AfterSealing) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert"), ClickOf("anna")});
  EXPECT_EQ(CountBatchKey("anna", sealed, 0), 0);
  EXPECT_EQ(CountBatchKey("bert", sealed, 1), 0);
}

TEST_F(BatchKeysWipedTest, AfterOpening) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  ASSERT_EQ(Opened(sealed).records.size(), 2u);
  EXPECT_EQ(CountBatchKey("anna", sealed, 0), 0);
  EXPECT_EQ(CountBatchKey("bert", sealed, 1), 0);
}

TEST_F(BatchKeysWipedTest, AfterABatchThatStopsInTheMiddle) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  std::vector<TestRecord> records = Read(sealed).records;
  records.at(1).value->front() ^= 1;
  const ByteBuffer tampered = ProducedBatch(records);
  EXPECT_EQ(OpenAgain(tampered).kind, OpenOutcome::Kind::kStop);
  EXPECT_EQ(CountBatchKey("anna", sealed, 0), 0);
  EXPECT_EQ(CountBatchKey("bert", sealed, 1), 0);
}

TEST_F(BatchKeysWipedTest, ErasingLeavesNothingOfThePersonsKey) {
  const ByteBuffer sealed = Sealed({ClickOf("anna"), ClickOf("bert")});
  const MemorySearch anna(scratch_->keyCache.FindForSealing(NameOf("anna"))->key);
  const MemorySearch bert(scratch_->keyCache.FindForSealing(NameOf("bert"))->key);
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
  const MemorySearch anna(scratch_->keyCache.FindForSealing(NameOf("anna"))->key);
  Advance(std::chrono::seconds(61));
  scratch_->keyCache.Refresh();
  EXPECT_EQ(anna.Count(), 0);
}

}  // namespace
}  // namespace kveil::guard
