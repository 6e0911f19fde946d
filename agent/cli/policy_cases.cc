#include "cli/policy_cases.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_split.h"
#include "base/text.h"
#include "formats/user_id.h"
#include "nlohmann/json.hpp"
#include "policy/rules_reader.h"

namespace kveil::cli {

using config::JsonObject;
using config::JsonValue;

policy::DescribedClient ReadClient(const JsonValue& value) {
  policy::DescribedClient client;
  identity::Workload& workload = client.workload;
  identity::Pod pod;
  const JsonObject object(value, {"unit", "cgroup", "serviceAccount", "namespace", "labels", "uid", "claimed"});
  if (const auto unit = object.Find("unit")) {
    workload.unit = unit->String();
    workload.cgroupPath = StrCat("/system.slice/", workload.unit);
  }
  if (const auto cgroup = object.Find("cgroup")) workload.cgroupPath = cgroup->AbsolutePath();
  if (const auto account = object.Find("serviceAccount")) {
    const std::string text = account->String();
    const size_t slash = text.find('/');
    if (slash == std::string::npos)
      account->Expected("a service account with its namespace, such as \"shop/analytics\"");
    pod.nameSpace = text.substr(0, slash);
    if (slash != std::string::npos) pod.serviceAccount = text.substr(slash + 1);
  }
  if (const auto nameSpace = object.Find("namespace")) pod.nameSpace = nameSpace->String();
  if (const auto labels = object.Find("labels")) {
    for (const auto& [key, label] : labels->Members()) pod.labels.emplace_back(key, label.String());
    std::sort(pod.labels.begin(), pod.labels.end());
  }
  if (!pod.nameSpace.empty()) workload.pod = std::make_shared<const identity::Pod>(std::move(pod));
  if (const auto uid = object.Find("uid")) workload.uid = static_cast<uint32_t>(uid->Integer(0, UINT32_MAX - 1));
  if (const auto claimed = object.Find("claimed")) client.claims = policy::ReadClaimed(*claimed);
  return client;
}

namespace {

// "unit=a.service,label.app=x" as JSON.
std::string JsonOf(const std::string& text) {
  if (text.starts_with("{")) return text;
  nlohmann::json json = nlohmann::json::object();
  for (const absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(part, absl::MaxSplits('=', 1));
    const std::string& name = pair.first;
    if (name.starts_with("label.")) {
      json["labels"][name.substr(6)] = pair.second;
    } else if (name.starts_with("claimed.")) {
      json["claimed"][name.substr(8)] = pair.second;
    } else if (name == "uid" && nlohmann::json::accept(pair.second)) {
      json[name] = nlohmann::json::parse(pair.second);
    } else {
      json[name] = pair.second;
    }
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

absl::StatusOr<policy::DescribedClient> ParseClient(const std::string& text) {
  absl::StatusOr<config::JsonDocument> document = config::JsonDocument::Parse(JsonOf(text), "--workload");
  if (!document.ok()) return document.status();
  policy::DescribedClient client = ReadClient(document->root());
  if (absl::Status status = document->status(); !status.ok()) return status;
  return client;
}

policy::DescribedRecord ReadRecord(const JsonValue& value) {
  policy::DescribedRecord record;
  const JsonObject object(value, {"user", "consents", "attributes", "key", "headers", "value", "age", "erased"});
  if (const auto user = object.Find("user")) record.user = user->String();
  if (const auto consents = object.Find("consents")) {
    for (const JsonValue& purpose : consents->List()) record.consents.push_back(purpose.String());
  }
  if (const auto attributes = object.Find("attributes")) {
    for (const auto& [name, text] : attributes->Members()) record.attributes.emplace_back(name, text.String());
  }
  if (const auto key = object.Find("key")) record.key = key->isString() ? key->String() : key->Dump();
  if (const auto headers = object.Find("headers")) {
    for (const auto& [name, text] : headers->Members()) record.headers.emplace_back(name, text.String());
  }
  if (const auto content = object.Find("value")) record.value = content->Dump();
  if (const auto age = object.Find("age")) {
    record.age = age->Duration(std::chrono::milliseconds(0), std::chrono::hours(24 * 366 * 100));
  }
  if (const auto erased = object.Find("erased")) {
    erased->True();
    record.isErased = true;
  }
  return record;
}

absl::Status CheckConsents(const policy::DescribedRecord& record, const policy::Policy& policies) {
  for (const std::string& purpose : record.consents) {
    if (std::binary_search(policies.purposes().begin(), policies.purposes().end(), purpose)) continue;
    const std::vector<std::string_view> names(policies.purposes().begin(), policies.purposes().end());
    const std::string_view nearest = config::NearestName(purpose, names);
    return absl::InvalidArgumentError(StrCat(
        "unknown purpose \"", purpose, "\", ",
        nearest.empty() ? "which no policy file lists in \"purposes\"" : StrCat("did you mean \"", nearest, "\"?")));
  }
  return absl::OkStatus();
}

absl::StatusOr<policy::DescribedRecord> WithUser(policy::DescribedRecord record, const policy::TopicPolicy* topic) {
  const bool hasUsers = topic != nullptr && topic->seal.has_value() && topic->seal->scope == policy::SealScope::kUser;
  if (!hasUsers) {
    record.user.reset();
    return record;
  }
  if (!record.user.has_value()) {
    record.user = policy::UserIn(record, *topic->seal);
    return record;
  }
  std::string scratch;
  std::string_view id;
  const formats::IdProblem problem = formats::IdOfText(topic->seal->user.as, *record.user, scratch, id);
  if (problem != formats::IdProblem::kNone) return absl::InvalidArgumentError(ToAbsl(formats::Explain(problem)));
  record.user = std::string(id);
  record.isSealedForUser = true;
  return record;
}

std::string_view WordFor(Outcome outcome, bool isOfRecord, policy::Access access) {
  if (outcome.isErased) return "erased";
  switch (outcome.readable) {
    case policy::Readable::kNothing:
      return isOfRecord ? "denied" : "nothing";
    case policy::Readable::kSome:
      return "some";
    case policy::Readable::kEverything:
      break;
  }
  if (!isOfRecord) return "everything";
  return access == policy::Access::kRead ? "read" : "written";
}

}  // namespace kveil::cli
