#include "policy/record_rules.h"

#include <re2/re2.h>

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "base/text.h"
#include "policy/policy.h"

namespace kveil::policy {

using std::chrono::milliseconds;

namespace {

// Nanoseconds or so of a lookup by hash, or of one label among the most that a pod may have.
constexpr uint64_t kLookupWork = 100;
// Of a step of an expression's program on a byte, where RE2 builds states that it needs once. (The usual ones take a
// tenth of this; short programs and texts up to 17.)
constexpr uint64_t kStepWork = 4;

}  // namespace

RecordRules::RecordRules(absl::Span<const ReadRule> entries) : words_((entries.size() + 63) / 64) {
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].where.has_value()) AddEntry(i, *entries[i].where);
  }
  AddUsers(entries);
  FillOthers(entries);
}

// Lists of users may be long, and many entries may share one.
void RecordRules::AddUsers(absl::Span<const ReadRule> entries) {
  std::vector<std::pair<UserList, EntrySet>> lists;  // with the entries that have it
  absl::flat_hash_map<UserList, size_t> listAt;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!entries[i].where.has_value() || !entries[i].where->namesUsers()) continue;
    const auto [at, isNew] = listAt.try_emplace(entries[i].where->users, lists.size());
    if (isNew) lists.emplace_back(entries[i].where->users, EntrySet());
    lists[at->second].second.Add(i);
  }
  std::vector<std::vector<uint32_t>> listsOf;  // of each user
  for (uint32_t list = 0; list < lists.size(); ++list) {
    for (const std::string& user : *lists[list].first) {
      const auto [number, isNew] = numberOf_.try_emplace(user, static_cast<uint32_t>(users_.size()));
      if (isNew) {
        users_.push_back(user);
        listsOf.emplace_back();
      }
      listsOf[number->second].push_back(list);
    }
  }
  absl::flat_hash_map<std::vector<uint32_t>, uint32_t> setOf;
  setOfUser_.reserve(users_.size());
  for (const std::vector<uint32_t>& named : listsOf) {
    const auto [set, isNew] = setOf.try_emplace(named, static_cast<uint32_t>(userSets_.size()));
    if (isNew) {
      EntrySet& added = userSets_.emplace_back();
      for (const uint32_t list : named) added.AddAll(lists[list].second);
    }
    setOfUser_.push_back(set->second);
  }
}

void RecordRules::AddEntry(size_t entry, const Where& where) {
  for (const std::string& purpose : where.consents) ofPurpose_[purpose].Add(entry);
  for (const AttributeTest& attribute : where.attributes) AddTest(entry, attribute, AttributeOf(attribute.name));
  for (const HeaderTest& header : where.headers) AddTest(entry, header.test, PlaceOfHeader(header.name));
  for (const ValueTest& value : where.values) AddTest(entry, value.test, PlaceOfValue(value));
  if (where.olderThan.has_value()) AgeOf(*where.olderThan, true).entries.Add(entry);
  if (where.newerThan.has_value()) AgeOf(*where.newerThan, false).entries.Add(entry);
}

RecordRules::Place& RecordRules::PlaceOfHeader(const std::string& name) {
  const auto found = std::find(headerNames_.begin(), headerNames_.end(), name);
  if (found != headerNames_.end()) return headers_[static_cast<size_t>(found - headerNames_.begin())];
  headerNames_.push_back(name);
  return headers_.emplace_back();
}

RecordRules::Place& RecordRules::PlaceOfValue(const ValueTest& test) {
  const auto found = std::find_if(values_.begin(), values_.end(), [&](const ValuePlace& place) {
    return place.pointer.text() == test.pointer.text() && place.framing == test.framing;
  });
  if (found != values_.end()) return found->place;
  values_.push_back({test.pointer, test.framing, Place()});
  return values_.back().place;
}

