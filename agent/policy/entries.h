// What two entries of `read` or `write` have to do with each other.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "policy/policy.h"

namespace kveil::policy {

// Whether whoever claims `inner` claims all that `outer` asks for.
bool Covers(const identity::Claims& outer, const identity::Claims& inner);

// Whether every workload that fits `inner` fits `outer`, as far as the selectors show it.
bool Covers(const ReadRule& outer, const ReadRule& inner);

// The conditions of an entry, such that those of two can be compared.
struct Conditions {
  explicit Conditions(const Where& where);

  // Whether every record that meets these meets the others, as far as that shows.
  bool AreWithin(const Conditions& others) const;
  // The same text exactly for the same conditions.
  std::string Text() const;

  struct Attribute {
    std::string name;
    std::string label;
    std::vector<std::string> texts;
  };
  UserList users;  // nullptr: it does not matter
  bool areUsersOfFile = false;
  // All in order. Empty: it does not matter.
  std::vector<std::string> consents;
  std::vector<Attribute> attributes;
  std::vector<std::string> tests;  // of headers and values
  std::chrono::milliseconds newerThan;
  std::chrono::milliseconds olderThan;
};

}  // namespace kveil::policy
