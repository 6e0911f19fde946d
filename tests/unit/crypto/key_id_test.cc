// Key ids commit, masks hide and come off again, batch keys differ, wrapped keys are bound to what they are for.
#include "crypto/key_id.h"

#include <gtest/gtest.h>

#include "crypto/hmac.h"
#include "crypto/key_wrap.h"
#include "hex.h"

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

TEST(KeyIdTest, DiffersByKeyAndStaysTheSameForOne) {
  const SecretKey key = SecretKey::Random();
  EXPECT_EQ(ComputeKeyId(key), ComputeKeyId(key));
  EXPECT_FALSE(ComputeKeyId(key) == ComputeKeyId(SecretKey::Random()));
}

TEST(BatchKeyTest, DependsOnScopeKeyAndSalt) {
  const SecretKey key = SecretKey::Random();
  const Salt salt = RandomSalt();
  const SecretKey batchKey = DeriveBatchKey(key, Suite::kAes256Gcm, salt);
  EXPECT_TRUE(batchKey.Equals(DeriveBatchKey(key, Suite::kAes256Gcm, salt)));
  EXPECT_FALSE(batchKey.Equals(DeriveBatchKey(key, Suite::kAes256Gcm, RandomSalt())));
  EXPECT_FALSE(batchKey.Equals(DeriveBatchKey(SecretKey::Random(), Suite::kAes256Gcm, salt)));
  EXPECT_FALSE(batchKey.Equals(key));
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

TEST(WrappedKeyTest, NeverLooksTheSameTwice) {
  const SecretKey wrapping = SecretKey::Random();
  const SecretKey key = SecretKey::Random();
  EXPECT_NE(WrapKey(wrapping, key, {}), WrapKey(wrapping, key, {}));
}

}  // namespace
}  // namespace kveil::crypto
