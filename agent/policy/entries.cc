#include "policy/entries.h"

#include <re2/re2.h>

#include <algorithm>

#include "base/text.h"
#include "identity/cgroup_path.h"
#include "policy/policy_text.h"

namespace kveil::policy {
namespace {

// What is listed of one kind, in order. None: anything will do.
using Listed = std::vector<std::string>;

bool IsWithin(const Listed& inner, const Listed& outer) {
  return outer.empty() || (!inner.empty() && std::includes(outer.begin(), outer.end(), inner.begin(), inner.end()));
}

Listed InOrder(Listed texts) {
  std::sort(texts.begin(), texts.end());
  return texts;
}

// Of two files, it does not show: each may list very many, and many entries may name it.
bool AreUsersWithin(const Conditions& inner, const Conditions& outer) {
  if (outer.users == nullptr || inner.users == outer.users) return true;
  if (inner.users == nullptr || inner.areUsersOfFile) return false;
  return std::all_of(inner.users->begin(), inner.users->end(), [&](const std::string& user) {
    return std::binary_search(outer.users->begin(), outer.users->end(), user);
  });
}

// Texts may hold anything: each with its length.
void AppendTo(std::string& text, std::string_view kind, const Listed& listed) {
  for (const std::string& one : listed) StrAppend(&text, kind, one.size(), ":", one);
}

// The same text exactly for the same test.
std::string TextOfTest(const Test& test) {
  std::string text;
  AppendTo(text, " is ", InOrder(test.texts));
  Listed numbers;
  for (const double number : test.numbers) numbers.push_back(TextOf(number));
  AppendTo(text, " is number ", InOrder(std::move(numbers)));
  if (test.pattern != nullptr) AppendTo(text, " matches ", {test.pattern->pattern()});
  if (test.range.has_value()) AppendTo(text, " range ", {TextOf(test.range->least), TextOf(test.range->most)});
  return text;
}

}  // namespace

bool Covers(const identity::Claims& outer, const identity::Claims& inner) {
  return (outer.principal.empty() || outer.principal == inner.principal) &&
         (outer.certificate.empty() || outer.certificate == inner.certificate) &&
         (outer.clientId.empty() || outer.clientId == inner.clientId);
}

bool Covers(const ReadRule& outer, const ReadRule& inner) {
  using Kind = ReadRule::Kind;
  if (outer.uid.has_value() && outer.uid != inner.uid) return false;
  if (!Covers(outer.claimed, inner.claimed)) return false;
  if (outer.kind == Kind::kAny) return true;
  if (outer.kind == Kind::kCgroup && inner.kind == Kind::kCgroup) return identity::IsBelow(inner.text, outer.text);
  if (outer.kind == Kind::kNamespace && inner.kind == Kind::kServiceAccount) {
    return outer.labels.empty() && inner.text.starts_with(outer.text + "/");
  }
  return outer.kind == inner.kind && outer.text == inner.text &&
         std::includes(inner.labels.begin(), inner.labels.end(), outer.labels.begin(), outer.labels.end());
}

Conditions::Conditions(const Where& where)
    : users(where.users),
      areUsersOfFile(!where.usersFile.empty()),
      consents(InOrder(where.consents)),
      newerThan(where.newerThan.value_or(std::chrono::milliseconds::max())),
      olderThan(where.olderThan.value_or(std::chrono::milliseconds::min())) {
  for (const AttributeTest& test : where.attributes) attributes.push_back({test.name, test.label, InOrder(test.texts)});
  std::sort(attributes.begin(), attributes.end(),
            [](const Attribute& a, const Attribute& b) { return a.name < b.name; });
  for (const HeaderTest& header : where.headers) {
    AppendTo(tests.emplace_back(), "header ", {header.name, TextOfTest(header.test)});
  }
  for (const ValueTest& value : where.values) {
    const std::string_view kind = value.framing == formats::Framing::kConfluent ? "framed " : "value ";
    AppendTo(tests.emplace_back(), kind, {value.pointer.text(), TextOfTest(value.test)});
  }
  std::sort(tests.begin(), tests.end());
}

bool Conditions::AreWithin(const Conditions& others) const {
  const auto isMet = [&](const Attribute& outer) {
    return std::any_of(attributes.begin(), attributes.end(), [&](const Attribute& inner) {
      return inner.name == outer.name && inner.label == outer.label && IsWithin(inner.texts, outer.texts);
    });
  };
  return AreUsersWithin(*this, others) && IsWithin(consents, others.consents) &&
         std::includes(tests.begin(), tests.end(), others.tests.begin(), others.tests.end()) &&
         newerThan <= others.newerThan && olderThan >= others.olderThan &&
         std::all_of(others.attributes.begin(), others.attributes.end(), isMet);
}

std::string Conditions::Text() const {
  std::string text = StrCat(newerThan.count(), ",", olderThan.count());
  if (users != nullptr) AppendTo(text, " user ", *users);
  AppendTo(text, " consent ", consents);
  for (const Attribute& attribute : attributes) {
    AppendTo(text, " attribute ", {attribute.name, attribute.label});
    AppendTo(text, " is ", attribute.texts);
  }
  AppendTo(text, " test ", tests);
  return text;
}

}  // namespace kveil::policy
