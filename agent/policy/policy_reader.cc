// Reads one policy file: one function per JSON object, in the order of docs/policy.md.
#include "policy/policy_reader.h"

#include <re2/re2.h>

#include <algorithm>

#include "base/text.h"
#include "config/json_value.h"
#include "config/topic_name.h"
#include "policy/rules_reader.h"
#include "policy/where_reader.h"

namespace kveil::policy {
namespace {

using config::JsonDocument;
using config::JsonObject;
using config::JsonValue;

constexpr size_t kLongestKeyspace = 1000;  // a pattern may be one
constexpr size_t kLongestHeader = 1000;
constexpr size_t kLongestMask = 1000;  // of a record that may be much smaller
constexpr size_t kMostPointers = 8;
constexpr char kSealedHeader[] = "kveil";

std::string ReadTopicName(const JsonValue& value) {
  std::string text = value.String();
  if (!text.empty() && !config::IsTopicName(text)) {
    value.Expected("a topic's name of at most 249 letters, digits, '.', '_' and '-'");
  }
  return text;
}

std::string ReadPrefix(const JsonValue& value) {
  std::string text = value.String();
  if (!config::HasTopicCharacters(text))
    value.Expected("the beginning of topic names: letters, digits, '.', '_' and '-'");
  if (text.starts_with("__")) value.Error("topics that begin with \"__\" match no prefix; select them by name");
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
    if (const auto pattern = ReadPattern(value)) topic.selector = pattern->pattern();
  }
}

void ReadPointer(const JsonValue& value, std::string_view expected, UserSource& user) {
  std::optional<formats::JsonPointer> pointer =
      formats::JsonPointer::Parse(value.isString() ? value.String() : std::string());
  if (pointer.has_value()) {
    user.pointers.push_back(*std::move(pointer));
  } else {
    value.Expected(expected);
  }
}

// One pointer or a list of them.
void ReadValuePointers(const JsonValue& value, UserSource& user) {
  constexpr char kExpected[] = "a JSON pointer into the value, such as \"/userid\", or a list of them";
  if (!value.isList()) return ReadPointer(value, kExpected, user);
  const std::vector<JsonValue> pointers = value.List();
  if (pointers.empty() || pointers.size() > kMostPointers) {
    value.Expected(StrCat("at least one JSON pointer and at most ", kMostPointers));
  }
  for (const JsonValue& pointer : pointers) ReadPointer(pointer, kExpected, user);
}

UserSource ReadUser(const JsonValue& value) {
  UserSource user;
  const JsonObject object(value, {"value", "key", "header", "as", "framing"});
  if (const auto as = object.Find("as")) {
    user.as = as->OneOf<formats::IdEncoding>({{"text", formats::IdEncoding::kText},
                                              {"int64", formats::IdEncoding::kInt64},
                                              {"uuid", formats::IdEncoding::kUuid},
                                              {"hex", formats::IdEncoding::kHex},
                                              {"base64", formats::IdEncoding::kBase64}});
  }
  const auto framing = object.Find("framing");
  if (framing) {
    user.framing = framing->OneOf<formats::Framing>(
        {{"none", formats::Framing::kNone}, {"confluent", formats::Framing::kConfluent}});
  }
  const auto which = object.ExactlyOneOf({"value", "key", "header"});
  if (!which) return user;
  const JsonValue source = *object.Find(*which);
  if (*which == "value") {
    user.from = UserSource::From::kValue;
    ReadValuePointers(source, user);
  } else if (*which == "key") {
    user.from = UserSource::From::kKey;
    if (!source.isTrue()) ReadPointer(source, "true or a JSON pointer into the key, such as \"/userid\"", user);
  } else {
    user.from = UserSource::From::kHeader;
    user.header = source.String();
    if (user.header.size() > kLongestHeader) source.Expected("a shorter header name");
    if (user.header == kSealedHeader) source.Error("the header \"kveil\" is the envelope, it names no user");
  }
  if (framing && (*which == "header" || source.isTrue())) {
    framing->Error("only JSON that a pointer leads into has a framing");
  }
  return user;
}

void ReadKek(const JsonValue& value, SealRule& seal) {
  const JsonObject object(value, {"provider", "key"});
  seal.kek.emplace();
  if (const auto provider = object.Require("provider")) seal.kek->provider = provider->String();
  const auto key = object.Require("key");
  if (!key) return;
  seal.kek->key = key->String();
  if (seal.kek->key.empty()) return;
  if (const std::string wanted = WrongKekKey(seal.kek->key); !wanted.empty()) return key->Expected(wanted);
  if (seal.scope == SealScope::kCluster && seal.kek->key.find(kTopicPlace) != std::string::npos) {
    key->Error(
        "the key of the scope \"cluster\" is for all topics; leave \"${topic}\" out, or take the scope \"topic\"");
  }
}

SealRule ReadSeal(const JsonValue& value, const TopicPolicy& topic) {
  SealRule seal;
  const JsonObject object(value, {"scope", "user", "keyspace", "kek", "compress"}, {"fields"});
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
  const bool needsKeyspace = ofUser && topic.kind == SelectorKind::kUnselected;
  if (const auto keyspace = needsKeyspace ? object.Require("keyspace") : object.Find("keyspace")) {
    seal.keyspace = keyspace->String();
    if (!ofUser) keyspace->Error("only the scope \"user\" has a keyspace");
    if (seal.keyspace.size() > kLongestKeyspace) keyspace->Expected("a shorter keyspace");
  }
  if (const auto kek = object.Find("kek")) ReadKek(*kek, seal);
  if (const auto compress = object.Find("compress")) {
    seal.compress = compress->OneOf<CompressValues>(
        {{"auto", CompressValues::kAuto}, {"always", CompressValues::kAlways}, {"never", CompressValues::kNever}});
  }
  return seal;
}

// A choice. Those in `later` belong to the design but not to this version.
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

// A choice, or the mask itself.
void ReadHidden(const JsonObject& object, std::string_view key, OnHidden& how, std::string& mask,
                std::initializer_list<std::pair<std::string_view, OnHidden>> choices,
                std::initializer_list<std::string_view> later = {}) {
  const auto value = object.Find(key);
  if (!value || !value->isObject()) return ReadChoice<OnHidden>(object, key, how, choices, later);
  how = OnHidden::kMask;
  const auto content = JsonObject(*value, {"mask"}).Require("mask");
  if (!content) return;
  mask = content->Dump();
  if (mask.size() > kLongestMask) content->Error(StrCat("a mask has at most ", kLongestMask, " bytes"));
}

// Fields that later versions give a meaning. A policy that has one is refused: it means something that this version
// does not do.
constexpr std::string_view kLater[] = {"alreadySealed"};

void ReadAfterErase(const JsonValue& value, TopicPolicy& topic) {
  const bool readmits = value.OneOf<bool>({{"stay", false}, {"newKey", true}});
  if (!topic.seal.has_value() || topic.seal->scope != SealScope::kUser) {
    return value.Error("only where \"seal\" has the scope \"user\" are users erased");
  }
  topic.seal->readmits = readmits;
}

// What an entry says beside which topics it is for.
void ReadTreatment(const JsonObject& object, UserLists& lists, TopicPolicy& topic) {
  for (const std::string_view key : kLater) {
    if (const auto value = object.Find(key)) value->NotSupported(StrCat("\"", key, "\""));
  }
  if (const auto seal = object.Find("seal")) topic.seal = ReadSeal(*seal, topic);
  if (const auto afterErase = object.Find("afterErase")) ReadAfterErase(*afterErase, topic);
  if (const auto read = object.Find("read")) topic.read = ReadReaders(*read, topic, lists);
  if (const auto write = object.Find("write")) topic.write = ReadWriters(*write, topic, lists);
  ReadHidden(object, "onDenied", topic.onDenied, topic.deniedMask,
             {{"drop", OnHidden::kDrop},
              {"mask", OnHidden::kMask},
              {"null", OnHidden::kNull},
              {"sealed", OnHidden::kSealed},
              {"error", OnHidden::kError}});
  const bool hasRules =
      std::any_of(topic.read.begin(), topic.read.end(), [](const ReadRule& rule) { return rule.where.has_value(); });
  if (const auto onDenied = object.Find("onDenied"); onDenied && !hasRules) {
    onDenied->Error("no entry of \"read\" has a \"where\", so no record is ever left out by one");
  }
  ReadHidden(
      object, "onErased", topic.onErased, topic.erasedMask,
      {{"auto", OnHidden::kAuto}, {"drop", OnHidden::kDrop}, {"mask", OnHidden::kMask}, {"null", OnHidden::kNull}},
      {"report"});
  ReadChoice<PlaintextRule>(object, "plaintext", topic.plaintext,
                            {{"pass", PlaintextRule::kPass}, {"drop", PlaintextRule::kDrop}});
}

// What an entry asks of the audit trail.
void ReadAudit(const JsonObject& object, TopicPolicy& topic) {
  const auto audit = object.Find("audit");
  if (!audit) return;
  const JsonObject asked(*audit, {"users"});
  const auto users = asked.Require("users");
  if (!users) return;
  topic.auditsUsers = users->isTrue();
  if (!topic.auditsUsers && users->Dump() != "false") users->Expected("true or false");
}

TopicPolicy ReadTopicEntry(const JsonValue& value, const std::string& file, UserLists& lists) {
  TopicPolicy topic;
  topic.file = file;
  const JsonObject object(value, {"name", "prefix", "pattern", "seal", "read", "write", "onErased", "onDenied",
                                  "plaintext", "origin", "audit", "afterErase", kLater[0]});
  ReadSelector(object, topic);
  ReadTreatment(object, lists, topic);
  ReadAudit(object, topic);
  if (!object.Find("seal") && !object.Find("read")) value.Expected("the key \"seal\" or \"read\", or both");
  if (const auto origin = object.Find("origin")) {
    topic.origin = ReadTopicName(*origin);
    if (topic.kind != SelectorKind::kName) origin->Error("only a topic selected by name has one origin");
  }
  return topic;
}

// "pass", "refuse", or an entry without a selector.
void ReadUnselected(const JsonValue& value, const std::string& name, UserLists& lists, ReadFile& file) {
  if (value.isString()) {
    file.unselected = value.OneOf<Unselected>({{"pass", Unselected::kPass}, {"refuse", Unselected::kRefuse}});
    return;
  }
  if (!value.isObject()) return value.Expected("\"pass\", \"refuse\" or an object with the key \"seal\"");
  file.unselected = Unselected::kSeal;
  TopicPolicy topic;
  topic.file = name;
  topic.kind = SelectorKind::kUnselected;
  const JsonObject object(
      value, {"seal", "read", "write", "onErased", "onDenied", "plaintext", "audit", "afterErase", kLater[0]});
  if (object.Require("seal")) ReadTreatment(object, lists, topic);
  ReadAudit(object, topic);
  file.topics.push_back({std::move(topic), value.pointer()});
}

void ReadPurposes(const JsonValue& value, ReadFile& file) {
  const std::vector<JsonValue> purposes = value.List();
  if (value.isList() && purposes.empty()) value.Error("expected at least one purpose");
  if (purposes.size() > kMostPurposes) return value.Expected(StrCat("at most ", kMostPurposes, " purposes"));
  for (const JsonValue& purpose : purposes) {
    std::string name = ReadName(purpose);
    if (std::find(file.purposes.begin(), file.purposes.end(), name) != file.purposes.end()) {
      purpose.Error("this purpose is in the list already");
    }
    file.purposes.push_back(std::move(name));
  }
}

void ReadWorkloads(const JsonValue& value, ReadFile& file) {
  const std::vector<JsonValue> workloads = value.List();
  if (value.isList() && workloads.empty()) value.Error("expected at least one workload");
  if (workloads.size() > kMostWorkloads) return value.Expected(StrCat("at most ", kMostWorkloads, " workloads"));
  for (const JsonValue& item : workloads) {
    const JsonObject object(item, {"workload", "purpose"});
    PurposeOf entry;
    entry.pointer = item.pointer();
    if (const auto workload = object.Require("workload")) entry.workload = ReadWorkload(*workload);
    if (const auto purpose = object.Require("purpose")) entry.purpose = ReadName(*purpose);
    file.workloads.push_back(std::move(entry));
  }
}

}  // namespace

absl::StatusOr<ReadFile> ReadPolicyText(std::string_view text, const std::string& name, UserLists& lists) {
  absl::StatusOr<JsonDocument> document = JsonDocument::Parse(text, name);
  if (!document.ok()) return document.status();
  ReadFile file;
  const JsonObject root(document->root(), {"$schema", "purposes", "workloads", "topics", "unselected"});
  if (const auto schema = root.Find("$schema")) schema->String();
  const auto unselected = root.Find("unselected");
  if (unselected) ReadUnselected(*unselected, name, lists, file);
  const auto purposes = root.Find("purposes");
  if (purposes) ReadPurposes(*purposes, file);
  const auto workloads = root.Find("workloads");
  if (workloads) ReadWorkloads(*workloads, file);
  const bool mayLackTopics = unselected || purposes || workloads;
  if (const auto topics = mayLackTopics ? root.Find("topics") : root.Require("topics")) {
    const std::vector<JsonValue> items = topics->List();
    if (items.empty()) topics->Error("expected at least one topic");
    for (const JsonValue& item : items) file.topics.push_back({ReadTopicEntry(item, name, lists), item.pointer()});
  }
  if (absl::Status status = document->status(); !status.ok()) return status;
  return file;
}

}  // namespace kveil::policy
