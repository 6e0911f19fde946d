// tests/vectors/envelope-v1.json, which another implementation made, against this one: both ways, and the refusals.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "crypto/aead.h"
#include "crypto/envelope.h"
#include "engines.h"
#include "hex.h"
#include "source_dir.h"

namespace kveil::crypto {
namespace {

using Json = nlohmann::json;

Json LoadVectors() {
  std::ifstream file(KVEIL_SOURCE_DIR "/tests/vectors/envelope-v1.json");
  return Json::parse(file, nullptr, false);
}

// One vector's inputs, in our types.
struct Given {
  explicit Given(const Json& json)
      : scopeKey(KeyFromHex(json["scopeKey"].get<std::string>())),
        registrySecret(KeyFromHex(json["registrySecret"].get<std::string>())),
        suite(static_cast<Suite>(json["suite"].get<int>())),
        period(json.value("period", Period{0})),
        flags(json["flags"]),
        index(json["recordIndex"]),
        topic(json["topic"]),
        value(FromHex(json["value"].get<std::string>())) {
    const ByteBuffer saltBytes = FromHex(json["salt"].get<std::string>());
    std::copy(saltBytes.begin(), saltBytes.end(), salt.bytes.begin());
    if (!json["recordKey"].is_null()) recordKey = FromHex(json["recordKey"].get<std::string>());
    if (flags & kFlagInlineKey) {
      kekReference = FromHex(json["kekReference"].get<std::string>());
      wrappedKey = FromHex(json["wrappedKey"].get<std::string>());
    }
    if (flags & kFlagUnderKek) kekKey = KeyFromHex(json["kekKey"].get<std::string>());
  }

  std::optional<Bytes> key() const { return recordKey ? std::optional<Bytes>(*recordKey) : std::nullopt; }

  // What takes the scope key's place.
  SecretKey Mixed() const { return kekKey.has_value() ? KeyUnderKek(scopeKey, *kekKey) : scopeKey.Copy(); }

  SecretKey scopeKey;
  SecretKey registrySecret;
  Salt salt;
  Suite suite;
  Period period;
  uint8_t flags;
  uint64_t index;
  std::string topic;
  std::optional<ByteBuffer> recordKey;
  ByteBuffer value;
  ByteBuffer kekReference;
  ByteBuffer wrappedKey;
  std::optional<SecretKey> kekKey;
};

// The key that the vector's record is sealed with.
SecretKey SealingKey(const SecretKey& scopeKey, Suite suite, const Salt& salt, Period period) {
  return suite == Suite::kPeriodKey ? DerivePeriodKey(scopeKey, period) : DeriveBatchKey(scopeKey, salt);
}

class VectorsTest : public testing::TestWithParam<Engine> {};

TEST_P(VectorsTest, SealToTheSameBytes) {
  const Json vectors = LoadVectors()["vectors"];
  ASSERT_GE(vectors.size(), 16u);
  GcmKeys cipher(1, GetParam());
  for (const Json& vector : vectors) {
    SCOPED_TRACE(vector["name"].get<std::string>());
    const Given given(vector["given"]);
    const Json& expected = vector["expected"];
    EnvelopeHeader header{.suite = given.suite,
                          .flags = given.flags,
                          .keyId = ComputeKeyId(given.scopeKey),
                          .salt = given.salt,
                          .period = given.period,
                          .recordIndex = given.index,
                          .kekReference = given.kekReference,
                          .wrappedKey = given.wrappedKey};
    EXPECT_EQ(ToHex(header.keyId.bytes), expected["keyId"]);
    if (given.kekKey.has_value()) {
      header.kekKeyId = ComputeKeyId(*given.kekKey);
      EXPECT_EQ(ToHex(header.kekKeyId.bytes), expected["kekKeyId"]);
      EXPECT_EQ(ToHex(given.Mixed().bytes()), expected["keyUnderKek"]);
    }
    if (given.flags & kFlagMaskedKeyId) header.keyId = KeyIdMask(given.registrySecret).Mask(header.keyId, given.salt);
    uint8_t bytes[kMaxEnvelopeHeaderSize];
    const Bytes headerValue(bytes, WriteEnvelopeHeader(header, bytes));
    EXPECT_EQ(ToHex(headerValue), expected["header"]);

    TopicAad topic(given.topic);
    const Bytes aad = topic.Of(headerValue, given.key());
    EXPECT_EQ(ToHex(aad), expected["additionalData"]);
    const SecretKey key = SealingKey(given.Mixed(), given.suite, given.salt, given.period);
    EXPECT_EQ(ToHex(key.bytes()), expected["sealingKey"]);
    const Nonce nonce = NonceOf(given.suite, given.salt, given.index);
    EXPECT_EQ(ToHex(nonce.bytes), expected["nonce"]);
    cipher.Expand(0, key);
    ByteBuffer sealed(given.value.size() + kTagSize);
    cipher.Seal(0, nonce, aad, given.value, sealed.data());
    EXPECT_EQ(ToHex(sealed), expected["sealed"]);
  }
}

TEST_P(VectorsTest, OpenFromTheirHeader) {
  GcmKeys cipher(1, GetParam());
  const Json vectors = LoadVectors()["vectors"];
  ASSERT_GE(vectors.size(), 16u);
  for (const Json& vector : vectors) {
    SCOPED_TRACE(vector["name"].get<std::string>());
    const Given given(vector["given"]);
    const ByteBuffer headerValue = FromHex(vector["expected"]["header"].get<std::string>());
    const auto header = ParseEnvelopeHeader(headerValue);
    ASSERT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->recordIndex, given.index);
    EXPECT_EQ(header->kekReference, Bytes(given.kekReference));
    EXPECT_EQ(header->wrappedKey, Bytes(given.wrappedKey));
    if (given.kekKey.has_value()) {
      EXPECT_EQ(header->kekKeyId, ComputeKeyId(*given.kekKey));
    }
    KeyId id = header->keyId;
    if (header->flags & kFlagMaskedKeyId) id = KeyIdMask(given.registrySecret).Unmask(id, header->salt);
    EXPECT_EQ(id, ComputeKeyId(given.scopeKey));

    TopicAad topic(given.topic);
    const Bytes aad = topic.Of(headerValue, given.key());
    cipher.Expand(0, SealingKey(given.Mixed(), header->suite, header->salt, header->period));
    const ByteBuffer sealed = FromHex(vector["expected"]["sealed"].get<std::string>());
    ByteBuffer value(sealed.size() - kTagSize);
    ASSERT_TRUE(cipher.Open(0, NonceOf(header->suite, header->salt, header->recordIndex), aad, sealed, value.data()));
    EXPECT_EQ(value, given.value);
  }
}

INSTANTIATE_TEST_SUITE_P(Engines, VectorsTest, testing::ValuesIn(AvailableEngines()),
                         [](const auto& info) { return info.param == Engine::kIpsecMb ? "IpsecMb" : "OpenSsl"; });

TEST(VectorsOfHeadersTest, ThatMustBeRefusedAreRefused) {
  const Json refused = LoadVectors()["refusedHeaders"];
  ASSERT_GE(refused.size(), 19u);
  for (const Json& entry : refused) {
    EXPECT_FALSE(ParseEnvelopeHeader(FromHex(entry["header"].get<std::string>())).ok()) << entry["why"];
  }
}

}  // namespace
}  // namespace kveil::crypto
