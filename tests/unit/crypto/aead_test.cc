// AES-256-GCM: known answers, both engines alike, and nothing given out that is not authentic.
#include "crypto/aead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "engines.h"
#include "hex.h"
#include "memory_search.h"

namespace kveil::crypto {
namespace {

Nonce NonceAt(uint64_t index) { return NonceOf(Suite::kBatchKey, Salt(), index); }

class EachEngineTest : public testing::TestWithParam<Engine> {
 protected:
  void SetUp() override { ASSERT_TRUE(EngineAvailable(GetParam())) << EngineName(GetParam()) << " cannot run here"; }

  ByteBuffer Seal(GcmKeys& cipher, uint64_t index, std::string_view aad, Bytes plaintext) {
    ByteBuffer sealed(plaintext.size() + kTagSize);
    cipher.Seal(0, NonceAt(index), AsBytes(aad), plaintext, sealed.data());
    return sealed;
  }
};

// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14: key and nonce all zero, as index 0
// gives.
TEST_P(EachEngineTest, GivesThePublishedAnswers) {
  GcmKeys cipher(1, GetParam());
  cipher.Expand(0, SecretKey());
  EXPECT_EQ(ToHex(Seal(cipher, 0, "", {})), "530f8afbc74536b9a963b4f1c4cb738b");
  EXPECT_EQ(ToHex(Seal(cipher, 0, "", ByteBuffer(16, 0))),
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
}

TEST_P(EachEngineTest, OpensWhatItSealedAtEverySize) {
  GcmKeys cipher(1, GetParam());
  cipher.Expand(0, SecretKey::Random());
  for (size_t size = 0; size < 700; ++size) {
    ByteBuffer plaintext(size);
    FillRandom(absl::MakeSpan(plaintext));
    const ByteBuffer sealed = Seal(cipher, size, "topic", plaintext);
    ByteBuffer opened(size);
    ASSERT_TRUE(cipher.Open(0, NonceAt(size), AsBytes("topic"), sealed, opened.data())) << size;
    ASSERT_EQ(opened, plaintext) << size;
  }
}

TEST_P(EachEngineTest, SealsAndOpensInPlace) {
  GcmKeys cipher(1, GetParam());
  cipher.Expand(0, SecretKey::Random());
  ByteBuffer plaintext(333);
  FillRandom(absl::MakeSpan(plaintext));
  ByteBuffer buffer = plaintext;
  buffer.resize(plaintext.size() + kTagSize);
  cipher.Seal(0, NonceAt(9), AsBytes("aad"), Bytes(buffer).first(plaintext.size()), buffer.data());
  EXPECT_EQ(buffer, Seal(cipher, 9, "aad", plaintext));
  ASSERT_TRUE(cipher.Open(0, NonceAt(9), AsBytes("aad"), buffer, buffer.data()));
  buffer.resize(plaintext.size());
  EXPECT_EQ(buffer, plaintext);
}

TEST_P(EachEngineTest, GivesOutNothingWhenAnyBitDiffers) {
  GcmKeys cipher(1, GetParam());
  cipher.Expand(0, SecretKey::Random());
  const ByteBuffer plaintext(40, 0x5a);
  const ByteBuffer sealed = Seal(cipher, 3, "aad", plaintext);
  for (size_t bit = 0; bit < sealed.size() * 8; ++bit) {
    ByteBuffer tampered = sealed;
    tampered[bit / 8] ^= 1 << (bit % 8);
    ByteBuffer out(plaintext.size(), 0xff);
    ASSERT_FALSE(cipher.Open(0, NonceAt(3), AsBytes("aad"), tampered, out.data())) << "bit " << bit;
    ASSERT_EQ(out, ByteBuffer(plaintext.size(), 0)) << "unauthenticated bytes were given out, bit " << bit;
  }
}

TEST_P(EachEngineTest, RefusesAnotherIndexAadKeyOrLength) {
  GcmKeys cipher(1, GetParam());
  const SecretKey key = SecretKey::Random();
  cipher.Expand(0, key);
  const ByteBuffer sealed = Seal(cipher, 3, "aad", ByteBuffer(40, 1));
  ByteBuffer out(64);
  EXPECT_FALSE(cipher.Open(0, NonceAt(4), AsBytes("aad"), sealed, out.data()));
  EXPECT_FALSE(cipher.Open(0, NonceAt(3), AsBytes("aae"), sealed, out.data()));
  EXPECT_FALSE(cipher.Open(0, NonceAt(3), AsBytes(""), sealed, out.data()));
  EXPECT_FALSE(cipher.Open(0, NonceAt(3), AsBytes("aad"), Bytes(sealed).first(sealed.size() - 1), out.data()));
  for (size_t size = 0; size < kTagSize; ++size) {
    EXPECT_FALSE(cipher.Open(0, NonceAt(3), AsBytes("aad"), Bytes(sealed).first(size), out.data()));
  }
  cipher.Expand(0, SecretKey::Random());
  EXPECT_FALSE(cipher.Open(0, NonceAt(3), AsBytes("aad"), sealed, out.data()));
  cipher.Expand(0, key);
  EXPECT_TRUE(cipher.Open(0, NonceAt(3), AsBytes("aad"), sealed, out.data()));
}

TEST_P(EachEngineTest, TakesANewKeyAfterItForgotTheLast) {
  GcmKeys cipher(1, GetParam());
  const SecretKey key = SecretKey::Random();
  cipher.Expand(0, key);
  const ByteBuffer sealed = Seal(cipher, 0, "a", ByteBuffer(5, 1));
  cipher.Wipe(0);
  cipher.Expand(0, key);
  EXPECT_EQ(Seal(cipher, 0, "a", ByteBuffer(5, 1)), sealed);
}

TEST_P(EachEngineTest, KeepsKeysApart) {
  constexpr size_t kCount = 70;
  GcmKeys keys(kCount, GetParam());
  EXPECT_EQ(keys.count(), kCount);
  std::vector<ByteBuffer> sealed(kCount, ByteBuffer(3 + kTagSize));
  for (size_t i = 0; i < kCount; ++i) keys.Expand(i, SecretKey::Random());
  for (size_t i = 0; i < kCount; ++i) keys.Seal(i, NonceAt(0), {}, AsBytes("abc"), sealed[i].data());
  keys.Wipe(7);
  keys.Expand(7, SecretKey::Random());
  ByteBuffer out(3);
  for (size_t i = 0; i < kCount; ++i) {
    keys.Prefetch(i, 100 * i);
    EXPECT_EQ(keys.Open(i, NonceAt(0), {}, sealed[i], out.data()), i != 7) << i;
    EXPECT_FALSE(keys.Open(i, NonceAt(0), {}, sealed[(i + 1) % kCount], out.data())) << i;
  }
}

TEST_P(EachEngineTest, LeavesNothingOfAKeyThatIsWiped) {
  GcmKeys keys(2, GetParam());
  const SecretKey key = SecretKey::Random();
  const MemorySearch search(key);
  keys.Expand(1, key);
  ByteBuffer sealed(40 + kTagSize);
  keys.Seal(1, NonceAt(0), {}, ByteBuffer(40, 1), sealed.data());
  const int before = search.Count();
  keys.Wipe(1);
  EXPECT_LT(search.Count(), before) << "the search itself does not work";
  EXPECT_EQ(search.Count(), 1) << "the key is in this test alone";
}

INSTANTIATE_TEST_SUITE_P(Engines, EachEngineTest, testing::ValuesIn(AvailableEngines()),
                         [](const auto& info) { return info.param == Engine::kIpsecMb ? "IpsecMb" : "OpenSsl"; });

// Where there is only one, it is compared with itself.
TEST(EnginesTest, GiveTheSameBytes) {
  GcmKeys fast(1, DefaultEngine());
  GcmKeys reference(1, Engine::kOpenSsl);
  std::mt19937 random(20240229);
  for (int round = 0; round < 3000; ++round) {
    if (round % 50 == 0) {
      const SecretKey key = SecretKey::Random();
      fast.Expand(0, key);
      reference.Expand(0, key);
    }
    ByteBuffer plaintext(random() % 3000);
    ByteBuffer aad(random() % 120);
    FillRandom(absl::MakeSpan(plaintext));
    FillRandom(absl::MakeSpan(aad));
    const uint64_t index = uint64_t{random()} << 32 | random();
    ByteBuffer one(plaintext.size() + kTagSize);
    ByteBuffer other(plaintext.size() + kTagSize);
    fast.Seal(0, NonceAt(index), aad, plaintext, one.data());
    reference.Seal(0, NonceAt(index), aad, plaintext, other.data());
    ASSERT_EQ(one, other) << "round " << round;
    ByteBuffer opened(plaintext.size());
    ASSERT_TRUE(fast.Open(0, NonceAt(index), aad, other, opened.data()));
    ASSERT_EQ(opened, plaintext);
    ASSERT_TRUE(reference.Open(0, NonceAt(index), aad, one, opened.data()));
    ASSERT_EQ(opened, plaintext);
  }
}

}  // namespace
}  // namespace kveil::crypto
