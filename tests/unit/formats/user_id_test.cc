// The one spelling of an id, out of each form that it may come in.
#include "formats/user_id.h"

#include <gtest/gtest.h>

#include <random>

namespace kveil::formats {
namespace {

std::string Spelled(IdProblem problem, std::string_view id) {
  if (problem == IdProblem::kNone) return std::string(id);
  return "problem: " + std::string(Explain(problem));
}
std::string OfBytes(IdEncoding encoding, std::string_view bytes) {
  std::string scratch;
  std::string_view id;
  const IdProblem problem = IdOfBytes(encoding, AsBytes(bytes), scratch, id);
  return Spelled(problem, id);
}
std::string OfText(IdEncoding encoding, std::string_view text) {
  std::string scratch;
  std::string_view id;
  const IdProblem problem = IdOfText(encoding, text, scratch, id);
  return Spelled(problem, id);
}
std::string OfNumber(IdEncoding encoding, std::string_view number) {
  std::string_view id;
  const IdProblem problem = IdOfNumber(encoding, number, id);
  return Spelled(problem, id);
}
bool IsProblem(const std::string& spelled) { return spelled.starts_with("problem: "); }

TEST(UserIdTest, TextIsUtf8WithoutControlCharacters) {
  EXPECT_EQ(OfBytes(IdEncoding::kText, "anna"), "anna");
  EXPECT_EQ(OfBytes(IdEncoding::kText, " Änna\xF0\x9F\x98\x80 "), " Änna\xF0\x9F\x98\x80 ");
  EXPECT_EQ(OfBytes(IdEncoding::kText, std::string(1024, 'x')), std::string(1024, 'x'));
  for (const std::string& wrong :
       {std::string(), std::string(1025, 'x'), std::string("a\0b", 3), std::string("a\n"), std::string("\x7F"),
        std::string("\x1F"), std::string("\xFF"), std::string("\xC0\x80"), std::string("\xED\xA0\x80"),
        std::string("\xF5\x80\x80\x80")}) {
    EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kText, wrong))) << wrong;
    EXPECT_TRUE(IsProblem(OfText(IdEncoding::kText, wrong))) << wrong;
  }
}

TEST(UserIdTest, NoByteOfATextMayBeAControlCharacterWhereverItStands) {
  for (size_t size = 1; size <= 20; ++size) {
    for (size_t place = 0; place < size; ++place) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string text(size, 'x');
        text[place] = static_cast<char>(byte);
        // No single byte beyond ASCII is UTF-8.
        const bool isText = byte >= 0x20 && byte < 0x7F;
        ASSERT_EQ(IsProblem(OfText(IdEncoding::kText, text)), !isText) << size << " " << place << " " << byte;
      }
    }
  }
  for (size_t before = 0; before < 12; ++before) {
    const std::string text = std::string(before, 'x') + "\u00e4" + std::string(3, 'x');
    ASSERT_EQ(OfText(IdEncoding::kText, text), text);
  }
}

TEST(UserIdTest, Int64IsEightBytesOrDigits) {
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, std::string_view("\0\0\0\0\0\0\0\x26", 8)), "38");
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xF9"), "-7");
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, std::string_view("\x80\0\0\0\0\0\0\0", 8)), "-9223372036854775808");
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, std::string_view("\0\0\0\0\0\0\0\0", 8)), "0");
  for (const char* digits : {"0", "38", "-7", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_EQ(OfText(IdEncoding::kInt64, digits), digits);
    EXPECT_EQ(OfNumber(IdEncoding::kInt64, digits), digits);
  }
  for (const char* wrong : {"", "+38", "038", "-0", " 38", "38 ", "9223372036854775808", "0x26", "1.0", "-", "anna"}) {
    EXPECT_TRUE(IsProblem(OfText(IdEncoding::kInt64, wrong))) << wrong;
  }
  EXPECT_EQ(OfNumber(IdEncoding::kInt64, "-0"), "0");
  for (const char* wrong : {"1.0", "1e3", "9223372036854775808"}) {
    EXPECT_TRUE(IsProblem(OfNumber(IdEncoding::kInt64, wrong))) << wrong;
  }
  for (const size_t size : {0u, 1u, 4u, 7u, 9u}) {
    EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kInt64, std::string(size, '1')))) << size;
  }
}

// A producer that writes them as text would have its records sealed for somebody else.
TEST(UserIdTest, TextOfTheRightSizeIsNoBinaryId) {
  for (const char* digits : {"20241128", "00000000", "99999999", "-2024112", "+2024112"}) {
    EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kInt64, digits))) << digits;
  }
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, "2024112x"), "3616445700523504248");
  EXPECT_EQ(OfBytes(IdEncoding::kInt64, "2024-128"), "3616445700456395320");
  for (const char* text : {"customer-2024112", "1234567890123456", "                ", "~~~~~~~~~~~~~~~~"}) {
    EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kUuid, text))) << text;
  }
  EXPECT_EQ(OfBytes(IdEncoding::kUuid,
                    "customer\x80"
                    "2024112"),
            "63757374-6f6d-6572-8032-303234313132");
}

