#include "policy/policy_text.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "absl/strings/escaping.h"
#include "base/text.h"
#include "config/units.h"

namespace kveil::policy {
namespace {

// The first of them, and how many more there are.
constexpr size_t kMostListed = 5;

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (size_t i = 0; i < std::min(texts.size(), kMostListed); ++i) StrAppend(&joined, i == 0 ? "" : ", ", texts[i]);
  if (texts.size() > kMostListed) StrAppend(&joined, " and ", texts.size() - kMostListed, " more");
  return joined;
}

// A text that may be taken for a number, or for several texts, is in quotes.
std::string Quoted(const std::string& text) {
  const bool isPlain = !NumberOf(text).has_value() && text.find_first_of(" ,\"") == std::string::npos;
  return isPlain ? text : StrCat("\"", text, "\"");
}

std::vector<std::string> Quoted(std::vector<std::string> texts) {
  for (std::string& text : texts) text = Quoted(text);
  return texts;
}

std::string TextOf(const Test& test) {
  constexpr double kOpen = 1e300;  // an end that was not given
  if (test.pattern != nullptr) return StrCat("matches ", test.pattern->pattern());
  if (test.range.has_value()) {
    if (test.range->most > kOpen) return StrCat("is at least ", policy::TextOf(test.range->least));
    if (test.range->least < -kOpen) return StrCat("is at most ", policy::TextOf(test.range->most));
    return StrCat("is from ", policy::TextOf(test.range->least), " to ", policy::TextOf(test.range->most));
  }
  std::vector<std::string> answers = Quoted(test.texts);
  for (const double number : test.numbers) answers.push_back(policy::TextOf(number));
  return StrCat(answers.size() == 1 ? "is " : "is one of ", Joined(answers));
}

std::string PlaceText(const UserSource& user) {
  std::string pointers;
  for (const formats::JsonPointer& pointer : user.pointers) {
    StrAppend(&pointers, pointers.empty() ? "" : ", else ", pointer.text());
  }
  switch (user.from) {
    case UserSource::From::kValue:
      return StrCat("user at ", pointers, " of the value");
    case UserSource::From::kKey:
      return pointers.empty() ? "user is the record key" : StrCat("user at ", pointers, " of the record key");
    case UserSource::From::kHeader:
      break;
  }
  return StrCat("user in the header ", user.header);
}

}  // namespace

std::string TextOf(const ReadRule& rule) {
  std::string text;
  switch (rule.kind) {
    case ReadRule::Kind::kAny:
      text = "every workload";
      break;
    case ReadRule::Kind::kUnit:
      text = StrCat("unit ", rule.text);
      break;
    case ReadRule::Kind::kCgroup:
      text = StrCat("cgroup ", rule.text);
      break;
    case ReadRule::Kind::kServiceAccount:
      text = StrCat("service account ", rule.text);
      break;
    case ReadRule::Kind::kNamespace:
      text = StrCat("namespace ", rule.text);
      break;
    case ReadRule::Kind::kPurpose:
      return "workloads with a purpose, of users who consent to it";
  }
  for (const auto& [key, value] : rule.labels) StrAppend(&text, " with ", key, "=", value);
  if (rule.uid.has_value()) StrAppend(&text, " as uid ", *rule.uid);
  // Escaped, so that no two of them read alike.
  const auto append = [&text](std::string_view claim, const std::string& value) {
    if (!value.empty()) StrAppend(&text, " that claims ", claim, " \"", absl::Utf8SafeCEscape(value), "\"");
  };
  append("principal", rule.claimed.principal.empty() ? "" : "User:" + rule.claimed.principal);
  append("certificate", rule.claimed.certificate);
  append("client id", rule.claimed.clientId);
  return text;
}

std::string TextOf(const UserSource& user) {
  std::string text = PlaceText(user);
  if (user.framing == formats::Framing::kConfluent) text += ", behind a schema's id";
  if (user.as != formats::IdEncoding::kText) StrAppend(&text, ", as ", formats::NameOf(user.as));
  return text;
}

std::string TextOf(OnHidden how, const std::string& mask) {
  switch (how) {
    case OnHidden::kDrop:
      return "left out";
    case OnHidden::kMask:
      return mask.empty() ? "kept without their value" : StrCat("kept with the value ", mask);
    case OnHidden::kNull:
      return "kept with a null value";
    case OnHidden::kSealed:
      return "kept sealed";
    case OnHidden::kError:
      return "answered with an error";
    case OnHidden::kAuto:
      break;
  }
  return "left out, or kept without their value for clients that need it";
}

std::string TextOf(double number) {
  std::array<char, 32> digits;
  const auto [end, error] = std::to_chars(digits.data(), digits.data() + digits.size(), number);
  return std::string(digits.data(), end);
}

std::string TextOf(const Where& where) {
  std::vector<std::string> parts;
  if (where.namesUsers() && !where.usersFile.empty()) {
    parts.push_back(StrCat("the ", where.users->size(), " users in ", where.usersFile));
  } else if (where.namesUsers()) {
    parts.push_back(StrCat(where.users->size() == 1 ? "user " : "users ", Joined(*where.users)));
  }
  if (!where.consents.empty()) {
    parts.push_back(
        StrCat("users who consent to ", where.consents.size() == 1 ? "" : "one of ", Joined(where.consents)));
  }
  for (const AttributeTest& attribute : where.attributes) {
    const std::string is = attribute.texts.size() > 1 ? "is one of " : "is ";
    parts.push_back(
        StrCat("users whose ", attribute.name, " ", is,
               attribute.label.empty() ? Joined(Quoted(attribute.texts)) : "the reader's label " + attribute.label));
  }
  for (const HeaderTest& header : where.headers)
    parts.push_back(StrCat("header ", header.name, " ", TextOf(header.test)));
  for (const ValueTest& value : where.values) {
    parts.push_back(StrCat(value.pointer.text(), " of the value ",
                           value.framing == formats::Framing::kConfluent ? "behind a schema's id " : "",
                           TextOf(value.test)));
  }
  if (where.olderThan.has_value()) parts.push_back(StrCat("older than ", config::FormatDuration(*where.olderThan)));
  if (where.newerThan.has_value()) parts.push_back(StrCat("newer than ", config::FormatDuration(*where.newerThan)));
  std::string text;
  for (const std::string& part : parts) StrAppend(&text, text.empty() ? "" : " and ", part);
  return text;
}

}  // namespace kveil::policy