RecordRules::Attribute& RecordRules::AttributeOf(const std::string& name) {
  const auto found = std::find_if(attributes_.begin(), attributes_.end(),
                                  [&](const Attribute& attribute) { return attribute.name == name; });
  if (found != attributes_.end()) return *found;
  attributes_.emplace_back().name = name;
  return attributes_.back();
}

RecordRules::Age& RecordRules::AgeOf(milliseconds bound, bool isLeast) {
  const auto found = std::find_if(ages_.begin(), ages_.end(),
                                  [&](const Age& age) { return age.bound == bound && age.isLeast == isLeast; });
  if (found != ages_.end()) return *found;
  Age& age = ages_.emplace_back();
  age.bound = bound;
  age.isLeast = isLeast;
  return age;
}

void RecordRules::AddTest(size_t entry, const Test& test, Place& place) {
  for (const std::string& text : test.texts) place.texts[text].Add(entry);
  for (const double number : test.numbers) place.numbers[number].Add(entry);
  if (test.pattern != nullptr) {
    place.patterns.push_back({test.pattern, static_cast<uint64_t>(test.pattern->ProgramSize()), EntrySet()});
    place.patterns.back().entries.Add(entry);
  }
  if (test.range.has_value()) {
    place.ranges.push_back({*test.range, EntrySet()});
    place.ranges.back().entries.Add(entry);
  }
}

void RecordRules::AddTest(size_t entry, const AttributeTest& test, Attribute& attribute) {
  for (const std::string& text : test.texts) attribute.texts[text].Add(entry);
  if (test.label.empty()) return;
  const auto found = std::find_if(attribute.labels.begin(), attribute.labels.end(),
                                  [&](const auto& label) { return label.first == test.label; });
  if (found != attribute.labels.end()) return found->second.Add(entry);
  attribute.labels.emplace_back(test.label, EntrySet()).second.Add(entry);
}

void RecordRules::FillOthers(absl::Span<const ReadRule> entries) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const Where none;
    const Where& where = entries[i].where.has_value() ? *entries[i].where : none;
    if (!where.namesUsers()) ofAnyUser_.Add(i);
    if (where.consents.empty()) ofAnyConsent_.Add(i);
    if (!where.asksFacts()) ofAnyFacts_.Add(i);
    for (Attribute& attribute : attributes_) {
      const bool asks = std::any_of(where.attributes.begin(), where.attributes.end(),
                                    [&](const AttributeTest& test) { return test.name == attribute.name; });
      if (!asks) attribute.others.Add(i);
    }
    if (where.values.empty()) withoutValue_.Add(i);
    if (!where.newerThan.has_value()) ofAnyAge_[0].Add(i);
    if (!where.olderThan.has_value()) ofAnyAge_[1].Add(i);
    for (size_t header = 0; header < headers_.size(); ++header) {
      const bool asks = std::any_of(where.headers.begin(), where.headers.end(),
                                    [&](const HeaderTest& test) { return test.name == headerNames_[header]; });
      if (!asks) headers_[header].others.Add(i);
    }
    for (ValuePlace& place : values_) {
      const bool asks = std::any_of(where.values.begin(), where.values.end(), [&](const ValueTest& test) {
        return test.pointer.text() == place.pointer.text() && test.framing == place.framing;
      });
      if (!asks) place.place.others.Add(i);
    }
  }
}

std::optional<uint32_t> RecordRules::NumberOf(std::string_view user) const {
  const auto found = numberOf_.find(ToAbsl(user));
  return found == numberOf_.end() ? std::nullopt : std::optional<uint32_t>(found->second);
}

void RecordRules::NarrowByOutside(const Outside& outside, EntrySet& entries, uint64_t& work) const {
  if (needsAges()) NarrowByAge(outside.age, entries);
  for (size_t i = 0; i < headers_.size(); ++i) {
    if (outside.headers[i].has_value()) {
      NarrowByText(headers_[i], *outside.headers[i], entries, work);
    } else {
      Intersect(headers_[i].others, entries);
    }
  }
}

