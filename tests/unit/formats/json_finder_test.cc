// What a JSON pointer leads to, in every spelling, and what is refused because readers may differ.
#include "formats/json_finder.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "padded.h"

namespace kveil::formats {
namespace {

class JsonFinderTest : public testing::Test {
 protected:
  std::string Find(std::string_view json, std::string_view pointer = "/user") {
    return FindText(finder_, json, pointer);
  }
  std::string FindFirst(std::string_view json, std::vector<std::string> pointers) {
    std::vector<JsonPointer> parsed;
    for (const std::string& pointer : pointers) parsed.push_back(*JsonPointer::Parse(pointer));
    const ByteBuffer padded = Padded(json);
    std::string_view found;
    const JsonResult result = finder_.Find(Bytes(padded).first(json.size()), parsed, found);
    if (result == JsonResult::kMissing) return "missing";
    if (result == JsonResult::kOther) return "other";
    if (result == JsonResult::kNotJson) return "not JSON";
    return result == JsonResult::kAmbiguous ? "ambiguous" : std::string(found);
  }

  JsonFinder finder_;
};

TEST_F(JsonFinderTest, FindsStringsAndNumbersAsTheyAreWritten) {
  EXPECT_EQ(Find(R"({"user": "anna"})"), "string anna");
  EXPECT_EQ(Find(R"({"page": "/x", "deep": {"user": "no"}, "user": " anna "})"), "string  anna ");
  EXPECT_EQ(Find(R"({"user":38})"), "number 38");
  EXPECT_EQ(Find(R"( {"user" : -7 } )"), "number -7");
  EXPECT_EQ(Find(R"({"user": 1.50e3})"), "number 1.50e3");
  EXPECT_EQ(Find(R"({"user": ""})"), "string ");
}

TEST_F(JsonFinderTest, FindsStringsOfEveryLengthWhateverStandsAroundThem) {
  for (size_t size = 0; size < 70; ++size) {
    for (const std::string before : {":", ": ", ":  ", " : ", ":\n"}) {
      for (const std::string behind : {"}", " }", ",\"page\":1}", " , \"page\":1}"}) {
        const std::string user(size, 'u');
        const std::string json = StrCat("{\"user\"", before, "\"", user, "\"", behind);
        ASSERT_EQ(Find(json), "string " + user) << json;
        // A quote, an escape and a control character at each end, and something else behind.
        ASSERT_EQ(Find(StrCat("{\"user\"", before, "\"", user, "\\n\"", behind)), "string " + user + "\n");
        ASSERT_EQ(Find(StrCat("{\"user\"", before, "\"", user, "\n\"", behind)), "not JSON");
        ASSERT_EQ(Find(StrCat("{\"user\"", before, "\"", user, "\"x", behind)), "not JSON");
        ASSERT_EQ(Find(StrCat("{\"user\"", before, "\"", user, behind)), "not JSON");
      }
    }
  }
}

TEST_F(JsonFinderTest, FollowsAPointerThroughObjectsAndLists) {
  EXPECT_EQ(Find(R"({"a": [{"b": 1}, {"b": {"id": "anna"}}]})", "/a/1/b/id"), "string anna");
  EXPECT_EQ(Find(R"(["x", "anna"])", "/1"), "string anna");
  EXPECT_EQ(Find(R"({"1": "anna"})", "/1"), "string anna");
  EXPECT_EQ(Find(R"({"a/b": {"c~d": "anna"}})", "/a~1b/c~0d"), "string anna");
  EXPECT_EQ(Find(R"({"a\/b": "anna"})", "/a~1b"), "string anna");
  EXPECT_EQ(Find(R"({"": "anna"})", "/"), "string anna");
  EXPECT_EQ(Find(R"({"customer": {"id": "anna"}, "items": [{"id": 1}, {"id": 2}]})", "/customer/id"), "string anna");
}

TEST_F(JsonFinderTest, FindsNamesThatAreWrittenWithEscapes) {
  EXPECT_EQ(Find(R"({"us\u0065r": "anna"})"), "string anna");
  EXPECT_EQ(Find(R"({"benutzerschl\u00fcssel": "anna"})", "/benutzerschlüssel"), "string anna");
  EXPECT_EQ(Find(R"({"benutzerschlüssel": "anna"})", "/benutzerschlüssel"), "string anna");
  EXPECT_EQ(Find(R"({"\ud83d\ude00": "anna"})", "/\xF0\x9F\x98\x80"), "string anna");
}

TEST_F(JsonFinderTest, UnescapesStrings) {
  EXPECT_EQ(Find(R"({"user": "a\u006ena"})"), "string anna");
  EXPECT_EQ(Find(R"({"user": "a\"n\\n\/a\t"})"), "string a\"n\\n/a\t");
  EXPECT_EQ(Find(R"({"user": "\ud83d\ude00"})"), "string \xF0\x9F\x98\x80");
  EXPECT_EQ(Find(R"({"user": "\u00fc\u20ac"})"), "string ü€");
  EXPECT_EQ(Find(StrCat(R"({"user": "\n)", std::string(1'000'000, 'x'), R"("})")).size(), 7 + JsonFinder::kLongest + 1)
      << "of a string that is too long to be an id no more is copied";
}

TEST_F(JsonFinderTest, RefusesHalfASurrogatePair) {
  for (const char* text : {R"({"user": "a\ud83d"})", R"({"user": "\ude00"})", R"({"user": "\ud83d\u0041"})"}) {
    EXPECT_EQ(Find(text), "not text") << text;
  }
  EXPECT_EQ(Find(R"({"user": "anna", "text": "cut \ud83d"})"), "string anna") << "elsewhere it is no matter";
  EXPECT_EQ(Find(R"({"us\u0065r": "anna", "user\ud83d": "bert"})"), "ambiguous")
      << "a reader that leaves out what is no character takes it for the name";
}

// Python, Java, Go and JavaScript read the last one.
TEST_F(JsonFinderTest, RefusesANameThatIsThereTwice) {
  EXPECT_EQ(Find(R"({"user": "anna", "user": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"user": "anna", "us\u0065r": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"us\u0065r": "anna", "\u0075ser": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"a": {"id": 1}, "a": {"id": 2}})", "/a/id"), "ambiguous");
  EXPECT_EQ(Find(R"({"a": {"id": 1, "id": 2}})", "/a/id"), "ambiguous");
  EXPECT_EQ(Find(R"({"a": {"id": 1}, "a": null})", "/a/id"), "ambiguous");
  EXPECT_EQ(Find(R"({"user": "anna", "user": "anna"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"x": 1, "x": 2, "user": "anna"})"), "string anna") << "other names are no matter";
  EXPECT_EQ(Find(R"({"other": {"user": 1, "user": 2}, "user": "anna"})"), "string anna");
}

// Go and .NET take them for the same.
TEST_F(JsonFinderTest, RefusesTheNameInAnotherCaseBesideIt) {
  EXPECT_EQ(Find(R"({"user": "anna", "User": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"USER": "anna", "user": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"user": "anna", "U\u0053ER": "bert"})"), "ambiguous");
  EXPECT_EQ(Find(R"({"schlüssel": 1, "SCHLÜSSEL": 2})", "/schlüssel"), "ambiguous");
  EXPECT_EQ(Find("{\"user\": \"anna\", \"u\xC5\xBF"
                 "er\": \"bert\"}"),
            "ambiguous")
      << "U+017F folds to s";
  EXPECT_EQ(Find(R"({"user": "anna", "u\u017fer": "bert"})"), "ambiguous");
  EXPECT_EQ(Find("{\"key\": 1, \"\xE2\x84\xAA"
                 "ey\": 2}",
                 "/key"),
            "ambiguous")
      << "U+212A folds to k";
  EXPECT_EQ(Find("{\"id\": 1, \"\xC4\xB1"
                 "d\": 2}",
                 "/id"),
            "ambiguous")
      << "Java's equalsIgnoreCase";
  EXPECT_EQ(Find(R"({"id": 1, "\u0130d": 2})", "/id"), "ambiguous");
  EXPECT_EQ(Find("{\"id\": 1, \"text\": \"k\xC4\xB1z kar\xC4\xB1\xC5\x9F\xC4\xB1k\"}", "/id"), "number 1");
  EXPECT_EQ(Find(R"({"User": "anna"})"), "other") << "not the name, and not nothing either";
}

TEST_F(JsonFinderTest, RefusesANameThatEndsEarlyForReadersInC) {
  EXPECT_EQ(Find(R"({"user": "anna", "user\u0000x": "bert"})"), "ambiguous");
}

TEST_F(JsonFinderTest, TakesOneDocumentOnly) {
  EXPECT_EQ(Find(R"({"user":38}{"user":39})"), "not JSON");
  EXPECT_EQ(Find("{\"user\":38}\n{\"user\":39}"), "not JSON");
  EXPECT_EQ(Find(R"({"user":38},{"user":39})"), "not JSON");
  EXPECT_EQ(Find(R"([{"user":38}])"), "other");
}

// docs/policy.md names these.
TEST_F(JsonFinderTest, LeavesMistakesThatHideNoOtherUserToTheReaders) {
  for (const char* text : {R"({"userid": 1} {"x": 2})", R"({"x": 2} {"userid": 1})", R"({"userid": 1, /* } */ })",
                           R"({"userid": 1,,,})"}) {
    EXPECT_EQ(Find(text, "/userid"), "number 1") << text;
    EXPECT_EQ(FindFirst(text, {"/userid", "/id"}), "not JSON") << text;
  }
  EXPECT_EQ(Find(R"({"userid": 1} {"userid": 2})", "/userid"), "not JSON");
  EXPECT_EQ(Find(R"({"userid": 1} // userid)", "/userid"), "not JSON");
}

TEST_F(JsonFinderTest, IsNotMisledByTheNameInOtherPlaces) {
  for (const char* text : {
           R"({"text": "user", "user": "anna"})",
           R"({"text": "\"user\": \"bert\"", "user": "anna"})",
           R"({"text": "\\", "user": "anna"})",
           R"({"text": "\\\" {", "user": "anna", "more": "[\\"})",
           R"({"list": ["user", {"user": "bert"}], "user": "anna"})",
           R"({"user": "anna", "users": 2, "superuser": "bert", "user_2": 5})",
           R"({"a": "}", "b": "]", "c": "{", "user": "anna"})",
       }) {
    EXPECT_EQ(Find(text), "string anna") << text;
  }
  EXPECT_EQ(Find(R"({"deep": {"user": "bert"}})"), "missing");
  EXPECT_EQ(Find(R"({"text": "user"})"), "missing");
  EXPECT_EQ(Find(R"({"list": ["user", "anna"]})"), "missing");
}

