// Reads one policy file: one function a JSON object, in the order of docs/policy.md.
#include "policy/policy_reader.h"

#include <re2/re2.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "policy/json_value.h"

namespace kveil::policy {
namespace {

constexpr size_t kLongestTopic = 249;  // Kafka's own limit
constexpr size_t kLongestPattern = 1000;
constexpr size_t kLongestKeyspace = 1000;  // a pattern may be one
constexpr size_t kLongestHeader = 1000;
constexpr char kSealedHeader[] = "kveil";

// What Kafka takes in a topic's name.
bool HasTopicCharacters(std::string_view text) {
  return text.size() <= kLongestTopic && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

bool IsTopicName(std::string_view text) { return HasTopicCharacters(text) && text != "." && text != ".."; }

// RFC 6901, of at least one token: the whole document is not one of its members. Quotes and backslashes are refused, as
// the parser that finds the user compares names as they are written in the record: /u": would be found at {"u":"x"}.
bool IsJsonPointer(std::string_view text) {
  if (text.empty() || text[0] != '/' || text.find_first_of("\"\\") != std::string_view::npos) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '~' && (i + 1 == text.size() || (text[i + 1] != '0' && text[i + 1] != '1'))) return false;
  }
  return true;
}

std::string ReadTopicName(const JsonValue& value) {
  std::string text = value.String();
  if (!text.empty() && !IsTopicName(text)) {
    value.Expected("a topic's name of at most 249 letters, digits, '.', '_' and '-'");
  }
  return text;
}

std::string ReadPrefix(const JsonValue& value) {
  std::string text = value.String();
  if (!HasTopicCharacters(text)) value.Expected("the beginning of topic names: letters, digits, '.', '_' and '-'");
  if (text.starts_with("__")) value.Error("internal topics (\"__...\") match no prefix; select them by name");
  return text;
}

std::string ReadPattern(const JsonValue& value) {
  std::string text = value.String();
  if (text.size() > kLongestPattern) value.Expected(StrCat("a pattern of at most ", kLongestPattern, " bytes"));
  const re2::RE2 pattern(text, re2::RE2::Quiet);
  if (!text.empty() && !pattern.ok()) value.Expected(StrCat("an RE2 pattern (", pattern.error(), ")"));
  return text;
}

void ReadSelector(const JsonObject& object, TopicPolicy& topic) {
  const auto which = object.ExactlyOneOf({"name", "prefix", "pattern"});
  if (!which) return;
  const JsonValue value = *object.Find(*which);
  if (*which == "name") {
    topic.kind = SelectorKind::kName;
    topic.selector = ReadTopicName(value);
  } else if (*which == "prefix") {
    topic.kind = SelectorKind::kPrefix;
    topic.selector = ReadPrefix(value);
  } else {
    topic.kind = SelectorKind::kPattern;
    topic.selector = ReadPattern(value);
  }
}

std::string ReadPointer(const JsonValue& value, std::string_view expected) {
  const std::string text = value.isString() ? value.String() : "";
  if (!IsJsonPointer(text)) value.Expected(expected);
  return text;
}

UserSource ReadUser(const JsonValue& value) {
  UserSource user;
  const JsonObject object(value, {"value", "key", "header"});
  const auto which = object.ExactlyOneOf({"value", "key", "header"});
  if (!which) return user;
  const JsonValue source = *object.Find(*which);
  if (*which == "value") {
    user.from = UserSource::From::kValue;
    user.pointer = ReadPointer(source, "a JSON pointer into the value, such as \"/userid\"");
  } else if (*which == "key") {
    user.from = UserSource::From::kKey;
    if (!source.isTrue())
      user.pointer = ReadPointer(source, "true or a JSON pointer into the key, such as \"/userid\"");
  } else {
    user.from = UserSource::From::kHeader;
    user.header = source.String();
    if (user.header.size() > kLongestHeader) source.Expected("a shorter header name");
    if (user.header == kSealedHeader) source.Error("the header \"kveil\" is the envelope, it names no user");
  }
  return user;
}

SealRule ReadSeal(const JsonValue& value, const TopicPolicy& topic) {
  SealRule seal;
  const JsonObject object(value, {"scope", "user", "keyspace", "compress"}, {"kek", "fields"});
  if (const auto scope = object.Require("scope")) {
    seal.scope = scope->OneOf<SealScope>(
        {{"cluster", SealScope::kCluster}, {"topic", SealScope::kTopic}, {"user", SealScope::kUser}});
  }
  const bool ofUser = seal.scope == SealScope::kUser;
  if (ofUser) {
    if (const auto user = object.Require("user")) seal.user = ReadUser(*user);
    seal.keyspace = topic.selector;
  } else if (const auto user = object.Find("user")) {
    user->Error("only the scope \"user\" has a user");
  }
  if (const auto keyspace = object.Find("keyspace")) {
    seal.keyspace = keyspace->String();
    if (!ofUser) keyspace->Error("only the scope \"user\" has a keyspace");
    if (seal.keyspace.size() > kLongestKeyspace) keyspace->Expected("a shorter keyspace");
  }
  if (const auto compress = object.Find("compress")) {
    seal.compressValues = compress->OneOf<bool>({{"auto", true}, {"never", false}});
  }
  return seal;
}

bool IsUnitName(std::string_view text) {
  if (text.size() > 255 || !(text.ends_with(".service") || text.ends_with(".scope"))) return false;
  const std::string_view name = text.substr(0, text.rfind('.'));
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || std::string_view(":-_.\\@").find(c) != std::string_view::npos;
  });
}

