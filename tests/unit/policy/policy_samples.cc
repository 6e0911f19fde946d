// Policy documents, good and bad.
#include "documents.h"

namespace kveil::policy {
namespace {

// One topic that is good but for what `members` makes of it.
std::string Topic(const std::string& members) { return R"({"topics": [{)" + members + "}]}"; }
std::string Seal(const std::string& seal) { return Topic(R"("name": "t", "seal": {)" + seal + "}"); }
std::string User(const std::string& user) { return Seal(R"("scope": "user", "user": )" + user); }
std::string Reader(const std::string& reader) { return Topic(R"("name": "t", "read": [)" + reader + "]"); }

}  // namespace

std::vector<Sample> PolicySamples() {
  return {
      {"smallest", Topic(R"("name": "t", "read": [])"), ""},
      {"schema named", R"({"$schema": "x", "topics": [{"name": "t", "read": []}]})", ""},
      {"cluster scope", Seal(R"("scope": "cluster")"), ""},
      {"topic scope, never compressed", Seal(R"("scope": "topic", "compress": "never")"), ""},
      {"user in the value", User(R"({"value": "/a/b~1c/0"})"), ""},
      {"user is the key", User(R"({"key": true})"), ""},
      {"user in the key", User(R"({"key": "/id"})"), ""},
      {"user in a header", User(R"({"header": "user"})"), ""},
      {"user in an empty member", User(R"({"value": "/"})"), ""},
      {"keyspace", Seal(R"("scope": "user", "user": {"key": true}, "keyspace": "customers")"), ""},
      {"every choice",
       Topic(R"("name": "t", "read": [{"any": true}], "onDenied": "drop", "onErased": "drop", "plaintext": "pass",
                "afterErase": "stay", "alreadySealed": "refuse", "origin": "o")"),
       ""},
      {"erased masked", Topic(R"("name": "t", "read": [], "onErased": "mask")"), ""},
      {"erased as it suits the client", Topic(R"("name": "t", "read": [], "onErased": "auto")"), ""},
      {"plaintext dropped", Topic(R"("prefix": "a.", "read": [], "plaintext": "drop")"), ""},
      {"pattern", Topic(R"("pattern": "a|b", "read": [])"), ""},
      {"unit", Reader(R"({"workload": {"unit": "a-b@1.service"}})"), ""},
      {"escaped unit", Reader(R"({"workload": {"unit": "a\\x2db.scope"}})"), ""},
      {"cgroup", Reader(R"({"workload": {"cgroup": "/system.slice"}})"), ""},
      {"internal topic by name", Topic(R"("name": "__consumer_offsets", "read": [])"), ""},

      {"not an object", "[]", "p.json: expected an object, found a list"},
      {"no topics", "{}", "p.json: expected the key \"topics\", which is missing"},
      {"topics not a list", R"({"topics": {}})", "p.json: /topics: expected a list, found an object"},
      {"no topic", R"({"topics": []})", "/topics: expected at least one topic"},
      {"topic not an object", R"({"topics": ["t"]})", "/topics/0: expected an object, found \"t\""},
      {"unknown at the top", R"({"topic": [], "topics": [{"name": "t", "read": []}]})",
       "/topic: unknown key \"topic\", did you mean \"topics\"?"},
      {"misspelled", Topic(R"("name": "t", "raed": [])"),
       "/topics/0/raed: unknown key \"raed\", did you mean \"read\"?"},
      {"nothing near", Topic(R"("name": "t", "read": [], "zzzzzzzz": 1)"), "unknown key \"zzzzzzzz\", expected one of"},
      {"neither seal nor read", Topic(R"("name": "t")"), "/topics/0: expected the key \"seal\" or \"read\", or both"},
      {"no selector", Topic(R"("read": [])"), "expected exactly one of \"name\", \"prefix\", \"pattern\", found none"},
      {"two selectors", Topic(R"("name": "t", "prefix": "t", "read": [])"), "found \"name\" and \"prefix\""},
      {"name not text", Topic(R"("name": 1, "read": [])"), "/topics/0/name: expected a non-empty string, found 1"},
      {"empty name", Topic(R"("name": "", "read": [])"), "/topics/0/name: expected a non-empty string, found \"\""},
      {"name that Kafka refuses", Topic(R"("name": "a b", "read": [])"), "/topics/0/name: expected a topic's name"},
      {"name of dots", Topic(R"("name": "..", "read": [])"), "/topics/0/name: expected a topic's name"},
      {"long name", Topic(R"("name": ")" + std::string(250, 'a') + R"(", "read": [])"), "at most 249"},
      {"empty prefix", Topic(R"("prefix": "", "read": [])"), "/topics/0/prefix: expected a non-empty string"},
      {"internal prefix", Topic(R"("prefix": "__c", "read": [])"), "/topics/0/prefix: internal topics"},
      {"pattern not text", Topic(R"("pattern": [], "read": [])"), "/topics/0/pattern: expected a non-empty string"},
      {"origin of a prefix", Topic(R"("prefix": "a", "read": [], "origin": "o")"), "only a topic selected by name"},
      {"origin not a topic", Topic(R"("name": "a", "read": [], "origin": "o o")"),
       "/topics/0/origin: expected a topic"},

      {"seal not an object", Topic(R"("name": "t", "seal": "user")"),
       "/topics/0/seal: expected an object, found \"user\""},
      {"no scope", Seal(""), "/topics/0/seal: expected the key \"scope\", which is missing"},
      {"wrong scope", Seal(R"("scope": "usr")"),
       "/topics/0/seal/scope: expected one of \"cluster\", \"topic\", \"user\", found \"usr\""},
      {"user missing", Seal(R"("scope": "user")"), "/topics/0/seal: expected the key \"user\", which is missing"},
      {"user of a topic's key", Seal(R"("scope": "topic", "user": {"key": true})"),
       "only the scope \"user\" has a user"},
      {"keyspace of a cluster's key", Seal(R"("scope": "cluster", "keyspace": "k")"), "has a keyspace"},
      {"empty keyspace", Seal(R"("scope": "user", "user": {"key": true}, "keyspace": "")"),
       "/keyspace: expected a non-empty"},
      {"wrong compress", Seal(R"("scope": "topic", "compress": true)"),
       "/compress: expected one of \"auto\", \"never\""},
      {"kek", Seal(R"("scope": "topic", "kek": "x")"), "/topics/0/seal/kek: \"kek\" is not supported in this version"},
      {"fields", Seal(R"("scope": "topic", "fields": ["/a"])"), "/fields: \"fields\" is not supported in this version"},
      {"user nowhere", User("{}"), "expected exactly one of \"value\", \"key\", \"header\", found none"},
      {"user twice", User(R"({"value": "/a", "key": true})"), "found \"value\" and \"key\""},
      {"pointer without a slash", User(R"({"value": "userid"})"),
       "/user/value: expected a JSON pointer into the value"},
      {"pointer to everything", User(R"({"value": ""})"), "/user/value: expected a non-empty string, found \"\""},
      {"pointer with a wrong escape", User(R"({"value": "/a~2"})"), "/user/value: expected a JSON pointer"},
      {"pointer that ends in an escape", User(R"({"value": "/a~"})"), "/user/value: expected a JSON pointer"},
      {"key false", User(R"({"key": false})"), "/user/key: expected true or a JSON pointer into the key"},
      {"header of the envelope", User(R"({"header": "kveil"})"), "/user/header: the header \"kveil\" is the envelope"},
      {"header empty", User(R"({"header": ""})"), "/user/header: expected a non-empty string"},

      {"read not a list", Topic(R"("name": "t", "read": {"any": true})"), "/topics/0/read: expected a list"},
      {"reader of nothing", Reader("{}"),
       "/topics/0/read/0: expected exactly one of \"any\", \"workload\", found none"},
      {"any false", Reader(R"({"any": false})"), "/topics/0/read/0/any: expected true, found false"},
      {"any and a workload", Reader(R"({"any": true, "workload": {"unit": "a.service"}})"),
       "found \"any\" and \"workload\""},
      {"where", Reader(R"({"any": true, "where": {"users": ["38"]}})"),
       "/where: \"where\" is not supported in this version"},
      {"principal", Reader(R"({"principal": "User:a"})"), "/principal: \"principal\" is not supported in this version"},
      {"client id", Reader(R"({"clientId": "a"})"), "/clientId: \"clientId\" is not supported in this version"},
      {"service account", Reader(R"({"workload": {"serviceAccount": "a/b"}})"),
       "/topics/0/read/0/workload/serviceAccount: \"serviceAccount\" is not supported in this version"},
      {"unit and cgroup", Reader(R"({"workload": {"unit": "a.service", "cgroup": "/a"}})"),
       "found \"unit\" and \"cgroup\""},
      {"unit without a kind", Reader(R"({"workload": {"unit": "analytics"}})"), "/unit: expected a systemd unit"},
      {"unit of another kind", Reader(R"({"workload": {"unit": "a.slice"}})"), "/unit: expected a systemd unit"},
      {"unit without a name", Reader(R"({"workload": {"unit": ".service"}})"), "/unit: expected a systemd unit"},
      {"cgroup not absolute", Reader(R"({"workload": {"cgroup": "a"}})"), "/cgroup: expected an absolute path"},
      {"cgroup with a slash at its end", Reader(R"({"workload": {"cgroup": "/a/"}})"), "without a slash at its end"},
      {"root cgroup", Reader(R"({"workload": {"cgroup": "/"}})"), "/cgroup: the root cgroup holds every workload"},

      {"masked", Topic(R"("name": "t", "read": [], "onDenied": "mask")"),
       "/topics/0/onDenied: \"onDenied\": \"mask\" is not supported in this version"},
      {"reported", Topic(R"("name": "t", "read": [], "onDenied": "report")"), "is not supported in this version"},
      {"new key", Topic(R"("name": "t", "read": [], "afterErase": "newKey")"), "is not supported in this version"},
      {"verified", Topic(R"("name": "t", "read": [], "alreadySealed": "verify")"), "is not supported in this version"},
      {"wrong plaintext", Topic(R"("name": "t", "read": [], "plaintext": "allow")"),
       "/topics/0/plaintext: expected one of \"pass\", \"drop\", found \"allow\""},
      {"choice not text", Topic(R"("name": "t", "read": [], "onErased": null)"),
       "/onErased: expected one of \"auto\", \"drop\", \"mask\", found null"},
  };
}

}  // namespace kveil::policy
