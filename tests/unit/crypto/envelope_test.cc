// The header's bytes: written and read the same, and everything that is not exactly version 1 refused.
#include "crypto/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "hex.h"

namespace kveil::crypto {
namespace {

using testing::HasSubstr;

EnvelopeHeader HeaderById() {
  EnvelopeHeader header;
  header.flags = kFlagMaskedKeyId;
  for (size_t i = 0; i < header.keyId.bytes.size(); ++i) header.keyId.bytes[i] = static_cast<uint8_t>(0xa0 + i);
  for (size_t i = 0; i < header.salt.bytes.size(); ++i) header.salt.bytes[i] = static_cast<uint8_t>(0x50 + i);
  header.recordIndex = 300;
  return header;
}

EnvelopeHeader HeaderOfAPeriod() {
  EnvelopeHeader header = HeaderById();
  header.suite = Suite::kPeriodKey;
  header.period = 0xa4a3;
  return header;
}

EnvelopeHeader HeaderUnderKek() {
  EnvelopeHeader header = HeaderOfAPeriod();
  header.flags |= kFlagUnderKek;
  header.kekKeyId.bytes.fill(0xcc);
  return header;
}

EnvelopeHeader HeaderInline() {
  EnvelopeHeader header = HeaderById();
  header.flags = kFlagInlineKey | kFlagCompressedValue;
  header.kekReference = AsBytes("kek-7");
  static const ByteBuffer wrapped(200, 0xee);
  header.wrappedKey = wrapped;
  return header;
}

ByteBuffer Write(const EnvelopeHeader& header) {
  ByteBuffer out(kMaxEnvelopeHeaderSize);
  out.resize(WriteEnvelopeHeader(header, out.data()));
  return out;
}

std::string Refusal(Bytes value) { return std::string(ParseEnvelopeHeader(value).status().message()); }

TEST(EnvelopeHeaderTest, HasTheBytesOfTheSpecification) {
  EXPECT_EQ(ToHex(Write(HeaderById())),
            "1108"
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
            "505152535455565758595a5b"
            "ac02");
  EXPECT_EQ(ToHex(Bytes(Write(HeaderInline())).subspan(30, 10)), "ac02056b656b2d37c801");
  EXPECT_EQ(ToHex(Write(HeaderOfAPeriod())),
            "1208"
            "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"
            "505152535455565758595a5b"
            "a4a3"
            "ac02");
}

TEST(EnvelopeHeaderTest, ReadsBackWhatWasWritten) {
  const ByteBuffer written = Write(HeaderInline());
  const auto header = ParseEnvelopeHeader(written);
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->suite, Suite::kBatchKey);
  EXPECT_EQ(header->flags, kFlagInlineKey | kFlagCompressedValue);
  EXPECT_EQ(header->keyId, HeaderInline().keyId);
  EXPECT_EQ(header->salt, HeaderInline().salt);
  EXPECT_EQ(header->recordIndex, 300u);
  EXPECT_EQ(AsText(header->kekReference), "kek-7");
  EXPECT_EQ(header->wrappedKey, HeaderInline().wrappedKey);
  const auto ofAPeriod = ParseEnvelopeHeader(Write(HeaderOfAPeriod()));
  ASSERT_TRUE(ofAPeriod.ok()) << ofAPeriod.status();
  EXPECT_EQ(ofAPeriod->suite, Suite::kPeriodKey);
  EXPECT_EQ(ofAPeriod->period, 0xa4a3);
  EXPECT_EQ(ofAPeriod->salt, HeaderOfAPeriod().salt);
  EXPECT_EQ(ofAPeriod->recordIndex, 300u);
}

TEST(EnvelopeHeaderTest, KeepsEveryRecordIndexInAtMostThreeBytes) {
  for (uint64_t index :
       {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{16383}, uint64_t{16384}, kMaxRecordIndex}) {
    EnvelopeHeader header = HeaderById();
    header.recordIndex = index;
    const ByteBuffer written = Write(header);
    EXPECT_LE(written.size(), kMaxEnvelopeHeaderByIdSize);
    EXPECT_EQ(written.size(), 31u + (index > 127) + (index > 16383));
    EXPECT_EQ(ParseEnvelopeHeader(written)->recordIndex, index);
    header.suite = Suite::kPeriodKey;
    EXPECT_EQ(Write(header).size(), written.size() + 2);
    EXPECT_LE(Write(header).size(), kMaxEnvelopeHeaderByIdSize);
  }
}

TEST(EnvelopeHeaderTest, RefusesOtherVersionsSuitesAndFlags) {
  ByteBuffer value = Write(HeaderById());
  value[0] = 0x21;
  EXPECT_THAT(Refusal(value), HasSubstr("version 2"));
  for (int suite : {0, 3, 15}) {
    value[0] = static_cast<uint8_t>(0x10 + suite);
    EXPECT_THAT(Refusal(value), HasSubstr(StrCat("suite ", suite)));
  }
  value[0] = 0x11;
  for (int bit = 5; bit < 8; ++bit) {
    value[1] = static_cast<uint8_t>(1 << bit);
    EXPECT_THAT(Refusal(value), HasSubstr("flags"));
  }
}

TEST(EnvelopeHeaderTest, RefusesEveryTruncationAndAnyByteLeftOver) {
  for (const EnvelopeHeader& header : {HeaderById(), HeaderOfAPeriod(), HeaderInline(), HeaderUnderKek()}) {
    ByteBuffer value = Write(header);
    for (size_t size = 0; size < value.size(); ++size) {
      // A copy of exactly that size, so that a sanitizer sees a read beyond it.
      const ByteBuffer cut(value.begin(), value.begin() + static_cast<ptrdiff_t>(size));
      EXPECT_FALSE(ParseEnvelopeHeader(cut).ok()) << size;
    }
    value.push_back(0);
    EXPECT_THAT(Refusal(value), HasSubstr("left over"));
  }
}

TEST(EnvelopeHeaderTest, RefusesVarintsThatAreTooLongOrTooLarge) {
  const ByteBuffer prefix(FromHex("1100" + std::string(56, '7')));
  for (std::string_view index : {"8000", "ff00", "80808001", "808080808001", "ffffffff0f"}) {
    ByteBuffer value = prefix;
    for (uint8_t byte : FromHex(index)) value.push_back(byte);
    EXPECT_THAT(Refusal(value), HasSubstr("record index")) << index;
  }
}

TEST(EnvelopeHeaderTest, RefusesEmptyOrOversizedInlineParts) {
  const ByteBuffer prefix(FromHex("1101" + std::string(56, '7') + "00"));
  for (std::string_view rest : {"00", "0161", "016100", "8002", "01618008"}) {
    ByteBuffer value = prefix;
    for (uint8_t byte : FromHex(rest)) value.push_back(byte);
    value.resize(value.size() + (rest.size() > 4 && rest.back() == '8' ? 1024 : 0));
    EXPECT_FALSE(ParseEnvelopeHeader(value).ok()) << rest;
  }
}

TEST(EnvelopeHeaderTest, IsRestoredFromBase64Text) {
  ByteBuffer scratch;
  for (const EnvelopeHeader& header : {HeaderById(), HeaderOfAPeriod()}) {
    const ByteBuffer written = Write(header);
    const std::string text = absl::Base64Escape(ToAbsl(AsText(written)));
    EXPECT_EQ(RestoreEnvelopeHeader(AsBytes(text), scratch), Bytes(written));
    EXPECT_EQ(RestoreEnvelopeHeader(written, scratch).data(), written.data());
  }
  const std::string notBase64 = "E*";
  EXPECT_EQ(AsText(RestoreEnvelopeHeader(AsBytes(notBase64), scratch)), notBase64);
}

ByteBuffer Aad(std::string_view header, std::string_view topic, std::optional<std::string_view> key) {
  TopicAad aad(topic);
  const Bytes built = aad.Of(AsBytes(header), key ? std::optional<Bytes>(AsBytes(*key)) : std::nullopt);
  return ByteBuffer(built.begin(), built.end());
}

TEST(AadTest, HasTheBytesOfTheSpecification) {
  EXPECT_EQ(ToHex(Aad("\x11\x01", "orders", std::nullopt)), "1101066f726465727300");
  EXPECT_EQ(ToHex(Aad("\x11\x01", "orders", "")), "1101066f72646572730100");
  EXPECT_EQ(ToHex(Aad("\x11\x01", "orders", "k")),
            "1101066f7264657273"
            "01016b");
  EXPECT_EQ(Aad("", "", std::string(300, 'k')).size(), 1u + 1 + 2 + 300);
}

TEST(AadTest, TellsNullFromEmptyAndTopicFromKey) {
  EXPECT_NE(Aad("h", "t", std::nullopt), Aad("h", "t", ""));
  EXPECT_NE(Aad("h", "ab", "c"), Aad("h", "a", "bc"));
}

// Header values and keys of every length, as they follow each other in a topic.
TEST(AadTest, IsTheSameWhateverCameBefore) {
  TopicAad aad("orders");
  const std::string text(3000, 'x');
  for (size_t i = 0; i < 4000; ++i) {
    const std::string_view header = std::string_view(text).substr(0, i * 7 % (kMaxEnvelopeHeaderSize + 1));
    std::optional<std::string_view> key;
    if (i % 3 != 0) key = std::string_view(text).substr(0, i * 11 % (i % 5 == 0 ? 3000 : 70));
    const Bytes built = aad.Of(AsBytes(header), key ? std::optional<Bytes>(AsBytes(*key)) : std::nullopt);
    ASSERT_EQ(built, Bytes(Aad(header, "orders", key))) << i;
  }
}

TEST(AadTest, AllocatesNothingForAnotherRecord) {
  TopicAad aad("orders");
  const uint8_t* const memory = aad.Of(AsBytes("header"), AsBytes("key")).data();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(aad.Of(AsBytes("header"), AsBytes("another key")).data(), memory);
}

}  // namespace
}  // namespace kveil::crypto
