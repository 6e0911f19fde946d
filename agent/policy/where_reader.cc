#include "policy/where_reader.h"

#include <re2/re2.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "policy/user_list.h"

namespace kveil::policy {
namespace {

using config::JsonObject;
using config::JsonValue;
using std::chrono::milliseconds;

constexpr char kSealedHeader[] = "kveil";
constexpr size_t kLongestText = 1000;
constexpr size_t kLongestListName = 255;  // of a file
constexpr std::string_view kListEnding = ".txt";
constexpr size_t kLongestPattern = 1000;
constexpr size_t kLongestHeader = 1000;
// Bytes that RE2 may take for one. With more, patterns such as ".*a[ab]{40}" have it build states that it needs once,
// at up to 20 ns per step of the program and byte of the text instead of 4.
constexpr int64_t kPatternMemory = 64 << 10;
constexpr int kMostSteps = 500;  // of the program that RE2 makes of one
// Beyond 2^53, readers that keep numbers as doubles see other whole numbers than those that do not.
constexpr int64_t kMostNumber = 9007199254740991;
constexpr milliseconds kLongestAge = std::chrono::hours(24 * 366 * 100);

enum class Of : uint8_t { kText, kTextOrNumber };

void ReadAnswer(const JsonValue& value, Of of, Test& test) {
  if (value.isNumber() && of == Of::kTextOrNumber) {
    test.numbers.push_back(value.Number(-kMostNumber, kMostNumber) + 0.0);
    return;
  }
  if (!value.isString())
    return value.Expected(of == Of::kText ? "a non-empty string" : "a non-empty string or a number");
  test.texts.push_back(value.String());
  if (test.texts.back().size() > kLongestText) value.Expected(StrCat("a text of at most ", kLongestText, " bytes"));
}

void ReadAnswers(const JsonValue& value, Of of, Test& test) {
  const std::vector<JsonValue> answers = value.List();
  if (value.isList() && answers.empty()) value.Error("an empty list matches nothing; leave the entry out");
  for (const JsonValue& answer : answers) ReadAnswer(answer, of, test);
}

void ReadMatches(const JsonValue& value, Test& test) {
  test.pattern = ReadPattern(value);
  if (test.pattern != nullptr && test.pattern->ProgramSize() > kMostSteps) {
    value.Expected("a simpler pattern, with smaller repetitions");
  }
}

void ReadRange(const JsonValue& value, Test& test) {
  const JsonObject object(value, {"min", "max"});
  const auto least = object.Find("min");
  const auto most = object.Find("max");
  Test::Range range{-std::numeric_limits<double>::max(), std::numeric_limits<double>::max()};
  if (least) range.least = least->Number(-kMostNumber, kMostNumber);
  if (most) range.most = most->Number(-kMostNumber, kMostNumber);
  if (value.isObject() && !least && !most) value.Expected("the key \"min\" or \"max\", or both");
  if (range.least > range.most) value.Error("\"min\" is above \"max\", so no number is in the range");
  test.range = range;
}

Test ReadTest(const JsonObject& object, Of of) {
  Test test;
  const auto which = of == Of::kText ? object.ExactlyOneOf({"equals", "oneOf", "matches"})
                                     : object.ExactlyOneOf({"equals", "oneOf", "matches", "range"});
  if (!which) return test;
  const JsonValue value = *object.Find(*which);
  if (*which == "equals") ReadAnswer(value, of, test);
  if (*which == "oneOf") ReadAnswers(value, of, test);
  if (*which == "matches") ReadMatches(value, test);
  if (*which == "range") ReadRange(value, test);
  return test;
}

// One object, or a list of them that must all hold.
std::vector<JsonValue> ReadTests(const JsonValue& value) {
  if (!value.isList()) return {value};
  std::vector<JsonValue> tests = value.List();
  if (tests.empty() || tests.size() > kMostTests) {
    value.Expected(StrCat("one condition, or a list of at least one and at most ", kMostTests));
    tests.clear();
  }
  return tests;
}

void ReadHeader(const JsonValue& value, Where& where) {
  const JsonObject object(value, {"name", "equals", "oneOf", "matches"});
  HeaderTest header;
  if (const auto name = object.Require("name")) {
    header.name = name->String();
    if (header.name.size() > kLongestHeader) name->Expected("a shorter header name");
    if (header.name == kSealedHeader) name->Error("the header \"kveil\" is the envelope");
    const bool isThere = std::any_of(where.headers.begin(), where.headers.end(),
                                     [&](const HeaderTest& other) { return other.name == header.name; });
    if (isThere) name->Error("this entry has a condition for this header already");
  }
  if (value.isObject()) header.test = ReadTest(object, Of::kText);
  where.headers.push_back(std::move(header));
}

void ReadValue(const JsonValue& value, Where& where) {
  const JsonObject object(value, {"pointer", "framing", "equals", "oneOf", "matches", "range"});
  std::optional<formats::JsonPointer> pointer;
  if (const auto text = object.Require("pointer")) {
    pointer = formats::JsonPointer::Parse(text->isString() ? text->String() : std::string());
    if (!pointer.has_value()) text->Expected("a JSON pointer into the value, such as \"/region\"");
  }
  auto framing = formats::Framing::kNone;
  if (const auto text = object.Find("framing")) {
    framing =
        text->OneOf<formats::Framing>({{"none", formats::Framing::kNone}, {"confluent", formats::Framing::kConfluent}});
  }
  Test test;
  if (value.isObject()) test = ReadTest(object, Of::kTextOrNumber);
  if (!pointer.has_value()) return;
  const bool isThere = std::any_of(where.values.begin(), where.values.end(),
                                   [&](const ValueTest& other) { return other.pointer.text() == pointer->text(); });
  if (isThere) value.Error("this entry has a condition for this place already");
  where.values.push_back({*std::move(pointer), framing, std::move(test)});
}

// Whether it is in the folder of the policy, where changes are noticed.
bool IsListName(std::string_view text) {
  return text.size() > kListEnding.size() && text.size() <= kLongestListName && text[0] != '.' && text[0] != '$' &&
         text.ends_with(kListEnding) && text.find('/') == std::string_view::npos;
}

void ReadUsersFile(const JsonValue& value, formats::IdEncoding as, UserLists& lists, Where& where) {
  const auto file = JsonObject(value, {"file"}).Require("file");
  if (!file) return;
  where.usersFile = file->isString() ? file->String() : "";
  if (!IsListName(where.usersFile)) {
    return file->Expected("the name of a file *.txt in the folder of this policy, such as \"support-users.txt\"");
  }
  absl::StatusOr<UserList> users = lists.Read(file->FilePath(), as);
  if (!users.ok()) return file->Error(ToStd(users.status().message()));
  where.users = *std::move(users);
}

void ReadUsers(const JsonValue& value, const std::optional<SealRule>& seal, UserLists& lists, Where& where) {
  if (value.isObject()) {
    if (HaveUsers(value, seal)) ReadUsersFile(value, seal->user.as, lists, where);
    return;
  }
  if (!value.isList()) return value.Expected("a list, or an object with the key \"file\"");
  const std::vector<JsonValue> users = value.List();
  if (users.empty()) return value.Error("an empty list matches nothing; leave the entry out");
  if (!HaveUsers(value, seal)) return;
  std::vector<std::string> ids;
  std::string scratch;
  for (const JsonValue& user : users) {
    const std::string text = user.String();
    std::string_view id;
    if (text.empty()) continue;
    const formats::IdProblem problem = formats::IdOfText(seal->user.as, text, scratch, id);
    if (problem != formats::IdProblem::kNone) {
      user.Error(formats::Explain(problem));
      continue;
    }
    ids.emplace_back(id);
  }
  where.users = ListOf(std::move(ids));
}

void ReadConsent(const JsonValue& value, const std::optional<SealRule>& seal, Where& where) {
  if (!value.isList() && !value.isString()) return value.Expected("a purpose, or a list of them");
  if (!HaveUsers(value, seal)) return;
  if (value.isString()) return where.consents.push_back(ReadName(value));
  const std::vector<JsonValue> purposes = value.List();
  if (purposes.empty()) return value.Error("an empty list matches nothing; leave the entry out");
  if (purposes.size() > kMostPurposes) return value.Expected(StrCat("at most ", kMostPurposes, " purposes"));
  for (const JsonValue& purpose : purposes) where.consents.push_back(ReadName(purpose));
}

std::string ReadAttributeValue(const JsonValue& value) {
  std::string text = value.String();
  if (text.size() > users::kLongestAttributeValue) {
    value.Expected(StrCat("a text of at most ", users::kLongestAttributeValue, " bytes"));
  }
  return text;
}

void ReadAttribute(const JsonValue& value, Where& where) {
  const JsonObject object(value, {"name", "equals", "oneOf", "label"});
  AttributeTest attribute;
  if (const auto name = object.Require("name")) {
    attribute.name = ReadName(*name);
    const bool isThere = std::any_of(where.attributes.begin(), where.attributes.end(),
                                     [&](const AttributeTest& other) { return other.name == attribute.name; });
    if (isThere) name->Error("this entry has a condition for this attribute already");
  }
  if (!value.isObject()) return;
  const auto which = object.ExactlyOneOf({"equals", "oneOf", "label"});
  if (!which) return;
  const JsonValue answer = *object.Find(*which);
  if (*which == "equals") attribute.texts.push_back(ReadAttributeValue(answer));
  if (*which == "label") attribute.label = answer.String();
  if (*which == "oneOf") {
    const std::vector<JsonValue> answers = answer.List();
    if (answer.isList() && answers.empty()) answer.Error("an empty list matches nothing; leave the entry out");
    for (const JsonValue& text : answers) attribute.texts.push_back(ReadAttributeValue(text));
  }
  if (attribute.label.size() > kLongestText) answer.Expected("a shorter label");
  where.attributes.push_back(std::move(attribute));
}

}  // namespace

std::string ReadName(const JsonValue& value) {
  std::string name = value.isString() ? value.String() : "";
  if (!users::IsName(name)) {
    value.Expected(StrCat("a name of at most ", users::kLongestName, " letters, digits, '.', '_' and '-'"));
  }
  return name;
}

std::shared_ptr<const re2::RE2> CompilePattern(const std::string& text) {
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_max_mem(kPatternMemory);
  return std::make_shared<const re2::RE2>(text, options);
}

std::shared_ptr<const re2::RE2> ReadPattern(const JsonValue& value) {
  const std::string text = value.String();
  if (text.empty()) return nullptr;
  if (text.size() > kLongestPattern) {
    value.Expected(StrCat("a pattern of at most ", kLongestPattern, " bytes"));
    return nullptr;
  }
  std::shared_ptr<const re2::RE2> pattern = CompilePattern(text);
  if (pattern->ok()) return pattern;
  value.Expected(StrCat("an RE2 pattern (", pattern->error(), ")"));
  return nullptr;
}

bool HaveUsers(const JsonValue& value, const std::optional<SealRule>& seal) {
  if (seal.has_value() && seal->scope == SealScope::kUser) return true;
  value.Error("only the records of a topic with \"seal\" and the scope \"user\" have a user");
  return false;
}

Where ReadWhere(const JsonValue& value, const std::optional<SealRule>& seal, UserLists& lists) {
  Where where;
  const JsonObject object(value, {"users", "consent", "attribute", "header", "value", "olderThan", "newerThan"});
  const auto users = object.Find("users");
  const auto consent = object.Find("consent");
  const auto attributes = object.Find("attribute");
  const auto headers = object.Find("header");
  const auto values = object.Find("value");
  const auto older = object.Find("olderThan");
  const auto newer = object.Find("newerThan");
  if (users) ReadUsers(*users, seal, lists, where);
  if (consent) ReadConsent(*consent, seal, where);
  if (attributes && HaveUsers(*attributes, seal)) {
    for (const JsonValue& attribute : ReadTests(*attributes)) ReadAttribute(attribute, where);
  }
  if (headers) {
    for (const JsonValue& header : ReadTests(*headers)) ReadHeader(header, where);
  }
  if (values) {
    for (const JsonValue& test : ReadTests(*values)) ReadValue(test, where);
  }
  if (older) where.olderThan = older->Duration(milliseconds(1), kLongestAge);
  if (newer) where.newerThan = newer->Duration(milliseconds(1), kLongestAge);
  if (value.isObject() && !users && !consent && !attributes && !headers && !values && !older && !newer) {
    value.Error("expected at least one condition; an entry without \"where\" lets every record be read");
  }
  return where;
}

}  // namespace kveil::policy