RecordRules::Answer RecordRules::AnswerOf(const EntrySet& entries) const {
  if (Meet(entries, withoutValue_)) return Answer::kMayRead;
  return Meet(entries, entries) ? Answer::kDependsOnValue : Answer::kDenied;
}

void RecordRules::NarrowByUser(std::optional<uint32_t> user, EntrySet& entries) const {
  if (!user.has_value()) return Intersect(ofAnyUser_, entries);
  const EntrySet& named = userSets_[setOfUser_[*user]];
  for (size_t i = 0; i < words_; ++i) entries.words_[i] &= ofAnyUser_.words_[i] | named.words_[i];
}

EntrySet RecordRules::MetBy(const users::UserFacts* facts, absl::Time now, const identity::Workload& reader,
                            uint64_t& work) const {
  if (facts == nullptr) return ofAnyFacts_;
  work += kLookupWork * (facts->consents.size() + attributes_.size());
  EntrySet met = ofAnyConsent_;
  for (const users::Consent& consent : facts->consents) {
    const auto found = ofPurpose_.find(ToAbsl(consent.purpose));
    if (found != ofPurpose_.end() && facts->Consents(consent.purpose, now)) Unite(found->second, met);
  }
  for (const Attribute& attribute : attributes_) {
    EntrySet meeting = attribute.others;
    if (const std::string* const value = facts->Attribute(attribute.name); value != nullptr) {
      if (const auto found = attribute.texts.find(*value); found != attribute.texts.end()) {
        Unite(found->second, meeting);
      }
      work += kLookupWork * attribute.labels.size();
      for (const auto& [label, entries] : attribute.labels) {
        if (HasLabel(reader, label, *value)) Unite(entries, meeting);
      }
    }
    Intersect(meeting, met);
  }
  return met;
}

void RecordRules::NarrowByAge(std::optional<milliseconds> age, EntrySet& entries) const {
  EntrySet met[2] = {ofAnyAge_[0], ofAnyAge_[1]};
  for (const Age& bound : ages_) {
    if (age.has_value() && (*age >= bound.bound) == bound.isLeast) Unite(bound.entries, met[bound.isLeast ? 1 : 0]);
  }
  Intersect(met[0], entries);
  Intersect(met[1], entries);
}

void RecordRules::NarrowByText(const Place& place, std::string_view text, EntrySet& entries, uint64_t& work) const {
  if (text.size() > kLongestTested) return Intersect(place.others, entries);
  EntrySet met = place.others;
  if (const auto found = place.texts.find(ToAbsl(text)); found != place.texts.end()) Unite(found->second, met);
  for (const Place::Pattern& pattern : place.patterns) {
    if (text.size() > kLongestMatched || !Meet(pattern.entries, entries)) continue;
    work += kStepWork * pattern.steps * text.size();
    if (Matches(*pattern.pattern, text)) Unite(pattern.entries, met);
  }
  Intersect(met, entries);
}

void RecordRules::NarrowByNumber(const Place& place, double number, EntrySet& entries) const {
  EntrySet met = place.others;
  if (const auto found = place.numbers.find(number); found != place.numbers.end()) Unite(found->second, met);
  for (const Place::Range& range : place.ranges) {
    if (number >= range.range.least && number <= range.range.most) Unite(range.entries, met);
  }
  Intersect(met, entries);
}

void RecordRules::NarrowByValue(const ValuePlace& place, Bytes value, formats::JsonFinder& finder, EntrySet& entries,
                                uint64_t& work) const {
  work += value.size();
  std::string_view found;
  formats::JsonResult result = formats::JsonResult::kNotJson;
  if (const std::optional<Bytes> json = formats::WithoutFraming(place.framing, value)) {
    result = finder.Find(*json, absl::MakeConstSpan(&place.pointer, 1), found);
  }
  if (result == formats::JsonResult::kString) return NarrowByText(place.place, found, entries, work);
  const std::optional<double> number = result == formats::JsonResult::kNumber ? policy::NumberOf(found) : std::nullopt;
  if (number.has_value()) return NarrowByNumber(place.place, *number, entries);
  Intersect(place.place.others, entries);
}

