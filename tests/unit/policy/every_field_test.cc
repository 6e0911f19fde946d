// Nothing of a policy changes unseen: each field of the schema is in what `kveil policy diff` says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>

#include "policy/policy.h"
#include "policy/policy_diff.h"
#include "source_dir.h"

namespace kveil::policy::every_field {
namespace {

// Two policies that differ in one field.
using Pair = std::pair<std::string, std::string>;

// What the schema calls a field, as "DEFINITION.KEY", or "DEFINITION.KEY.KEY" within.
std::set<std::string> FieldsOfSchema() {
  std::set<std::string> fields;
  const std::function<void(const nlohmann::json&, const std::string&)> look = [&](const nlohmann::json& part,
                                                                                  const std::string& at) {
    if (!part.is_structured()) return;
    for (const auto& [key, inner] : part.items()) {
      if (key == "properties" || key == "definitions") {
        for (const auto& [name, field] : inner.items()) {
          if (name == "sealedByUser" || name == "asksLabel") continue;  // what others ask of a field
          const bool isField = key == "properties";
          const std::string place = isField ? at + "." + name : name;
          if (isField) fields.insert(place);
          look(field, place);
        }
      } else if (key != "if" && key != "then" && key != "not") {  // these only ask something of fields
        look(inner, at);
      }
    }
  };
  look(nlohmann::json::parse(std::ifstream(KVEIL_SOURCE_DIR "/policies/policy.schema.json")), "file");
  return fields;
}

std::string File(const std::string& members) { return "{" + members + "}"; }
std::string Topic(const std::string& members) { return File(R"("topics": [{"name": "t", )" + members + "}]"); }
std::string Sealed(const std::string& more) { return Topic(R"("read": [], "seal": {)" + more + "}"); }
std::string OfUsers(const std::string& more, const std::string& user = R"({"key": true})") {
  return R"("purposes": ["a", "b"], "topics": [{"name": "t", "seal": {"scope": "user", "user": )" + user + "}, " +
         more + "}]";
}
std::string Unselected(const std::string& more, const std::string& seal = R"("scope": "topic")") {
  return File(R"("unselected": {"seal": {)" + seal + "}" + more + "}");
}
std::string Reads(const std::string& reader) { return Topic(R"("read": [)" + reader + "]"); }
std::string ReadBy(const std::string& workload) { return Reads(R"({"workload": {)" + workload + "}}"); }
std::string Where(const std::string& where) {
  return File(OfUsers(R"("read": [{"workload": {"namespace": "n"}, "where": {)" + where + "}}]"));
}
std::string Header(const std::string& test, const std::string& name = "h") {
  return Where(R"("header": {"name": ")" + name + "\", " + test + "}");
}
std::string Value(const std::string& test, const std::string& pointer = "/p") {
  return Where(R"("value": {"pointer": ")" + pointer + "\", " + test + "}");
}
std::string Attribute(const std::string& test, const std::string& name = "x") {
  return Where(R"("attribute": {"name": ")" + name + "\", " + test + "}");
}
std::string Purpose(const std::string& unit, const std::string& purpose) {
  return File(R"("workloads": [{"workload": {"unit": ")" + unit + R"("}, "purpose": ")" + purpose + "\"}], " +
              OfUsers(R"("read": [{"purpose": true}])"));
}
std::string User(const std::string& user) { return File(OfUsers(R"("read": [])", user)); }
std::string Hidden(const std::string& key, const std::string& how) {
  return Topic(R"("read": [{"any": true, "where": {"newerThan": "1h"}}], ")" + key + "\": " + how);
}

const std::string kA = R"("unit": "a.service")";

