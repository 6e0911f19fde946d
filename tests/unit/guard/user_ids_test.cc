// The same person is one key, whatever form the id has; and whatever was sealed can be erased by its id.
#include <gtest/gtest.h>

#include <random>

#include "guard_fixture.h"

namespace kveil::guard {
namespace {

class UserIdsTest : public BatchTest {
 protected:
  UserIdsTest() {
    UsePolicy(R"({"name": "clicks", "seal": {"scope": "user", "user": {"value": "/user"}, "keyspace": "people"},
                  "read": [{"any": true}]},
                 {"name": "text", "seal": {"scope": "user", "user": {"key": true}, "keyspace": "people"}},
                 {"name": "int64", "seal": {"scope": "user", "user": {"key": true, "as": "int64"},
                                            "keyspace": "people"}},
                 {"name": "uuid", "seal": {"scope": "user", "user": {"key": true, "as": "uuid"}, "keyspace": "people"}},
                 {"name": "hex", "seal": {"scope": "user", "user": {"key": true, "as": "hex"}, "keyspace": "people"}},
                 {"name": "base64", "seal": {"scope": "user", "user": {"key": true, "as": "base64"},
                                             "keyspace": "people"}})");
  }
  // With the user in its key.
  SealOutcome SealKey(const std::string& topic, const std::string& key) {
    ByteBuffer out;
    const ByteBuffer batch = ProducedBatch({Record(key, "{}")});
    return Seal(TaskToSeal(batch, topic), out);
  }
};

TEST_F(UserIdsTest, ANumberInJsonAndALongSerializersKeyAreOnePerson) {
  const ByteBuffer clicks = Sealed({Record("k", R"({"user": 38})")});
  const std::string eight("\0\0\0\0\0\0\0\x26", 8);
  EXPECT_EQ(SealKey("int64", eight).afterErasure, 0u);
  const auto erased = service_->Erase(std::nullopt, "38");
  ASSERT_TRUE(erased.ok()) << erased.status();
  EXPECT_EQ(erased->keyCount, 1u) << "one key in both topics";
  EXPECT_EQ(OpenAgain(clicks).erased, 1u);
  scratch_->keyCache.Refresh();
  EXPECT_EQ(SealKey("int64", eight).afterErasure, 1u);
}

// No registry holds a key that nobody can name.
TEST_F(UserIdsTest, WhateverIsSealedCanBeErased) {
  std::mt19937 random(std::random_device{}());
  size_t sealed = 0;
  for (int i = 0; i < 40; ++i) {
    std::string key(std::vector<size_t>{1, 8, 16, 36, 300}[random() % 5], ' ');
    const bool isText = random() % 2 == 0;
    for (char& byte : key) byte = static_cast<char>(isText ? '!' + random() % 90 : random());
    for (size_t as = 0; as < formats::kIdEncodingNames.size(); ++as) {
      const std::string topic(formats::kIdEncodingNames[as]);
      const SealOutcome outcome = SealKey(topic, key);
      std::string scratch;
      std::string_view id;
      const formats::IdProblem problem =
          formats::IdOfBytes(static_cast<formats::IdEncoding>(as), AsBytes(key), scratch, id);
      ASSERT_EQ(outcome.kind == SealOutcome::Kind::kSealed, problem == formats::IdProblem::kNone) << topic;
      if (problem != formats::IdProblem::kNone) {
        EXPECT_EQ(outcome.refusal.code, kafka::ErrorCode::kInvalidRecord);
        EXPECT_EQ(outcome.refusal.records.at(0).message, formats::Explain(problem));
        continue;
      }
      ++sealed;
      const auto erased = service_->Erase("people", id);
      EXPECT_TRUE(erased.ok() || keys::ErasedBefore(erased.status()).has_value()) << erased.status();
    }
  }
  EXPECT_GT(sealed, 20u);
}

}  // namespace
}  // namespace kveil::guard