// A reader that is not strict might take these for the name.
TEST_F(JsonFinderTest, ReadsStrictlyWhatALenientReaderMightTakeForTheName) {
  for (const char* text : {
           R"({"user": "anna", user: "bert"})",
           R"({"user": "anna", 'user': "bert"})",
           R"({"user": "anna", /* } */ "user": "bert"})",
           R"({"user": "anna"} // "user": "bert")",
           R"({"user": "anna", "us\x65r": "bert"})",
           R"({"user": "anna", "us\u{65}r": "bert"})",
           "{\"user\": \"anna\", \"us\\\ner\": \"bert\"}",
           R"({'text": ", 'user": "anna"})",
           R"({"user": "anna", "user)",
           R"({"a":","user":"anna"})",
           R"({/*"*/ "user": "anna", "a":"/*"})",
       }) {
    const std::string found = Find(text);
    EXPECT_TRUE(found == "not JSON" || found == "ambiguous") << text << ": " << found;
  }
}

TEST_F(JsonFinderTest, TakesNamesOfAnyMarks) {
  EXPECT_EQ(Find(R"({x": "anna"})", "/{x"), "not JSON");
  EXPECT_EQ(Find(R"({"{x": "anna"})", "/{x"), "string anna");
  EXPECT_EQ(Find(R"({"@id": "anna", "id": "bert"})", "/@id"), "string anna");
  EXPECT_EQ(Find(R"({"user-id": "anna", "user": "bert"})", "/user-id"), "string anna");
  EXPECT_EQ(Find(R"({"a b": "anna", "b": "bert"})", "/a b"), "string anna");
  EXPECT_EQ(Find(R"({"u": "anna", "v": "u"})", "/u"), "string anna");
}

TEST_F(JsonFinderTest, ReadsTheValueStrictly) {
  for (const char* value : {"038",
                            "+38",
                            "38.",
                            ".5",
                            "0x26",
                            "1_000",
                            "38abc",
                            "NaN",
                            "anna",
                            "'anna'",
                            "\"an\nna\"",
                            "\"a\\x62\"",
                            "\"anna\" \"bert\"",
                            "38 39",
                            "- 38",
                            "\"anna",
                            "",
                            "tru",
                            "[1",
                            "{\"a\"}"}) {
    EXPECT_EQ(Find(StrCat(R"({"user": )", value, "}")), "not JSON") << value;
  }
}

TEST_F(JsonFinderTest, SaysWhatIsMissing) {
  for (const char* text : {"{}", R"({"a": 1})", R"({"user": null})"}) EXPECT_EQ(Find(text), "missing") << text;
  for (const char* text : {R"({"user": true})", R"({"user": {"id": 1}})", R"({"user": ["anna"]})", R"(["anna"])", "38",
                           "\"user\"", "true"}) {
    EXPECT_EQ(Find(text), "other") << text;
  }
  EXPECT_EQ(Find(R"({"a": ["x"]})", "/a/1"), "missing");
  EXPECT_EQ(Find(R"({"a": ["x"]})", "/a/b"), "other");
  EXPECT_EQ(Find(R"({"a": "x"})", "/a/b"), "other");
  EXPECT_EQ(Find(R"({"a": null})", "/a/b"), "missing");
}

TEST_F(JsonFinderTest, TellsWhatIsNotJson) {
  for (const char* text : {"",
                           " ",
                           "plain text",
                           "{",
                           "{\"user\"",
                           "{\"user\": \"anna",
                           "<user>anna</user>",
                           "{]",
                           "[}",
                           R"({"user": "anna"} garbage)",
                           R"({"user": "anna", broken)",
                           R"({"user": "anna")",
                           R"({"user": 38)",
                           R"({"a": [1, 2}})",
                           R"({"a" 1})",
                           R"({"a": 1,})",
                           R"([1,])",
                           R"({"a": nul})",
                           R"({"x": "\q"})",
                           R"({"x": "\u12g4"})",
                           "{\"x\": \"a\tb\"}"}) {
    EXPECT_EQ(Find(text), "not JSON") << text;
  }
  EXPECT_EQ(Find(std::string_view("\x00\x00\x00\x00\x07{}", 7)), "not JSON");
}

TEST_F(JsonFinderTest, RefusesWhatIsNotUtf8) {
  for (const char* text : {"{\"user\": \"an\xFFna\"}", "{\"user\": \"anna\", \"x\": \"\xC3\"}",
                           "{\"user\": \"anna\", \"\xC1\xB5ser\": \"bert\"}",  // overlong "u"
                           "{\"user\": \"anna\", \"x\": \"\xED\xA0\x80\"}"}) {
    EXPECT_EQ(Find(text), "not JSON") << text;
  }
}

// Who reads a text with a mark at its start at all reads the same in it. In UTF-16 and UTF-32 it is something else.
TEST_F(JsonFinderTest, PassesOverAByteOrderMark) {
  EXPECT_EQ(Find("\xEF\xBB\xBF{\"user\": 38}"), "number 38");
  EXPECT_EQ(Find("\xEF\xBB\xBF"), "not JSON");
  EXPECT_EQ(Find(" \xEF\xBB\xBF{\"user\": 38}"), "not JSON");
  EXPECT_EQ(Find("\xEF\xBB\xBF\xEF\xBB\xBF{\"user\": 38}"), "not JSON");
  EXPECT_EQ(Find("{\"user\": 38}\xEF\xBB\xBF"), "not JSON");
  const std::string utf16(
      "\xFF\xFE{\0\"\0u\0\"\0:\0"
      "1\0}\0",
      16);
  EXPECT_EQ(Find(utf16, "/u"), "not JSON");
  EXPECT_EQ(Find(std::string("{\0\"user\": 38}", 13)), "not JSON");
}

TEST_F(JsonFinderTest, TakesTheFirstOfSeveralPointersThatLeadsSomewhere) {
  const std::vector<std::string> places = {"/after/id", "/before/id"};
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "after": {"id": 2}})", places), "2");
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "after": null})", places), "1");
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}})", places), "1");
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "after": {"id": null}})", places), "1");
  EXPECT_EQ(FindFirst(R"({"before": null, "after": null})", places), "missing");
  EXPECT_EQ(FindFirst(R"({"before": null, "after": null)", places), "not JSON");
  EXPECT_EQ(FindFirst(R"({"before": null, "x": [}]})", places), "not JSON");
  // Where there is something, only without being an id, nobody else's id is taken instead.
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "after": {"id": {}}})", places), "other");
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "After": {"id": 2}})", places), "other");
  EXPECT_EQ(FindFirst(R"({"before": {"id": 1}, "after": {"id": 2, "ID": 3}})", places), "ambiguous");
}