std::map<std::string, Pair> OfTopics() {
  const std::string none = Topic(R"("read": [])");
  const std::string topic = R"("scope": "topic")", sealed = Sealed(topic);
  const auto two = [](const std::string& key, const std::string& a, const std::string& b) {
    return Pair(File(R"("topics": [{")" + key + "\": \"" + a + R"(", "read": []}])"),
                File(R"("topics": [{")" + key + "\": \"" + b + R"(", "read": []}])"));
  };
  const auto kek = [](const std::string& provider, const std::string& key) {
    return Sealed(R"("scope": "topic", "kek": {"provider": ")" + provider + R"(", "key": ")" + key + "\"}");
  };
  const std::string users = File(OfUsers(R"("read": [])"));
  return {
      {"file.purposes", {File(R"("purposes": ["a"])"), File(R"("purposes": ["a", "b"])")}},
      {"file.workloads", {File(OfUsers(R"("read": [{"purpose": true}])")), Purpose("a.service", "a")}},
      {"file.workloads.workload", {Purpose("a.service", "a"), Purpose("b.service", "a")}},
      {"file.workloads.purpose", {Purpose("a.service", "a"), Purpose("a.service", "b")}},
      {"file.topics", two("name", "t", "u")},
      {"file.unselected", {File(R"("unselected": "pass")"), File(R"("unselected": "refuse")")}},
      {"unselected.seal", {File(R"("unselected": "pass")"), Unselected("")}},
      {"unselected.read", {Unselected(""), Unselected(R"(, "read": [{"any": true}])")}},
      {"unselected.write", {Unselected(""), Unselected(R"(, "write": [])")}},
      {"unselected.onDenied",
       {Unselected(R"(, "read": [{"any": true, "where": {"newerThan": "1h"}}])"),
        Unselected(R"(, "read": [{"any": true, "where": {"newerThan": "1h"}}], "onDenied": "null")")}},
      {"unselected.onErased", {Unselected(""), Unselected(R"(, "onErased": "null")")}},
      {"unselected.afterErase",
       {Unselected("", R"("scope": "user", "user": {"key": true}, "keyspace": "k")"),
        Unselected(R"(, "afterErase": "newKey")", R"("scope": "user", "user": {"key": true}, "keyspace": "k")")}},
      {"unselected.plaintext", {Unselected(""), Unselected(R"(, "plaintext": "drop")")}},
      {"unselected.audit", {Unselected(""), Unselected(R"(, "audit": {"users": true})")}},
      {"topic.name", two("name", "t", "u")},
      {"topic.prefix", two("prefix", "t", "u")},
      {"topic.pattern", two("pattern", "t", "u")},
      {"topic.seal", {none, sealed}},
      {"topic.read", {none, Reads(R"({"any": true})")}},
      {"topic.write", {sealed, Topic(R"("seal": {"scope": "topic"}, "read": [], "write": [])")}},
      {"topic.write.where",
       {Topic(R"("seal": {"scope": "topic"}, "write": [{"any": true}])"),
        Topic(
            R"("seal": {"scope": "topic"}, "write": [{"any": true, "where": {"header": {"name": "h", "equals": "a"}}}])")}},
      {"topic.onDenied", {Hidden("onDenied", R"("drop")"), Hidden("onDenied", R"("null")")}},
      {"topic.onErased", {Hidden("onErased", R"("drop")"), Hidden("onErased", R"("null")")}},
      {"topic.afterErase", {users, File(OfUsers(R"("read": [], "afterErase": "newKey")"))}},
      {"topic.plaintext", {none, Topic(R"("read": [], "plaintext": "drop")")}},
      {"topic.audit", {none, Topic(R"("read": [], "audit": {"users": true})")}},
      {"topic.audit.users",
       {Topic(R"("read": [], "audit": {"users": false})"), Topic(R"("read": [], "audit": {"users": true})")}},
      {"topic.origin", {none, Topic(R"("read": [], "origin": "o")")}},
      {"mask.mask", {Hidden("onErased", R"({"mask": 1})"), Hidden("onErased", R"({"mask": 2})")}},
      {"seal.scope", {sealed, Sealed(R"("scope": "cluster")")}},
      {"seal.user", {User(R"({"key": true})"), User(R"({"header": "u"})")}},
      {"seal.keyspace",
       {Sealed(R"("scope": "user", "user": {"key": true})"),
        Sealed(R"("scope": "user", "user": {"key": true}, "keyspace": "k")")}},
      {"seal.kek", {sealed, kek("p", "k")}},
      {"seal.compress", {sealed, Sealed(topic + R"(, "compress": "never")")}},
      {"kek.provider", {kek("p", "k"), kek("q", "k")}},
      {"kek.key", {kek("p", "k"), kek("p", "l")}},
      {"user.value", {User(R"({"value": "/a"})"), User(R"({"value": "/b"})")}},
      {"user.key", {User(R"({"key": "/a"})"), User(R"({"key": "/b"})")}},
      {"user.header", {User(R"({"header": "a"})"), User(R"({"header": "b"})")}},
      {"user.as", {User(R"({"key": true})"), User(R"({"key": true, "as": "uuid"})")}},
      {"user.framing", {User(R"({"key": "/a"})"), User(R"({"key": "/a", "framing": "confluent"})")}},
  };
}