ReadRule ReadWorkload(const JsonValue& value) {
  const JsonObject object(value, {"unit", "cgroup"}, {"serviceAccount", "namespace", "labels", "pod", "uid"});
  const auto which = object.ExactlyOneOf({"unit", "cgroup"});
  if (!which) return {};
  const JsonValue text = *object.Find(*which);
  if (*which == "unit") {
    ReadRule rule{ReadRule::Kind::kUnit, text.isString() ? text.String() : ""};
    if (!IsUnitName(rule.text)) text.Expected("a systemd unit such as \"analytics.service\" (a service or a scope)");
    return rule;
  }
  ReadRule rule{ReadRule::Kind::kCgroup, text.AbsolutePath()};
  if (rule.text.size() > 1 && rule.text.back() == '/') text.Expected("a cgroup's path without a slash at its end");
  if (rule.text == "/") text.Error("the root cgroup holds every workload; write {\"any\": true} if that is meant");
  return rule;
}

ReadRule ReadReader(const JsonValue& value) {
  const JsonObject object(value, {"any", "workload"}, {"principal", "clientId", "where"});
  const auto which = object.ExactlyOneOf({"any", "workload"});
  if (!which) return {};
  const JsonValue reader = *object.Find(*which);
  if (*which == "workload") return ReadWorkload(reader);
  reader.True();
  return {ReadRule::Kind::kAny, ""};
}

// A choice of which this version has only the first; the others are the design's.
template <typename Enum>
void ReadChoice(const JsonObject& object, std::string_view key, Enum& field,
                std::initializer_list<std::pair<std::string_view, Enum>> choices,
                std::initializer_list<std::string_view> later = {}) {
  const auto value = object.Find(key);
  if (!value) return;
  const std::string text = value->isString() ? value->String() : "";
  if (std::find(later.begin(), later.end(), text) != later.end()) {
    value->NotSupported(StrCat("\"", key, "\": \"", text, "\""));
    return;
  }
  field = value->OneOf<Enum>(choices);
}

TopicPolicy ReadTopicEntry(const JsonValue& value, const std::string& file) {
  TopicPolicy topic;
  topic.file = file;
  const JsonObject object(value, {"name", "prefix", "pattern", "seal", "read", "onDenied", "onErased", "plaintext",
                                  "afterErase", "alreadySealed", "origin"});
  ReadSelector(object, topic);
  if (const auto seal = object.Find("seal")) topic.seal = ReadSeal(*seal, topic);
  if (const auto read = object.Find("read")) {
    for (const JsonValue& reader : read->List()) topic.read.push_back(ReadReader(reader));
  }
  if (!object.Find("seal") && !object.Find("read")) value.Expected("the key \"seal\" or \"read\", or both");
  ReadChoice<OnHidden>(object, "onDenied", topic.onDenied, {{"drop", OnHidden::kDrop}}, {"mask", "report"});
  ReadChoice<OnHidden>(object, "onErased", topic.onErased,
                       {{"auto", OnHidden::kAuto}, {"drop", OnHidden::kDrop}, {"mask", OnHidden::kMask}}, {"report"});
  ReadChoice<PlaintextRule>(object, "plaintext", topic.plaintext,
                            {{"pass", PlaintextRule::kPass}, {"drop", PlaintextRule::kDrop}});
  ReadChoice<AfterErase>(object, "afterErase", topic.afterErase, {{"stay", AfterErase::kStay}}, {"newKey"});
  ReadChoice<AlreadySealed>(object, "alreadySealed", topic.alreadySealed, {{"refuse", AlreadySealed::kRefuse}},
                            {"verify"});
  if (const auto origin = object.Find("origin")) {
    topic.origin = ReadTopicName(*origin);
    if (topic.kind != SelectorKind::kName) origin->Error("only a topic selected by name has one origin");
  }
  return topic;
}

}  // namespace

absl::StatusOr<std::vector<ReadTopic>> ReadPolicyText(std::string_view text, const std::string& name) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(text, name);
  if (!document.ok()) return document.status();
  std::vector<ReadTopic> entries;
  const JsonObject root(document->root(), {"$schema", "topics"});
  if (const auto schema = root.Find("$schema")) schema->String();
  if (const auto topics = root.Require("topics")) {
    const std::vector<JsonValue> items = topics->List();
    if (items.empty()) topics->Error("expected at least one topic");
    for (const JsonValue& item : items) entries.push_back({ReadTopicEntry(item, name), item.pointer()});
  }
  if (absl::Status status = document->status(); !status.ok()) return status;
  return entries;
}

}  // namespace kveil::policy
