// Policies in words, for commands.
#pragma once

#include <string>

#include "policy/policy.h"

namespace kveil::policy {

std::string TextOf(const ReadRule& rule);  // which workloads: "unit a.service as uid 33"
std::string TextOf(const Where& where);    // which records: "users 38, 39 and header region is eu"
// With everything that they list, so that two are alike exactly if their texts are.
std::string TextOf(const HeaderTest& header);
std::string TextOf(const ValueTest& value);

}  // namespace kveil::policy