TEST(UserIdTest, TextTakesWholeNumbersOf64Bits) {
  for (const char* digits : {"0", "38", "-7", "18446744073709551615", "-9223372036854775808"}) {
    EXPECT_EQ(OfNumber(IdEncoding::kText, digits), digits);
  }
  EXPECT_EQ(OfNumber(IdEncoding::kText, "-0"), "0");
  for (const char* wrong : {"1.0", "1e3", "-1.5", "18446744073709551616", "-9223372036854775809", "1E5", "-0.0"}) {
    EXPECT_TRUE(IsProblem(OfNumber(IdEncoding::kText, wrong))) << wrong;
  }
  for (const IdEncoding encoding : {IdEncoding::kUuid, IdEncoding::kHex, IdEncoding::kBase64}) {
    EXPECT_TRUE(IsProblem(OfNumber(encoding, "1234"))) << "a number is not one of these";
  }
}

TEST(UserIdTest, UuidIsSixteenBytesOrItsText) {
  const std::string uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  EXPECT_EQ(OfBytes(IdEncoding::kUuid,
                    std::string_view("\x6B\xA7\xB8\x10\x9D\xAD\x11\xD1\x80\xB4\0\xC0\x4F\xD4\x30\xC8", 16)),
            uuid);
  EXPECT_EQ(OfBytes(IdEncoding::kUuid, "6BA7B810-9DAD-11D1-80B4-00C04FD430C8"), uuid);
  EXPECT_EQ(OfText(IdEncoding::kUuid, uuid), uuid);
  for (const char* wrong : {"6ba7b8109dad11d180b400c04fd430c8", "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
                            "6ba7b810-9dad-11d1-80b4-00c04fd430cg", "6ba7b810+9dad-11d1-80b4-00c04fd430c8", "38"}) {
    EXPECT_TRUE(IsProblem(OfText(IdEncoding::kUuid, wrong))) << wrong;
    EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kUuid, wrong))) << wrong;
  }
  EXPECT_TRUE(IsProblem(OfText(IdEncoding::kUuid, "sixteen bytes ...")));
}

TEST(UserIdTest, HexAndBase64AreAnyBytes) {
  EXPECT_EQ(OfBytes(IdEncoding::kHex, "\xFF\x01"), "ff01");
  EXPECT_EQ(OfText(IdEncoding::kHex, "Ff01"), "ff01");
  EXPECT_EQ(OfBytes(IdEncoding::kHex, std::string(512, 'x')).size(), 1024u);
  for (const std::string& wrong : {std::string("f"), std::string("0x01"), std::string("fg"), std::string(1026, 'a')}) {
    EXPECT_TRUE(IsProblem(OfText(IdEncoding::kHex, wrong))) << wrong;
  }
  EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kHex, std::string(513, 'x'))));

  EXPECT_EQ(OfBytes(IdEncoding::kBase64, "\xFF\xE1"), "/+E=");
  for (const char* text : {"/+E=", "_-E=", "/+E", "_-E"}) EXPECT_EQ(OfText(IdEncoding::kBase64, text), "/+E=") << text;
  EXPECT_EQ(OfText(IdEncoding::kBase64, "YQ=="), "YQ==");
  EXPECT_EQ(OfText(IdEncoding::kBase64, "YWJj"), "YWJj");
  EXPECT_EQ(OfBytes(IdEncoding::kBase64, std::string(768, 'x')).size(), 1024u);
  for (const char* wrong : {"Y", "YQ=", "YQ===", "YR==", "/+F", "Y Q==", "=", "YWJj=", "YWJj====", "Y=Q="}) {
    EXPECT_TRUE(IsProblem(OfText(IdEncoding::kBase64, wrong))) << wrong;
  }
  EXPECT_TRUE(IsProblem(OfBytes(IdEncoding::kBase64, std::string(769, 'x'))));
}

TEST(UserIdTest, TheSpellingOfAnIdSpellsItAgain) {
  std::mt19937 random(std::random_device{}());
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(std::vector<size_t>{1, 2, 8, 16, 36, random() % 600}[random() % 6], ' ');
    const bool isPrintable = random() % 2 == 0;
    for (char& byte : bytes) byte = static_cast<char>(isPrintable ? '!' + random() % 90 : random());
    for (const IdEncoding encoding :
         {IdEncoding::kText, IdEncoding::kInt64, IdEncoding::kUuid, IdEncoding::kHex, IdEncoding::kBase64}) {
      for (const std::string& id : {OfBytes(encoding, bytes), OfText(encoding, bytes)}) {
        if (IsProblem(id)) continue;
        ASSERT_EQ(OfText(encoding, id), id);
        ASSERT_EQ(OfText(IdEncoding::kText, id), id) << "every spelling is a text";
        ASSERT_LE(id.size(), kLongestUserId);
      }
    }
  }
}

}  // namespace
}  // namespace kveil::formats
