#include "policy/explain.h"

#include <algorithm>

#include "base/text.h"
#include "config/units.h"
#include "formats/json_finder.h"
#include "formats/user_id.h"
#include "policy/policy_text.h"

namespace kveil::policy {
namespace {

using formats::JsonResult;

// What the JSON reader may read behind a text.
constexpr size_t kPadding = 64;

// The text with room behind it.
class Padded {
 public:
  explicit Padded(std::string_view text) : size_(text.size()), text_(text) { text_.append(kPadding, '\0'); }
  Bytes bytes() const { return AsBytes(text_).first(size_); }

 private:
  size_t size_;
  std::string text_;
};

std::optional<std::string> UserInJson(const UserSource& source, std::string_view text) {
  const Padded padded(text);
  const std::optional<Bytes> json = formats::WithoutFraming(source.framing, padded.bytes());
  if (!json.has_value()) return std::nullopt;
  formats::JsonFinder finder;
  std::string_view found;
  std::string_view id;
  std::string scratch;
  const JsonResult result = finder.Find(*json, source.pointers, found);
  auto problem = formats::IdProblem::kEmpty;
  if (result == JsonResult::kString) problem = formats::IdOfText(source.as, found, scratch, id);
  if (result == JsonResult::kNumber) problem = formats::IdOfNumber(source.as, found, id);
  return problem == formats::IdProblem::kNone ? std::optional<std::string>(id) : std::nullopt;
}

std::optional<std::string> UserInText(const UserSource& source, const std::optional<std::string>& text) {
  if (!text.has_value()) return std::nullopt;
  std::string scratch;
  std::string_view id;
  const Padded padded(*text);
  const formats::IdProblem problem = formats::IdOfBytes(source.as, padded.bytes(), scratch, id);
  return problem == formats::IdProblem::kNone ? std::optional<std::string>(id) : std::nullopt;
}

// The one header of the name. nullopt: it is not there, or twice.
std::optional<std::string> HeaderOf(const DescribedRecord& record, std::string_view name) {
  std::optional<std::string> value;
  for (const auto& [key, text] : record.headers) {
    if (key != name) continue;
    if (value.has_value()) return std::nullopt;
    value = text;
  }
  return value;
}

std::string WhyNotHeader(const HeaderTest& test, const DescribedRecord& record) {
  const std::optional<std::string> value = HeaderOf(record, test.name);
  if (!value.has_value()) return StrCat("the header ", test.name, " is not there, or is there twice");
  return Meets(test.test, *value) ? "" : StrCat("the header ", test.name, " is another");
}

std::string WhyNotValue(const ValueTest& test, const DescribedRecord& record) {
  if (!record.value.has_value()) return "the record has no value";
  const Padded padded(*record.value);
  const std::optional<Bytes> json = formats::WithoutFraming(test.framing, padded.bytes());
  if (!json.has_value()) return "no schema's id precedes the JSON of the value";
  formats::JsonFinder finder;
  std::string_view found;
  const std::string place = StrCat(test.pointer.text(), " of the value");
  switch (finder.Find(*json, absl::MakeConstSpan(&test.pointer, 1), found)) {
    case JsonResult::kString:
      return Meets(test.test, found) ? "" : StrCat(place, " is another text");
    case JsonResult::kNumber: {
      const std::optional<double> number = NumberOf(found);
      return number.has_value() && Meets(test.test, *number) ? "" : StrCat(place, " is another number");
    }
    case JsonResult::kAmbiguous:
      return StrCat("readers may differ on what is at ", place);
    case JsonResult::kNotJson:
    case JsonResult::kNotText:
      return "the value is no JSON that all readers read alike";
    case JsonResult::kMissing:
    case JsonResult::kOther:
      break;
  }
  return StrCat("there is neither a text nor a number at ", place);
}

std::string WhyNotConsent(const std::vector<std::string>& purposes, const DescribedRecord& record) {
  const bool isGiven = std::any_of(purposes.begin(), purposes.end(), [&](const std::string& purpose) {
    return std::find(record.consents.begin(), record.consents.end(), purpose) != record.consents.end();
  });
  if (isGiven) return "";
  if (purposes.size() == 1) return StrCat("the user does not consent to ", purposes.front());
  return "the user consents to none of the purposes";
}

std::string WhyNotAttribute(const AttributeTest& test, const DescribedRecord& record,
                            const identity::Workload& workload) {
  const auto found = std::find_if(record.attributes.begin(), record.attributes.end(),
                                  [&](const auto& attribute) { return attribute.first == test.name; });
  if (found == record.attributes.end()) return StrCat("the user has no ", test.name);
  if (!test.label.empty()) {
    return HasLabel(workload, test.label, found->second)
               ? ""
               : StrCat("the user's ", test.name, " is not the workload's label ", test.label);
  }
  const bool isOne = std::find(test.texts.begin(), test.texts.end(), found->second) != test.texts.end();
  return isOne ? "" : StrCat("the user's ", test.name, " is another");
}

// Whether it was sealed with the key of a user who was erased since.
bool IsOfErasedUser(const TopicPolicy& topic, const DescribedRecord& record) {
  return record.isErased && topic.seal.has_value() && topic.seal->scope == SealScope::kUser &&
         (record.value.has_value() || record.isSealedForUser);
}

// Of what is known of the user beside the id.
std::string WhyNotFacts(const Where& where, const DescribedRecord& record, const identity::Workload& workload) {
  if (!record.user.has_value()) return "it is not known whose record it is";
  if (record.isErased) return "of a user who was erased nothing is known";
  if (!record.value.has_value() && !record.isSealedForUser) {
    return "a tombstone has no key that says what is known of its user";
  }
  if (!where.consents.empty()) {
    if (std::string why = WhyNotConsent(where.consents, record); !why.empty()) return why;
  }
  for (const AttributeTest& attribute : where.attributes) {
    if (std::string why = WhyNotAttribute(attribute, record, workload); !why.empty()) return why;
  }
  return "";
}

// Of what anybody sees of the record, whosever it is.
std::string WhyNotOutside(const Where& where, const DescribedRecord& record) {
  if ((where.olderThan.has_value() || where.newerThan.has_value()) && !record.age.has_value()) {
    return "the record has no time";
  }
  if (where.olderThan.has_value() && *record.age < *where.olderThan) {
    return StrCat("the record is not older than ", config::FormatDuration(*where.olderThan));
  }
  if (where.newerThan.has_value() && *record.age >= *where.newerThan) {
    return StrCat("the record is not newer than ", config::FormatDuration(*where.newerThan));
  }
  for (const HeaderTest& header : where.headers) {
    if (std::string why = WhyNotHeader(header, record); !why.empty()) return why;
  }
  return "";
}

// Why an erased user's record is not for the reader; empty: nothing keeps it from the reader.
std::string WhyNotErased(const Where& where, const DescribedRecord& record) {
  if (std::string why = WhyNotOutside(where, record); !why.empty()) return why;
  if (where.asksUser()) return "its user was erased, so nobody knows whose it was";
  return where.values.empty() ? "" : "its user was erased, so nobody can see its value";
}

// Why the record does not meet the conditions; empty: it meets them.
std::string WhyNot(const Where& where, const DescribedRecord& record, const identity::Workload& workload) {
  const auto isNamed = [&] {
    return record.user.has_value() && std::binary_search(where.users->begin(), where.users->end(), *record.user);
  };
  if (where.namesUsers() && !isNamed()) {
    return record.user.has_value() ? "the record is of another user" : "it is not known whose record it is";
  }
  if (where.asksFacts()) {
    if (std::string why = WhyNotFacts(where, record, workload); !why.empty()) return why;
  }
  if (std::string why = WhyNotOutside(where, record); !why.empty()) return why;
  for (const ValueTest& value : where.values) {
    if (std::string why = WhyNotValue(value, record); !why.empty()) return why;
  }
  return "";
}

// A topic's entries of one kind, and how they are spoken of.
struct Entries {
  Entries(const TopicPolicy& topic, Access access)
      : rules(access == Access::kRead ? topic.read : *topic.write),
        name(access == Access::kRead ? "read" : "write"),
        all(access == Access::kRead ? "reads" : "writes"),
        done(access == Access::kRead ? "read" : "written") {}

