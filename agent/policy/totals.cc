#include "policy/totals.h"

#include <re2/re2.h>

#include <algorithm>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::policy {
namespace {

absl::Status Check(size_t found, size_t most, std::string_view place, std::string_view what) {
  if (found <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(place, ": the policies so far have ", found, " ", what, ", and all together may have ", most));
}

size_t CountPatterns(const Where& where) {
  const auto has = [](const auto& asked) { return asked.test.pattern != nullptr; };
  return static_cast<size_t>(std::count_if(where.headers.begin(), where.headers.end(), has) +
                             std::count_if(where.values.begin(), where.values.end(), has));
}

}  // namespace

size_t CountTexts(const Where& where) {
  size_t texts = 0;
  for (const AttributeTest& attribute : where.attributes) texts += attribute.texts.size();
  for (const HeaderTest& header : where.headers) texts += header.test.texts.size();
  for (const ValueTest& value : where.values) texts += value.test.texts.size() + value.test.numbers.size();
  return texts;
}

absl::Status Totals::AddFile(std::string_view name, size_t bytes) {
  bytes_ += bytes;
  return Check(bytes_, kMostPolicyBytes, name, "bytes");
}

absl::Status Totals::AddTopic(const TopicPolicy& topic, std::string_view place) {
  RETURN_IF_ERROR(Check(++topics_, kMostEntriesOfAll, place, "entries of \"topics\""));
  for (const std::vector<ReadRule>* rules : {&topic.read, topic.write.has_value() ? &*topic.write : nullptr}) {
    if (rules == nullptr) continue;
    rules_ += rules->size();
    for (const ReadRule& rule : *rules) {
      if (!rule.where.has_value()) continue;
      texts_ += CountTexts(*rule.where);
      patterns_ += CountPatterns(*rule.where);
    }
  }
  RETURN_IF_ERROR(Check(rules_, kMostRulesOfAll, place, "entries of \"read\" and \"write\""));
  RETURN_IF_ERROR(Check(texts_, kMostTextsOfAll, place, "texts and numbers in \"equals\" and \"oneOf\""));
  return Check(patterns_, kMostPatternsOfAll, place, "patterns in \"matches\"");
}

absl::Status Totals::AddSelector(const re2::RE2& pattern, std::string_view place) {
  RETURN_IF_ERROR(Check(++selectors_, kMostSelectorPatterns, place, "entries with a \"pattern\""));
  steps_ += static_cast<size_t>(pattern.ProgramSize());
  const absl::Status checked = Check(steps_, kMostSelectorSteps, place, "steps in the programs of their \"pattern\"");
  if (checked.ok()) return checked;
  return absl::InvalidArgumentError(StrCat(checked.message(), " (\"+\" has far fewer than \"{1,249}\")"));
}

absl::Status Totals::AddUsers(size_t users, std::string_view place) {
  users_ += users;
  if (users_ <= kMostUsersOfAll) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat(place, ": the topics so far name ", users_, " users, and all topics may name ", kMostUsersOfAll));
}

}  // namespace kveil::policy