// A search for the first pointer's name could find it where a reader of the first document alone, or one that takes
// comments, finds nothing, and then goes on to the next pointer.
TEST_F(JsonFinderTest, TakesOfSeveralPointersNoneThatAReaderWouldPassOver) {
  EXPECT_EQ(FindFirst(R"({"before":{"userid":1}}{"after":{"userid":2}})", {"/after/userid", "/before/userid"}),
            "not JSON");
  EXPECT_EQ(
      FindFirst("{\"before\":{\"userid\":1} // ,\"after\":{\"userid\":2}\n }", {"/after/userid", "/before/userid"}),
      "not JSON");
  EXPECT_EQ(FindFirst(R"({"before":{"userid":1} /* ,"after":{"userid":2}, */ })", {"/after/userid", "/before/userid"}),
            "not JSON");
}

TEST_F(JsonFinderTest, FindsNamesOfOneLetter) {
  EXPECT_EQ(FindFirst(R"({"u":"anna","v":"bert"})", {"/u", "/v"}), "anna");
  EXPECT_EQ(FindFirst(R"({"u":null,"v":"bert"})", {"/u", "/v"}), "bert");
  EXPECT_EQ(FindFirst(R"({"U":"anna","v":"bert"})", {"/u", "/v"}), "other");
  EXPECT_EQ(Find(R"({"u":"anna","U":"bert"})", "/u"), "ambiguous");
  EXPECT_EQ(Find(R"({"v":"u","x":{"u":"bert"},"u":"anna"})", "/u"), "string anna");
  EXPECT_FALSE(MemberName("u").isSearchable());
  EXPECT_TRUE(MemberName("id").isSearchable());
}

