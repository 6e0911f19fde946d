// What a key in memory promises: it moves, it is wiped, it is compared without telling where it differs.
#include "crypto/secret.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <type_traits>

namespace kveil::crypto {
namespace {

bool AllZero(Bytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

TEST(SecretKeyTest, IsNotCopiedByAccident) {
  static_assert(!std::is_copy_constructible_v<SecretKey>);
  static_assert(!std::is_copy_assignable_v<SecretKey>);
  static_assert(std::is_nothrow_move_constructible_v<SecretKey>);
}

TEST(SecretKeyTest, TwoRandomKeysDiffer) { EXPECT_FALSE(SecretKey::Random().Equals(SecretKey::Random())); }

TEST(SecretKeyTest, MovingWipesTheSource) {
  SecretKey first = SecretKey::Random();
  SecretKey original = first.Copy();
  SecretKey second = std::move(first);
  EXPECT_TRUE(second.Equals(original));
  EXPECT_TRUE(AllZero(first.bytes()));
  SecretKey third;
  third = std::move(second);
  EXPECT_TRUE(third.Equals(original));
  EXPECT_TRUE(AllZero(second.bytes()));
}

TEST(SecretKeyTest, DestructionWipes) {
  alignas(SecretKey) uint8_t memory[sizeof(SecretKey)];
  auto* key = new (memory) SecretKey(SecretKey::Random());
  ASSERT_FALSE(AllZero(memory));
  key->~SecretKey();
  EXPECT_TRUE(AllZero(memory));
}

TEST(SecretKeyTest, RefusesOtherSizes) {
  const ByteBuffer bytes(33, 7);
  EXPECT_EQ(SecretKey::FromBytes(bytes).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(SecretKey::FromBytes(Bytes(bytes).first(31)).ok());
  EXPECT_TRUE(SecretKey::FromBytes(Bytes(bytes).first(32)).ok());
}

}  // namespace
}  // namespace kveil::crypto