  std::string Text(size_t entry) const {
    return StrCat("entry ", rules[entry].position + 1, " of \"", name, "\" (", TextOf(rules[entry]), ")");
  }

  const std::vector<ReadRule>& rules;
  const std::string_view name;
  const std::string_view all;
  const std::string_view done;
};

Explanation Everything(std::string why) {
  Explanation explanation;
  explanation.readable = Readable::kEverything;
  explanation.why = std::move(why);
  return explanation;
}

}  // namespace

std::optional<std::string> UserIn(const DescribedRecord& record, const SealRule& seal) {
  if (seal.scope != SealScope::kUser) return std::nullopt;
  switch (seal.user.from) {
    case UserSource::From::kValue:
      return record.value.has_value() ? UserInJson(seal.user, *record.value) : std::nullopt;
    case UserSource::From::kKey:
      if (seal.user.pointers.empty()) return UserInText(seal.user, record.key);
      return record.key.has_value() ? UserInJson(seal.user, *record.key) : std::nullopt;
    case UserSource::From::kHeader:
      break;
  }
  return UserInText(seal.user, HeaderOf(record, seal.user.header));
}

Explanation ExplainTopic(const TopicPolicy* topic, const DescribedClient& client, Access access) {
  if (topic == nullptr) {
    return Everything(StrCat("no entry selects the topic, so it is not protected: every workload ",
                             access == Access::kRead ? "reads it" : "writes to it"));
  }
  if (access == Access::kWrite && !topic->write.has_value()) {
    return Everything("the topic's entry has no \"write\": every workload writes every record");
  }
  const Entries entries(*topic, access);
  Explanation explanation;
  std::vector<size_t> fitting;
  for (size_t i = 0; i < entries.rules.size(); ++i) {
    if (!Fits(entries.rules[i], client.workload, client.claims)) continue;
    fitting.push_back(i);
    if (entries.rules[i].where.has_value()) continue;
    explanation = Everything(
        StrCat(entries.Text(i), " fits the workload and has no \"where\": it ", entries.all, " every record"));
    explanation.entry = entries.rules[i].position;
    return explanation;
  }
  if (fitting.empty()) {
    explanation.why =
        StrCat("no entry of \"", entries.name, "\" fits the workload: it gets TOPIC_AUTHORIZATION_FAILED");
    return explanation;
  }
  explanation.readable = Readable::kSome;
  explanation.why = StrCat("it ", entries.all, " some records: ");
  for (const size_t i : fitting) {
    StrAppend(&explanation.why, i == fitting.front() ? "" : "; ", entries.Text(i), " those of ",
              TextOf(*entries.rules[i].where));
  }
  return explanation;
}

namespace {

// Of an erased user's record that is for the reader.
Explanation Erased(const TopicPolicy& topic, Explanation explanation) {
  explanation.readable = Readable::kNothing;
  explanation.isErased = true;
  StrAppend(&explanation.why, ", but its user was erased; such records are ", TextOf(topic.onErased, topic.erasedMask));
  return explanation;
}

// Of a record that no entry lets through. `isForNobody`: an erased user's that its headers and time do not keep from
// the reader. No error is in its place: nobody could have had it.
std::string InItsPlace(const TopicPolicy& topic, bool isForNobody) {
  if (topic.onDenied == OnHidden::kDrop) return "";
  if (topic.onDenied == OnHidden::kError && isForNobody) return "; such records of erased users are left out";
  return StrCat("; such records are ", TextOf(topic.onDenied, topic.deniedMask));
}

}  // namespace

Explanation ExplainRecord(const TopicPolicy* topic, const DescribedClient& client, const DescribedRecord& record,
                          Access access) {
  Explanation explanation = ExplainTopic(topic, client, access);
  // Who may write a user's records may write them after the erasure, too.
  const bool isErased = access == Access::kRead && topic != nullptr && IsOfErasedUser(*topic, record);
  if (explanation.readable == Readable::kEverything && isErased) return Erased(*topic, std::move(explanation));
  if (explanation.readable != Readable::kSome) return explanation;
  explanation.readable = Readable::kNothing;
  explanation.why.clear();
  const Entries entries(*topic, access);
  bool isForNobody = false;
  for (size_t i = 0; i < entries.rules.size(); ++i) {
    if (!Fits(entries.rules[i], client.workload, client.claims)) continue;
    const Where& where = *entries.rules[i].where;
    const std::string why = isErased ? WhyNotErased(where, record) : WhyNot(where, record, client.workload);
    if (why.empty()) {
      explanation = Everything(StrCat(entries.Text(i), " lets it be ", entries.done, ": ", TextOf(where)));
      explanation.entry = entries.rules[i].position;
      if (isErased) return Erased(*topic, std::move(explanation));
      // Whether it has an envelope is not known here. A tombstone needs none.
      if (access == Access::kRead && where.asksUser() && record.value.has_value()) {
        StrAppend(&explanation.why, ", if the record is sealed: clear text is no user's");
      }
      return explanation;
    }
    if (isErased && WhyNotOutside(where, record).empty()) isForNobody = true;
    StrAppend(&explanation.why, explanation.why.empty() ? "" : "; ", entries.Text(i), " does not let it be ",
              entries.done, ": ", why);
  }
  if (access == Access::kRead) StrAppend(&explanation.why, InItsPlace(*topic, isForNobody));
  return explanation;
}

}  // namespace kveil::policy
