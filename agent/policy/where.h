// What an entry of `read` asks of a record (`where`). All conditions of one `where` must hold.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/framing.h"
#include "formats/json_pointer.h"
#include "users/user_facts.h"

namespace re2 {
class RE2;
}

namespace kveil::policy {

// Bounds per topic, so that a record costs a bounded amount of work and memory. docs/policy.md has the same table.
inline constexpr size_t kMostReaders = 1024;  // entries of `read`
inline constexpr size_t kMostUsers = 10'000;  // ids in all `users`, without those in files
// With them. The keys of all of them are looked up before a reader gets anything, and a worker keeps that many.
inline constexpr size_t kMostListedUsers = 100'000;
// Of all topics, each counted for `read` and for `write`.
inline constexpr size_t kMostUsersOfAll = 1'000'000;
inline constexpr size_t kMostTexts = 10'000;   // texts and numbers in all `equals` and `oneOf`
inline constexpr size_t kMostPatterns = 16;    // `matches`, which are tried one after the other
inline constexpr size_t kMostRanges = 64;      // `range`, likewise
inline constexpr size_t kMostAges = 16;        // different durations in all `olderThan` and `newerThan`
inline constexpr size_t kMostHeaders = 16;     // different header names
inline constexpr size_t kMostPointers = 16;    // different places in values
inline constexpr size_t kMostAttributes = 16;  // different names of attributes
inline constexpr size_t kMostLabels = 64;      // attributes that have to be what a label of the reader is
inline constexpr size_t kMostTests = 8;        // headers, places in the value, or attributes, of one entry
// Purposes that all policies together may declare. A user has no more consents.
inline constexpr size_t kMostPurposes = users::kMostConsents;

// A header or a string that is longer than this, in bytes, meets no condition.
inline constexpr size_t kLongestTested = 4096;
// Nor does one that is longer than this match an expression: RE2 may take a microsecond per byte.
inline constexpr size_t kLongestMatched = 1024;

// What a text or a number has to be. Exactly one of the members is set.
struct Test {
  struct Range {
    double least = 0;  // both included
    double most = 0;
  };
  std::vector<std::string> texts;           // one of these
  std::vector<double> numbers;              // or one of these
  std::shared_ptr<const re2::RE2> pattern;  // the whole text matches
  std::optional<Range> range;               // of a number
};

struct HeaderTest {
  std::string name;
  Test test;  // of texts
};

struct ValueTest {
  formats::JsonPointer pointer;
  formats::Framing framing = formats::Framing::kNone;  // of the JSON
  Test test;
};

// What an attribute of the record's user has to be. Exactly one of `texts` and `label` is set.
struct AttributeTest {
  std::string name;
  std::vector<std::string> texts;  // one of these
  std::string label;               // or what the reader's pod has as this label
};

// In their one spelling (formats/user_id.h), in order, each once. At least one. Entries may share one.
using UserList = std::shared_ptr<const std::vector<std::string>>;

struct Where {
  UserList users;                                      // nullptr: it does not matter whose record it is
  std::string usersFile;                               // the name of the file that lists them; empty: the policy does
  std::vector<std::string> consents;                   // purposes, for one of which the user consents; empty: no matter
  std::vector<AttributeTest> attributes;               // of different names
  std::vector<HeaderTest> headers;                     // of different names
  std::vector<ValueTest> values;                       // of different places
  std::optional<std::chrono::milliseconds> olderThan;  // at least this old
  std::optional<std::chrono::milliseconds> newerThan;  // younger than this

  // Whether it asks for what is known of the record's user beside the id.
  bool asksFacts() const { return !consents.empty() || !attributes.empty(); }
  // Whether it compares an attribute with a label of the reader's pod.
  bool asksLabel() const {
    return std::any_of(attributes.begin(), attributes.end(),
                       [](const AttributeTest& test) { return !test.label.empty(); });
  }
  // Whether it names users.
  bool namesUsers() const { return users != nullptr; }
  // Whether it asks whose record it is.
  bool asksUser() const { return namesUsers() || asksFacts(); }
};

// Whether the whole text matches.
bool Matches(const re2::RE2& pattern, std::string_view text);

// Whether a text or a number meets the test.
bool Meets(const Test& test, std::string_view text);
bool Meets(const Test& test, double number);

// A JSON number as the conditions compare it. nullopt: too large for a double.
std::optional<double> NumberOf(std::string_view json);

}  // namespace kveil::policy
