// Reads who may read and write: one function per JSON object.
#include "policy/rules_reader.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "policy/where_reader.h"

namespace kveil::policy {
namespace {

using config::JsonObject;
using config::JsonValue;

constexpr size_t kLongestClaim = 1000;    // a principal or a subject
constexpr size_t kLongestCgroup = 4095;   // as a path of Linux
constexpr size_t kMostRuleLabels = 32;    // of one entry
constexpr size_t kLongestLabelKey = 317;  // of Kubernetes: a DNS name, "/" and a name
constexpr size_t kLongestLabel = 63;      // likewise

bool IsUnitName(std::string_view text) {
  if (text.size() > 255 || !(text.ends_with(".service") || text.ends_with(".scope"))) return false;
  const std::string_view name = text.substr(0, text.rfind('.'));
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(c) || std::string_view(":-_.\\@").find(c) != std::string_view::npos;
  });
}

// A name of Kubernetes' namespaces (a DNS label), or of service accounts (a DNS name).
bool IsKubernetesName(std::string_view text, bool mayHaveDots) {
  return !text.empty() && text.size() <= (mayHaveDots ? 253 : 63) && std::all_of(text.begin(), text.end(), [&](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || (mayHaveDots && c == '.');
  });
}

void ReadServiceAccount(const JsonValue& value, ReadRule& rule) {
  rule.text = value.isString() ? value.String() : "";
  const size_t slash = rule.text.find('/');
  if (slash == std::string::npos || !IsKubernetesName(std::string_view(rule.text).substr(0, slash), false) ||
      !IsKubernetesName(std::string_view(rule.text).substr(slash + 1), true)) {
    value.Expected("a service account with its namespace, such as \"shop/analytics\"");
  }
}

void ReadLabels(const JsonValue& value, ReadRule& rule) {
  if (!value.isObject()) return value.Expected("an object with labels and their values");
  for (const auto& [key, label] : value.Members()) {
    rule.labels.emplace_back(key, label.String());
    if (key.size() > kLongestLabelKey) label.Error("no label of Kubernetes has such a long key");
    if (rule.labels.back().second.size() > kLongestLabel) label.Expected("a shorter label: no pod has such a long one");
  }
  if (rule.labels.empty() || rule.labels.size() > kMostRuleLabels) {
    value.Expected(StrCat("at least one label and at most ", kMostRuleLabels));
  }
  std::sort(rule.labels.begin(), rule.labels.end());
}

// Text that OpenSSL writes a subject as (RFC 4514) begins with a type and has no space behind the comma between parts.
bool LooksLikeSubject(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == 0 || equals == std::string_view::npos) return false;
  const bool beginsWithType = std::all_of(text.begin(), text.begin() + static_cast<ptrdiff_t>(equals),
                                          [](char c) { return absl::ascii_isalnum(c) || c == '.'; });
  bool isEscaped = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ',' && !isEscaped && (i + 1 == text.size() || text[i + 1] == ' ')) return false;
    isEscaped = text[i] == '\\' && !isEscaped;
  }
  return beginsWithType;
}

}  // namespace

identity::Claims ReadClaimed(const JsonValue& value) {
  identity::Claims claimed;
  const JsonObject object(value, {"principal", "certificate", "clientId"});
  if (const auto principal = object.Find("principal")) {
    constexpr std::string_view kType = "User:";
    const std::string text = principal->isString() ? principal->String() : "";
    if (!text.starts_with(kType) || text.size() == kType.size() || text.size() > kLongestClaim) {
      principal->Expected("a principal of Kafka such as \"User:analytics\"");
    } else {
      claimed.principal = text.substr(kType.size());
    }
  }
  if (const auto certificate = object.Find("certificate")) {
    claimed.certificate = certificate->isString() ? certificate->String() : "";
    if (!LooksLikeSubject(claimed.certificate) || claimed.certificate.size() > kLongestClaim) {
      certificate->Expected(
          "a certificate's subject without spaces behind commas (RFC 4514), such as \"CN=orders,OU=prod\"");
    }
  }
  if (const auto clientId = object.Find("clientId")) {
    claimed.clientId = clientId->String();
    if (claimed.clientId.size() > identity::kLongestClientId) {
      clientId->Expected(StrCat("a client id of at most ", identity::kLongestClientId, " bytes"));
    }
  }
  if (value.isObject() && !object.Find("principal") && !object.Find("certificate") && !object.Find("clientId")) {
    value.Expected("at least one of \"principal\", \"certificate\", \"clientId\"");
  }
  return claimed;
}

