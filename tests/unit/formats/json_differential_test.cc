// The finder against another parser, on texts that were put together and broken at random.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <random>

#include "json_oracle.h"
#include "padded.h"

namespace kveil::formats {
namespace {

constexpr std::chrono::seconds kDuration{4};

class Texts {
 public:
  explicit Texts(uint32_t seed) : random_(seed) {}

  std::string Next() {
    std::string text = Chance(20) ? "\xEF\xBB\xBF" : "";
    text += Space() + (Chance(12) ? Value(3) : Object(3)) + Space();
    if (Chance(8)) text += Object(3) + Space();
    while (Chance(2)) Break(text);
    return text;
  }
  size_t Below(size_t limit) { return random_() % limit; }

 private:
  bool Chance(size_t one) { return Below(one) == 0; }
  template <size_t kSize>
  std::string Any(const std::array<std::string_view, kSize>& of) {
    return std::string(of[Below(kSize)]);
  }
  std::string Space() { return Any(std::array<std::string_view, 8>{"", "", "", "", " ", "\n", "\t ", " \r\n"}); }
  std::string Filler() { return std::string(Chance(8) ? Below(150) : Below(5), "xu\xC3\xBC{\"}"[Below(2)]); }

  std::string Name() {
    static constexpr std::array<std::string_view, 28> kNames = {"user",
                                                                "user",
                                                                "user",
                                                                "id",
                                                                "id",
                                                                "User",
                                                                "us\\u0065r",
                                                                "users",
                                                                "USER",
                                                                "u_user",
                                                                "u\xC5\xBF"
                                                                "er",
                                                                "a",
                                                                "",
                                                                "i\\u0064",
                                                                "\xC4\xB1"
                                                                "d",
                                                                "u\\u017fer",
                                                                "a user",
                                                                "u",
                                                                "u",
                                                                "v",
                                                                "V",
                                                                "\\/user",
                                                                "\\\\user",
                                                                "x-user",
                                                                "\\nuser",
                                                                "\xC3\xBCser",
                                                                "user\\u0000",
                                                                "0"};
    return "\"" + Any(kNames) + "\"";
  }
  std::string String() {
    static constexpr std::array<std::string_view, 16> kTexts = {
        "anna", "bert", "38", "",   "user",     "\\\"user\\\": 1", "a\\u006ena",       "\xC3\xBC\xE2\x82\xAC",
        "\\\\", "\\\"", "{[", "}]", "\xC4\xB1", "\\ud83d\\ude00",  "\xF0\x9F\x98\x80", "\\n\\t"};
    return "\"" + Filler() + Any(kTexts) + (Chance(3) ? Any(kTexts) : "") + "\"";
  }
  std::string Number() {
    return Any(std::array<std::string_view, 12>{"0", "38", "-7", "-0", "1.5", "1e3", "9223372036854775807",
                                                "18446744073709551615", "18446744073709551616", "39", "1E-2", "12.0"});
  }
  std::string Value(size_t depth) {
    const size_t kind = Below(depth > 0 ? 10 : 7);
    if (kind < 3) return String();
    if (kind < 5) return Number();
    if (kind < 7) return Any(std::array<std::string_view, 4>{"null", "true", "false", "null"});
    return kind < 9 ? Object(depth - 1) : List(depth - 1);
  }
  std::string Object(size_t depth) {
    std::string text = "{" + Space();
    const size_t count = Below(5);
    for (size_t i = 0; i < count; ++i) {
      text += (i > 0 ? "," : "") + Space() + Name() + Space() + ":" + Space() + Value(depth) + Space();
    }
    return text + "}";
  }
  std::string List(size_t depth) {
    std::string text = "[";
    const size_t count = Below(4);
    for (size_t i = 0; i < count; ++i) text += (i > 0 ? "," : "") + Space() + Value(depth);
    return text + Space() + "]";
  }

  void Break(std::string& text) {
    if (text.empty()) return;
    static constexpr std::array<std::string_view, 26> kPieces = {
        "\"", "\\",   "{",  "}",  "[",    "]",    ",",    ":",    "'",      "user", "\"user\": 1", "//", "/*",
        "\n", "\\u0", "*/", "id", "\xFF", "\xC5", "\xBF", "\\\"", "\\u006", " ",    "-",           "{}", "\x01"};
    const size_t at = Below(text.size());
    switch (Below(6)) {
      case 0:
        text[at] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(at, 1 + Below(3));
        break;
      case 2:
        text.resize(at);
        break;
      case 3:
        text.insert(at, text.substr(Below(text.size()), Below(30)));
        break;
      default:
        text.insert(at, Any(kPieces));
        break;
    }
  }

  std::mt19937 random_;
};

TEST(JsonDifferentialTest, SaysWhatAnotherParserSays) {
  Texts texts(std::random_device{}());
  std::vector<std::vector<JsonPointer>> lists;
  for (const std::vector<const char*>& list : std::vector<std::vector<const char*>>{{"/user"},
                                                                                    {"/user"},
                                                                                    {"/id"},
                                                                                    {"/user/id"},
                                                                                    {"/a/user"},
                                                                                    {"/0"},
                                                                                    {"/user/0"},
                                                                                    {"/"},
                                                                                    {"/\xC3\xBCser"},
                                                                                    {"/u"},
                                                                                    {"/u", "/v"},
                                                                                    {"/user", "/id"},
                                                                                    {"/a/id", "/user/id"},
                                                                                    {"/id", "/a", "/user"}}) {
    std::vector<JsonPointer>& pointers = lists.emplace_back();
    for (const char* text : list) pointers.push_back(*JsonPointer::Parse(text));
  }
  JsonFinder finder;
  size_t count = 0;
  size_t valid = 0;
  size_t users = 0;
  size_t ambiguous = 0;
  const auto end = std::chrono::steady_clock::now() + kDuration;
  while (std::chrono::steady_clock::now() < end) {
    const std::string text = texts.Next();
    const std::vector<JsonPointer>& pointers = lists[texts.Below(lists.size())];
    const ByteBuffer padded = Padded(text);
    std::string_view found;
    Verdict said;
    said.result = finder.Find(Bytes(padded).first(text.size()), pointers, found);
    const bool hasUser = said.result == JsonResult::kString || said.result == JsonResult::kNumber;
    if (hasUser) said.text = std::string(found);
    const std::string why = WhyWrong(text, pointers, said);
    ASSERT_EQ(why, "") << "first pointer " << pointers[0].text() << " of " << pointers.size() << ", result "
                       << static_cast<int>(said.result) << " " << said.text << "\n"
                       << text;
    ++count;
    valid += OracleVerdict(text, pointers).has_value() ? 1 : 0;
    users += hasUser ? 1 : 0;
    ambiguous += said.result == JsonResult::kAmbiguous ? 1 : 0;
  }
  EXPECT_GT(valid, count / 10) << count;
  EXPECT_GT(users, count / 100) << count;
  EXPECT_GT(ambiguous, count / 500) << count;
  RecordProperty("texts", static_cast<int>(count));
  RecordProperty("valid", static_cast<int>(valid));
  RecordProperty("users", static_cast<int>(users));
  RecordProperty("ambiguous", static_cast<int>(ambiguous));
}

}  // namespace
}  // namespace kveil::formats
