// Policies in words, for commands.
#pragma once

#include <string>

#include "policy/policy.h"

namespace kveil::policy {

std::string TextOf(const ReadRule& rule);  // which workloads: "unit a.service as uid 33"
std::string TextOf(const Where& where);    // which records: "users 38, 39 and header region is eu"
// Where a record's user is: "user at /userid of the value".
std::string TextOf(const UserSource& user);
// What becomes of hidden records: "left out"; `mask`: the JSON in the place of their value, or "".
std::string TextOf(OnHidden how, const std::string& mask);
// With all of its digits: the same text exactly for the same number.
std::string TextOf(double number);

}  // namespace kveil::policy
