// Key ids commit, masks hide and come off again, batch keys differ, wrapped keys are bound to what they are for.
#include "crypto/key_id.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "crypto/hmac.h"
#include "crypto/key_wrap.h"
#include "hex.h"
#include "memory_search.h"

namespace kveil::crypto {
namespace {

// RFC 4231 has no case with a key of 32 bytes; HMAC pads with zeros, so case 2's key "Jefe" may be padded here.
TEST(HmacTest, GivesThePublishedAnswer) {
  ByteBuffer key(32, 0);
  std::copy_n("Jefe", 4, key.begin());
  const Bytes parts[] = {AsBytes("what do ya want "), Bytes(), AsBytes("for nothing?")};
  uint8_t out[kHmacSize];
  HmacSha256(*SecretKey::FromBytes(key), parts, out);
  EXPECT_EQ(ToHex(out), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(HmacTest, LeavesNothingOfTheKey) {
  const SecretKey key = SecretKey::Random();
  const MemorySearch search(key);
  const int before = search.Count();
  const Bytes parts[] = {AsBytes("message")};
  uint8_t out[kHmacSize];
  HmacSha256(key, parts, out);
  EXPECT_EQ(search.Count(), before);
}

TEST(KeyIdTest, DiffersByKeyAndStaysTheSameForOne) {
  const SecretKey key = SecretKey::Random();
  EXPECT_EQ(ComputeKeyId(key), ComputeKeyId(key));
  EXPECT_FALSE(ComputeKeyId(key) == ComputeKeyId(SecretKey::Random()));
}

TEST(BatchKeyTest, DependsOnScopeKeyAndSalt) {
  const SecretKey key = SecretKey::Random();
  const Salt salt = RandomSalt();
  const SecretKey batchKey = DeriveBatchKey(key, salt);
  EXPECT_TRUE(batchKey.Equals(DeriveBatchKey(key, salt)));
  EXPECT_FALSE(batchKey.Equals(DeriveBatchKey(key, RandomSalt())));
  EXPECT_FALSE(batchKey.Equals(DeriveBatchKey(SecretKey::Random(), salt)));
  EXPECT_FALSE(batchKey.Equals(key));
}

TEST(PeriodKeyTest, DependsOnScopeKeyAndPeriod) {
  const SecretKey key = SecretKey::Random();
  const SecretKey periodKey = DerivePeriodKey(key, 0xa4a3);
  EXPECT_TRUE(periodKey.Equals(DerivePeriodKey(key, 0xa4a3)));
  for (const Period other : {0xa4a2, 0xa3a4, 0x00a3, 0xa400})
    EXPECT_FALSE(periodKey.Equals(DerivePeriodKey(key, other)));
  EXPECT_FALSE(periodKey.Equals(DerivePeriodKey(SecretKey::Random(), 0xa4a3)));
  EXPECT_FALSE(periodKey.Equals(key));
}

TEST(PeriodTest, LastsFourAndAHalfHoursAndComesBackAfter34Years) {
  EXPECT_EQ(PeriodAt(0), 0);
  EXPECT_EQ(PeriodAt(16383), 0);
  EXPECT_EQ(PeriodAt(16384), 1);
  EXPECT_EQ(PeriodAt(int64_t{16384} * 65536 + 5), 0);
  EXPECT_EQ(PeriodAt(-1), 65535) << "a clock before 1970";
}

TEST(NonceTest, OfABatchKeyIsTheIndex) {
  Salt salt;
  salt.bytes.fill(0xff);
  EXPECT_EQ(ToHex(NonceOf(Suite::kBatchKey, salt, 0x1234567).bytes), "000000000000000001234567");
}

TEST(NonceTest, OfAPeriodKeyIsTheSumWithTheSalt) {
  const auto sum = [](std::string_view hex, uint64_t index) {
    const ByteBuffer bytes = FromHex(std::string(hex));
    Salt salt;
    std::copy(bytes.begin(), bytes.end(), salt.bytes.begin());
    return ToHex(NonceOf(Suite::kPeriodKey, salt, index).bytes);
  };
  EXPECT_EQ(sum("5835371e8219495537c82adc", 0), "5835371e8219495537c82adc");
  EXPECT_EQ(sum("5835371e8219495537c82adc", 300), "5835371e8219495537c82c08");
  EXPECT_EQ(sum("00000000ffffffffffffffff", 1), "000000010000000000000000");
  EXPECT_EQ(sum("01ffffffffffffffffffffff", 2), "020000000000000000000001");
  EXPECT_EQ(sum("ffffffffffffffffffffffff", 0x1fffff), "0000000000000000001ffffe");
}

TEST(KeyIdMaskTest, MasksManyAsItMasksEach) {
  KeyIdMask mask(SecretKey::Random());
  const Salt salt = RandomSalt();
  std::vector<KeyId> ids(65);
  for (KeyId& id : ids) id = ComputeKeyId(SecretKey::Random());
  std::vector<KeyId> masked = ids;
  mask.Mask(absl::MakeSpan(masked), salt);
  std::vector<Salt> salts(ids.size(), salt);
  salts.back() = RandomSalt();
  masked.back() = mask.Mask(ids.back(), salts.back());
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(masked[i], mask.Mask(ids[i], salts[i])) << i;
  mask.Unmask(absl::MakeSpan(masked), salts);
  EXPECT_EQ(masked, ids);
  mask.Mask(absl::Span<KeyId>(), salt);
}

TEST(KeyIdMaskTest, ComesOffUnderTheSameSecretAndSalt) {
  const SecretKey secret = SecretKey::Random();
  KeyIdMask writer(secret);
  KeyIdMask reader(secret);
  for (int i = 0; i < 100; ++i) {
    const KeyId id = ComputeKeyId(SecretKey::Random());
    const Salt salt = RandomSalt();
    const KeyId masked = writer.Mask(id, salt);
    EXPECT_FALSE(masked == id);
    EXPECT_EQ(reader.Unmask(masked, salt), id);
    EXPECT_FALSE(reader.Unmask(masked, RandomSalt()) == id);
  }
}

TEST(KeyIdMaskTest, GivesOneKeyAnotherFaceInEachBatch) {
  KeyIdMask mask(SecretKey::Random());
  const KeyId id = ComputeKeyId(SecretKey::Random());
  EXPECT_FALSE(mask.Mask(id, RandomSalt()) == mask.Mask(id, RandomSalt()));
}

TEST(WrappedKeyTest, ComesBackUnderTheSameKeyAndPurposeOnly) {
  const SecretKey wrapping = SecretKey::Random();
  const SecretKey key = SecretKey::Random();
  const ByteBuffer wrapped = WrapKey(wrapping, key, AsBytes("row 1"));
  ASSERT_EQ(wrapped.size(), kWrappedKeySize);
  EXPECT_TRUE(UnwrapKey(wrapping, wrapped, AsBytes("row 1"))->Equals(key));
  EXPECT_EQ(UnwrapKey(wrapping, wrapped, AsBytes("row 2")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(UnwrapKey(SecretKey::Random(), wrapped, AsBytes("row 1")).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(UnwrapKey(wrapping, Bytes(wrapped).first(59), AsBytes("row 1")).ok());
  for (size_t i = 0; i < wrapped.size(); ++i) {
    ByteBuffer tampered = wrapped;
    tampered[i] ^= 0x10;
    EXPECT_FALSE(UnwrapKey(wrapping, tampered, AsBytes("row 1")).ok()) << i;
  }
}

SecretKey Counting(uint8_t first) {
  SecretKey key;
  for (size_t i = 0; i < SecretKey::kSize; ++i) key.writable()[i] = static_cast<uint8_t>(first + i);
  return key;
}

// As Python's hmac has it.
TEST(WrappedKeyTest, OfAKnownIdIsAsLongAsTheKeyAndIsWhatOthersCompute) {
  const SecretKey key = Counting(0x80);
  const ByteBuffer wrapped = WrapKnownKey(Counting(0), key, AsBytes("row 1"));
  EXPECT_EQ(ToHex(wrapped), "502798966c7a0b060dc62741fec9b5c00daf6c036a39a2e908bfe9d01b13be1e");
  EXPECT_TRUE(UnwrapKnownKey(Counting(0), wrapped, AsBytes("row 1"))->Equals(key));
}

TEST(WrappedKeyTest, OfAKnownIdGivesThatIdUnderTheSameKeyAndPurposeOnly) {
  const SecretKey wrapping = SecretKey::Random();
  const SecretKey key = SecretKey::Random();
  const KeyId id = ComputeKeyId(key);
  const ByteBuffer wrapped = WrapKnownKey(wrapping, key, AsBytes("row 1"));
  EXPECT_FALSE(ComputeKeyId(*UnwrapKnownKey(wrapping, wrapped, AsBytes("row 2"))) == id);
  EXPECT_FALSE(ComputeKeyId(*UnwrapKnownKey(SecretKey::Random(), wrapped, AsBytes("row 1"))) == id);
  EXPECT_EQ(UnwrapKnownKey(wrapping, Bytes(wrapped).first(31), AsBytes("row 1")).status().code(),
            absl::StatusCode::kDataLoss);
  for (size_t i = 0; i < wrapped.size(); ++i) {
    ByteBuffer tampered = wrapped;
    tampered[i] ^= 0x10;
    EXPECT_FALSE(ComputeKeyId(*UnwrapKnownKey(wrapping, tampered, AsBytes("row 1"))) == id) << i;
  }
}

TEST(WrappedKeyTest, NeverLooksTheSameTwice) {
  const SecretKey wrapping = SecretKey::Random();
  const SecretKey key = SecretKey::Random();
  EXPECT_NE(WrapKey(wrapping, key, {}), WrapKey(wrapping, key, {}));
}

}  // namespace
}  // namespace kveil::crypto
