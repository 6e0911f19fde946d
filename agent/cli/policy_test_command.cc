// `kveil policy test`: a table of who is to read what, beside the policies that are to say so.
#include <filesystem>
#include <iostream>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"
#include "cli/common.h"
#include "cli/policy_cases.h"
#include "config/read_file.h"
#include "nlohmann/json.hpp"
#include "policy/explain.h"
#include "policy/policy.h"

namespace kveil::cli {
namespace {

using config::JsonObject;
using config::JsonValue;
using policy::Policy;
using policy::Readable;

constexpr size_t kMostExpectations = 10'000;

struct Expectation {
  std::string pointer;  // where the table has it
  policy::DescribedClient client;
  std::string topic;
  policy::Access access = policy::Access::kRead;
  std::optional<policy::DescribedRecord> record;
  Outcome expected;
};

struct Table {
  std::vector<std::string> policies;
  std::vector<Expectation> expectations;
};

// With a record "read" (or "written"), "erased" or "denied", without one "everything", "some" or "nothing".
Expectation ReadExpectation(const JsonValue& value) {
  Expectation expectation;
  expectation.pointer = value.pointer();
  const JsonObject object(value, {"workload", "topic", "access", "record", "expect"});
  if (const auto workload = object.Require("workload")) expectation.client = ReadClient(*workload);
  if (const auto topic = object.Require("topic")) expectation.topic = topic->String();
  if (const auto access = object.Find("access")) {
    expectation.access =
        access->OneOf<policy::Access>({{"read", policy::Access::kRead}, {"write", policy::Access::kWrite}});
  }
  const auto record = object.Find("record");
  if (record) expectation.record = ReadRecord(*record);
  const auto expected = object.Require("expect");
  if (!expected) return expectation;
  expectation.expected = record ? expected->OneOf<Outcome>({{WordFor({Readable::kEverything}, true, expectation.access),
                                                             {Readable::kEverything}},
                                                            {"erased", {Readable::kNothing, true}},
                                                            {"denied", {Readable::kNothing}}})
                                : expected->OneOf<Outcome>({{"everything", {Readable::kEverything}},
                                                            {"some", {Readable::kSome}},
                                                            {"nothing", {Readable::kNothing}}});
  return expectation;
}

absl::StatusOr<Table> ReadTable(const std::string& file) {
  ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(file));
  ASSIGN_OR_RETURN(config::JsonDocument document, config::JsonDocument::Parse(text, file));
  Table table;
  const JsonObject root(document.root(), {"policies", "expectations"});
  if (const auto policies = root.Require("policies")) {
    if (policies->isString()) {
      table.policies.push_back(policies->FilePath());
    } else {
      for (const JsonValue& policy : policies->List()) table.policies.push_back(policy.FilePath());
      if (policies->isList() && table.policies.empty()) policies->Error("expected at least one file or folder");
    }
  }
  if (const auto expectations = root.Require("expectations")) {
    const std::vector<JsonValue> items = expectations->List();
    if (expectations->isList() && items.empty()) expectations->Error("expected at least one expectation");
    if (items.size() > kMostExpectations) expectations->Error(StrCat("expected at most ", kMostExpectations));
    for (const JsonValue& item : items) table.expectations.push_back(ReadExpectation(item));
  }
  RETURN_IF_ERROR(document.status());
  return table;
}

struct Difference {
  std::string pointer;
  std::string expected;
  std::string found;
  std::string why;
};

absl::StatusOr<std::vector<Difference>> Compare(const Table& table) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Policy> policies, Policy::Load(table.policies));
  std::vector<Difference> differences;
  for (const Expectation& expectation : table.expectations) {
    const policy::TopicPolicy* const topic = policies->Find(expectation.topic);
    policy::Explanation found;
    if (expectation.record.has_value()) {
      if (const absl::Status known = CheckConsents(*expectation.record, *policies); !known.ok()) {
        return absl::InvalidArgumentError(StrCat(expectation.pointer, "/record/consents: ", ToStd(known.message())));
      }
      const absl::StatusOr<policy::DescribedRecord> record = WithUser(*expectation.record, topic);
      if (!record.ok()) {
        return absl::InvalidArgumentError(
            StrCat(expectation.pointer, "/record/user: ", ToStd(record.status().message())));
      }
      found = policy::ExplainRecord(topic, expectation.client, *record, expectation.access);
    } else {
      found = policy::ExplainTopic(topic, expectation.client, expectation.access);
    }
    if (OutcomeOf(found) == expectation.expected) continue;
    const bool isOfRecord = expectation.record.has_value();
    differences.push_back({expectation.pointer,
                           std::string(WordFor(expectation.expected, isOfRecord, expectation.access)),
                           std::string(WordFor(OutcomeOf(found), isOfRecord, expectation.access)), found.why});
  }
  return differences;
}

}  // namespace

int RunPolicyTest(const CommonOptions& common, const std::string& file) {
  const absl::StatusOr<Table> table = ReadTable(file);
  if (!table.ok()) return Fail("policy test", table.status());
  const absl::StatusOr<std::vector<Difference>> differences = Compare(*table);
  if (!differences.ok()) return Fail("policy test", differences.status());
  const size_t held = table->expectations.size() - differences->size();
  if (common.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Difference& difference : *differences) {
      list.push_back({{"at", difference.pointer},
                      {"expected", difference.expected},
                      {"found", difference.found},
                      {"why", difference.why}});
    }
    std::cout << nlohmann::json({{"file", file}, {"held", held}, {"differences", std::move(list)}}).dump(2) << "\n";
  } else {
    for (const Difference& difference : *differences) {
      std::cout << file << ": " << difference.pointer << ": expected " << difference.expected << ", found "
                << difference.found << ": " << difference.why << "\n";
    }
    std::cout << file << ": " << held << " of " << table->expectations.size() << " expectations hold\n";
  }
  return differences->empty() ? 0 : 1;
}

}  // namespace kveil::cli