bool RecordRules::FitsValue(Bytes value, formats::JsonFinder& finder, EntrySet& entries, uint64_t& work) const {
  for (const ValuePlace& place : values_) {
    EntrySet asking = entries;
    for (size_t i = 0; i < words_; ++i) asking.words_[i] &= ~place.place.others.words_[i];
    if (!Meet(asking, asking)) continue;  // nobody who is left looks there
    NarrowByValue(place, value, finder, entries, work);
    if (!Meet(entries, entries)) return false;
  }
  return Meet(entries, entries);
}

bool HasLabel(const identity::Workload& workload, std::string_view label, std::string_view value) {
  if (workload.pod == nullptr) return false;
  const auto& labels = workload.pod->labels;  // in the order of their keys: a pod may have tens of thousands
  const auto found = std::lower_bound(labels.begin(), labels.end(), label,
                                      [](const auto& entry, std::string_view key) { return entry.first < key; });
  return found != labels.end() && found->first == label && found->second == value;
}

std::optional<std::string> BeyondBounds(absl::Span<const ReadRule> entries) {
  size_t users = 0, listed = 0, texts = 0, patterns = 0, ranges = 0, labels = 0;
  absl::flat_hash_set<std::string> headers, places, attributes;
  absl::flat_hash_set<int64_t> ages;
  absl::flat_hash_set<UserList> lists;  // each counts once, however many entries share it
  const auto count = [&](const Test& test) {
    texts += test.texts.size() + test.numbers.size();
    patterns += test.pattern != nullptr ? 1 : 0;
    ranges += test.range.has_value() ? 1 : 0;
  };
  for (const ReadRule& entry : entries) {
    if (!entry.where.has_value()) continue;
    if (entry.where->namesUsers() && lists.insert(entry.where->users).second) {
      users += entry.where->usersFile.empty() ? entry.where->users->size() : 0;
      listed += entry.where->users->size();
    }
    for (const AttributeTest& attribute : entry.where->attributes) {
      attributes.insert(attribute.name);
      texts += attribute.texts.size();
      labels += attribute.label.empty() ? 0 : 1;
    }
    for (const HeaderTest& header : entry.where->headers) {
      headers.insert(header.name);
      count(header.test);
    }
    for (const ValueTest& value : entry.where->values) {
      places.insert(StrCat(static_cast<int>(value.framing), value.pointer.text()));
      count(value.test);
    }
    if (entry.where->olderThan.has_value()) ages.insert(2 * entry.where->olderThan->count());
    if (entry.where->newerThan.has_value()) ages.insert(2 * entry.where->newerThan->count() + 1);
  }
  const auto said = [](size_t found, size_t most, std::string_view what) -> std::optional<std::string> {
    if (found <= most) return std::nullopt;
    return StrCat("the entries of one topic may have at most ", most, " ", what, ", and these have ", found);
  };
  for (const auto& beyond :
       {said(entries.size(), kMostReaders, "entries"), said(users, kMostUsers, "ids in \"users\""),
        said(listed, kMostListedUsers, "ids in \"users\", files included"),
        said(texts, kMostTexts, "texts and numbers in \"equals\" and \"oneOf\""),
        said(patterns, kMostPatterns, "patterns in \"matches\""), said(ranges, kMostRanges, "ranges"),
        said(ages.size(), kMostAges, "different durations"), said(headers.size(), kMostHeaders, "different headers"),
        said(places.size(), kMostPointers, "different places in the value"),
        said(attributes.size(), kMostAttributes, "different attributes"),
        said(labels, kMostLabels, "attributes that equal a label")}) {
    if (beyond.has_value()) return beyond;
  }
  return std::nullopt;
}

}  // namespace kveil::policy