std::map<std::string, Pair> OfReaders() {
  const std::string nobody = Reads("");
  const std::string inShop = R"("namespace": "shop")";
  const auto claims = [](const std::string& claimed) { return ReadBy(kA + R"(, "claimed": {)" + claimed + "}"); };
  return {
      {"reader.any", {nobody, Reads(R"({"any": true})")}},
      {"reader.workload", {nobody, ReadBy(kA)}},
      {"reader.purpose", {Purpose("a.service", "a"), File(OfUsers(R"("read": [])"))}},
      {"reader.where", {Reads(R"({"any": true})"), Reads(R"({"any": true, "where": {"newerThan": "1h"}})")}},
      {"where.users", {Where(R"("users": ["1"])"), Where(R"("users": ["2"])")}},
      {"where.consent", {Where(R"("consent": "a")"), Where(R"("consent": "b")")}},
      {"where.attribute", {Where(R"("newerThan": "1h")"), Attribute(R"("equals": "a")")}},
      {"where.header", {Where(R"("newerThan": "1h")"), Header(R"("equals": "a")")}},
      {"where.value", {Where(R"("newerThan": "1h")"), Value(R"("equals": "a")")}},
      {"where.olderThan", {Where(R"("olderThan": "1h")"), Where(R"("olderThan": "2h")")}},
      {"where.newerThan", {Where(R"("newerThan": "1h")"), Where(R"("newerThan": "2h")")}},
      {"headerTest.name", {Header(R"("equals": "a")"), Header(R"("equals": "a")", "i")}},
      {"headerTest.equals", {Header(R"("equals": "a")"), Header(R"("equals": "b")")}},
      {"headerTest.oneOf", {Header(R"("oneOf": ["a", "b"])"), Header(R"("oneOf": ["a", "c"])")}},
      {"headerTest.matches", {Header(R"("matches": "a")"), Header(R"("matches": "b")")}},
      {"attributeTest.name", {Attribute(R"("equals": "a")"), Attribute(R"("equals": "a")", "y")}},
      {"attributeTest.equals", {Attribute(R"("equals": "a")"), Attribute(R"("equals": "b")")}},
      {"attributeTest.oneOf", {Attribute(R"("oneOf": ["a", "b"])"), Attribute(R"("oneOf": ["a", "c"])")}},
      {"attributeTest.label", {Attribute(R"("label": "a")"), Attribute(R"("label": "b")")}},
      {"valueTest.pointer", {Value(R"("equals": "a")"), Value(R"("equals": "a")", "/q")}},
      {"valueTest.framing", {Value(R"("equals": "a")"), Value(R"("equals": "a", "framing": "confluent")")}},
      {"valueTest.equals", {Value(R"("equals": 1)"), Value(R"("equals": 2)")}},
      {"valueTest.oneOf", {Value(R"("oneOf": [1, 2])"), Value(R"("oneOf": [1, 3])")}},
      {"valueTest.matches", {Value(R"("matches": "a")"), Value(R"("matches": "b")")}},
      {"valueTest.range", {Value(R"("equals": 1)"), Value(R"("range": {"min": 1})")}},
      {"valueTest.range.min", {Value(R"("range": {"min": 1})"), Value(R"("range": {"min": 2})")}},
      {"valueTest.range.max", {Value(R"("range": {"max": 1})"), Value(R"("range": {"max": 2})")}},
      {"workload.unit", {ReadBy(kA), ReadBy(R"("unit": "b.service")")}},
      {"workload.cgroup", {ReadBy(R"("cgroup": "/a")"), ReadBy(R"("cgroup": "/b")")}},
      {"workload.serviceAccount", {ReadBy(R"("serviceAccount": "n/a")"), ReadBy(R"("serviceAccount": "n/b")")}},
      {"workload.namespace", {ReadBy(inShop), ReadBy(R"("namespace": "m")")}},
      {"workload.labels", {ReadBy(inShop), ReadBy(inShop + R"(, "labels": {"a": "b"})")}},
      {"workload.uid", {ReadBy(kA), ReadBy(kA + R"(, "uid": 7)")}},
      {"workload.claimed", {ReadBy(kA), claims(R"("clientId": "a")")}},
      {"workload.claimed.principal", {claims(R"("principal": "User:a")"), claims(R"("principal": "User:b")")}},
      {"workload.claimed.certificate", {claims(R"("certificate": "CN=a")"), claims(R"("certificate": "CN=b")")}},
      {"workload.claimed.clientId", {claims(R"("clientId": "a")"), claims(R"("clientId": "b")")}},
  };
}

std::shared_ptr<const Policy> Parsed(const std::string& field, const std::string& text) {
  const auto policy = Policy::Parse({{{"p.json", text}}});
  EXPECT_TRUE(policy.ok()) << field << ": " << policy.status() << "\n" << text;
  return policy.ok() ? *policy : nullptr;
}

TEST(EveryFieldTest, OfTheSchemaIsInTheDiff) {
  // What a field names apart: a schema is for editors, and users of a file are as those that the policy lists.
  std::set<std::string> fields = {"file.$schema", "where.users.file"};
  for (const std::map<std::string, Pair>& pairs : {OfTopics(), OfReaders()}) {
    for (const auto& [field, pair] : pairs) {
      fields.insert(field);
      const auto before = Parsed(field, pair.first), after = Parsed(field, pair.second);
      if (before == nullptr || after == nullptr) continue;
      EXPECT_TRUE(Compare(*before, *before).empty()) << field;
      for (const PolicyDiff& diff : {Compare(*before, *after), Compare(*after, *before)}) {
        EXPECT_FALSE(diff.empty()) << field << " changes unseen";
        for (const AccessChange& change : diff.accesses) EXPECT_NE(change.gains, change.loses) << field;
      }
    }
  }
  EXPECT_EQ(fields, FieldsOfSchema()) << "a field of the schema needs its pair of policies above";
}

}  // namespace
}  // namespace kveil::policy::every_field