TEST_F(JsonFinderTest, SurvivesDeepNesting) {
  const std::string open(100'000, '[');
  const std::string close(100'000, ']');
  EXPECT_EQ(Find(StrCat(R"({"user": "anna", "deep": )", open, close, "}")), "string anna");
  EXPECT_EQ(Find(StrCat(R"({"deep": )", open, close, R"(, "user": "anna"})")), "string anna");
  EXPECT_EQ(Find(StrCat(R"({"x": "user", "deep": )", open, close, R"(, "user": "anna"})")), "not JSON");
  EXPECT_EQ(Find(open), "not JSON");
  const auto levels = [](size_t count) { return std::string(count, '[') + std::string(count, ']'); };
  EXPECT_EQ(Find(StrCat(R"({"x": "user", "deep": )", levels(999), R"(, "user": "anna"})")), "string anna");
  EXPECT_EQ(Find(StrCat(R"({"x": "user", "deep": )", levels(1000), R"(, "user": "anna"})")), "not JSON");
  std::string pointer;
  for (int i = 0; i < 500; ++i) pointer += "/0";
  EXPECT_EQ(Find(StrCat(std::string(500, '['), "1", std::string(500, ']')), pointer), "number 1");
}

TEST_F(JsonFinderTest, FindsTheUserAtEveryPlaceOfABlock) {
  for (size_t before = 0; before < 200; ++before) {
    for (const size_t behind : {0u, 1u, 62u, 63u, 64u, 65u}) {
      const std::string text =
          StrCat(R"({"a":")", std::string(before, 'x'), R"(","user":"anna","b":")", std::string(behind, 'x'), R"("})");
      EXPECT_EQ(Find(text), "string anna") << before << " " << behind;
      const std::string escaped = StrCat(R"({"a":")", std::string(before, '\\'), before % 2 != 0 ? "\\" : "",
                                         R"(","user":"anna","b":")", std::string(behind, 'x'), R"("})");
      EXPECT_EQ(Find(escaped), "string anna") << before << " " << behind;
      const std::string quoted = StrCat(R"({"a":")", std::string(before, 'x'), R"(\",\"user\":bert","user":"anna"})");
      EXPECT_EQ(Find(quoted), "string anna") << before;
    }
  }
}