namespace {

// Whoever may make a pod gives it the labels that he likes: they say something within a namespace only. A uid says
// something within a unit, a cgroup or a pod only: in a container, everybody may be root.
ReadRule ReadAttested(const JsonObject& object) {
  const auto which = object.ExactlyOneOf({"unit", "cgroup", "serviceAccount", "namespace"});
  if (!which) return {};
  const JsonValue text = *object.Find(*which);
  ReadRule rule;
  if (*which == "unit") {
    rule = {ReadRule::Kind::kUnit, text.isString() ? text.String() : ""};
    if (!IsUnitName(rule.text)) text.Expected("a systemd unit such as \"analytics.service\" (a service or a scope)");
  } else if (*which == "cgroup") {
    rule = {ReadRule::Kind::kCgroup, text.AbsolutePath()};
    if (rule.text.size() > 1 && rule.text.back() == '/') text.Expected("a cgroup's path without a slash at its end");
    if (rule.text.size() > kLongestCgroup) text.Expected("a shorter path");
    if (rule.text == "/") text.Error("the root cgroup holds every workload; write {\"any\": true} if that is meant");
  } else if (*which == "serviceAccount") {
    rule.kind = ReadRule::Kind::kServiceAccount;
    ReadServiceAccount(text, rule);
  } else {
    rule = {ReadRule::Kind::kNamespace, text.isString() ? text.String() : ""};
    if (!IsKubernetesName(rule.text, false)) text.Expected("a namespace of Kubernetes, such as \"shop\"");
  }
  if (const auto labels = object.Find("labels")) {
    if (rule.kind != ReadRule::Kind::kNamespace)
      labels->Error("labels count within a namespace only; name it beside them");
    ReadLabels(*labels, rule);
  }
  if (const auto uid = object.Find("uid")) rule.uid = static_cast<uint32_t>(uid->Integer(0, UINT32_MAX - 1));
  return rule;
}

}  // namespace

ReadRule ReadWorkload(const JsonValue& value) {
  constexpr std::string_view kAttested[] = {"unit", "cgroup", "serviceAccount", "namespace", "labels", "uid"};
  const JsonObject object(
      value, {kAttested[0], kAttested[1], kAttested[2], kAttested[3], kAttested[4], kAttested[5], "claimed"}, {"pod"});
  const auto claimed = object.Find("claimed");
  const bool isAttested = std::any_of(std::begin(kAttested), std::end(kAttested),
                                      [&](std::string_view key) { return object.Find(key).has_value(); });
  ReadRule rule;
  if (isAttested || !claimed) rule = ReadAttested(object);
  if (claimed) rule.claimed = ReadClaimed(*claimed);
  return rule;
}

namespace {

ReadRule ReadReader(const JsonValue& value, const TopicPolicy& topic, UserLists& lists) {
  const JsonObject object(value, {"any", "workload", "purpose", "where"}, {"principal", "clientId"});
  ReadRule rule;
  const auto which = object.ExactlyOneOf({"any", "workload", "purpose"});
  if (which) {
    const JsonValue reader = *object.Find(*which);
    if (*which == "workload") {
      rule = ReadWorkload(reader);
    } else {
      reader.True();
    }
  }
  const auto where = object.Find("where");
  if (where) rule.where = ReadWhere(*where, topic.seal, lists);
  if (which != "purpose") {
    if (where && rule.where->asksLabel() && !rule.isOfPods()) where->Error(kLabelOfAnybody);
    return rule;
  }
  rule.kind = ReadRule::Kind::kPurpose;
  if (HaveUsers(*object.Find(*which), topic.seal) && where && !rule.where->consents.empty()) {
    where->Error("beside \"purpose\", the purpose of the workload is the consent that counts; leave \"consent\" out");
  }
  if (!where) rule.where.emplace();
  return rule;
}

}  // namespace

std::vector<ReadRule> ReadReaders(const JsonValue& value, const TopicPolicy& topic, UserLists& lists) {
  std::vector<ReadRule> rules;
  const std::vector<JsonValue> readers = value.List();
  if (readers.size() > kMostReaders) {
    value.Error(StrCat("a topic may have at most ", kMostReaders, " entries here, and this one has ", readers.size()));
    return rules;
  }
  for (const JsonValue& reader : readers) {
    rules.push_back(ReadReader(reader, topic, lists));
    rules.back().position = rules.size() - 1;
  }
  return rules;
}

// What a producer sends again has to be judged as it was before, and only what is sealed is looked into.
std::vector<ReadRule> ReadWriters(const JsonValue& value, const TopicPolicy& topic, UserLists& lists) {
  std::vector<ReadRule> rules = ReadReaders(value, topic, lists);
  for (const ReadRule& rule : rules) {
    if (!rule.where.has_value()) continue;
    if (!topic.seal.has_value())
      value.Error("only the records of a topic with \"seal\" are looked into; leave \"where\" out");
    if (rule.where->olderThan.has_value() || rule.where->newerThan.has_value()) {
      value.Error("a record that is sent again is older than before; leave \"olderThan\" and \"newerThan\" out");
    }
  }
  return rules;
}

}  // namespace kveil::policy