// The name is the first one, and whatever makes the search look closer comes anywhere behind it.
TEST_F(JsonFinderTest, SeesWhatComesBehindTheFirstNameAtEveryPlaceOfABlock) {
  for (size_t before = 0; before < 100; ++before) {
    const auto find = [&](std::string_view behind) {
      return Find(StrCat(R"({"user":"anna","b":")", std::string(before, 'x'), behind, R"("})"));
    };
    EXPECT_EQ(find(""), "string anna") << before;
    EXPECT_EQ(find(" users superuser userx"), "string anna") << before;
    EXPECT_EQ(find(R"(\" user\\)"), "string anna") << before << ": read strictly";
    EXPECT_EQ(find(R"(","user":"bert)"), "ambiguous") << before;
    EXPECT_EQ(find(R"(","USER":"bert)"), "ambiguous") << before;
    EXPECT_EQ(find(R"(","us\u0065r":"bert)"), "ambiguous") << before;
    EXPECT_EQ(find("\",\"u\xC5\xBF"
                   "er\":\"bert"),
              "ambiguous")
        << before;
    EXPECT_EQ(find("\xFF"), "not JSON") << before;
    EXPECT_EQ(find(R"(\q)"), "not JSON") << before;
    EXPECT_EQ(find("\xC3\xBC\\u00fc\\\\"), "string anna") << before;
    EXPECT_EQ(find(R"(", user: "bert)"), "not JSON") << before;
  }
}

// An escape ends where the next block begins.
TEST_F(JsonFinderTest, CountsBackslashesAcrossBlocks) {
  for (size_t before = 0; before < 70; ++before) {
    for (size_t backslashes = 1; backslashes < 70; ++backslashes) {
      const std::string run(backslashes, '\\');
      const bool isEven = backslashes % 2 == 0;
      const std::string text =
          StrCat(R"({"a":")", std::string(before, 'x'), run, R"(","user":"anna","b":"", "c":"]"})");
      EXPECT_EQ(Find(text), isEven ? "string anna" : "not JSON") << text;
    }
  }
}

TEST_F(JsonFinderTest, FindsNamesOfEveryLength) {
  for (size_t size = 2; size < 70; ++size) {
    const std::string name = StrCat(std::string(size - 1, 'n'), "m");
    const std::string pointer = "/" + name;
    std::string upper = name;
    upper.back() = 'M';
    EXPECT_EQ(Find(StrCat("{\"", name, "\":\"anna\"}"), pointer), "string anna") << size;
    EXPECT_EQ(Find(StrCat("{\"a\":{},\"", name, "\":\"anna\"}"), pointer), "string anna") << size;
    EXPECT_EQ(Find(StrCat("{\"", upper, "\":\"anna\"}"), pointer), "other") << size;
    EXPECT_EQ(Find(StrCat("{\"", name, "\":\"anna\",\"", upper, "\":\"bert\"}"), pointer), "ambiguous") << size;
    EXPECT_EQ(Find(StrCat("{\"n", name, "\":\"anna\",\"", name, "m\":\"bert\"}"), pointer), "missing") << size;
    EXPECT_EQ(Find(StrCat("{\"", name, "}"), pointer), "not JSON") << size;
  }
  EXPECT_EQ(Find(R"({"a})", "/a}"), "not JSON") << "the name ends the text";
  EXPECT_EQ(Find(R"({"a}":"anna"})", "/a}"), "string anna");
}

TEST(JsonPointerTest, IsTakenApart) {
  const std::optional<JsonPointer> pointer = JsonPointer::Parse("/a~1b/0//01/~0");
  ASSERT_TRUE(pointer.has_value());
  ASSERT_EQ(pointer->steps().size(), 5u);
  EXPECT_EQ(pointer->steps()[0].name.text(), "a/b");
  EXPECT_EQ(pointer->steps()[1].index, 0u);
  EXPECT_EQ(pointer->steps()[2].name.text(), "");
  EXPECT_EQ(pointer->steps()[3].index, std::nullopt);
  EXPECT_EQ(pointer->steps()[4].name.text(), "~");
  for (const char* wrong : {"", "a", "/a~", "/a~2", "/a\"", "/a\\", "/a\n"}) {
    EXPECT_FALSE(JsonPointer::Parse(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace kveil::formats
