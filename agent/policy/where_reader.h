// Reads the `where` of an entry of `read`.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "config/json_value.h"
#include "policy/policy.h"
#include "policy/user_list.h"

namespace kveil::policy {

// The name of a purpose or of an attribute.
std::string ReadName(const config::JsonValue& value);

// As an expression of a policy is compiled. Whether that works, its ok() says.
std::shared_ptr<const re2::RE2> CompilePattern(const std::string& text);
// An RE2 expression. nullptr: it is none, or empty; the error is at the value.
std::shared_ptr<const re2::RE2> ReadPattern(const config::JsonValue& value);

// Whether the records of a topic with this seal have users. Otherwise an error at the value, which asks for one.
bool HaveUsers(const config::JsonValue& value, const std::optional<SealRule>& seal);

// `seal`: of the topic, as `users` are ids of its keyspace. Errors go to the document. Whether purposes are declared is
// not known here. `lists`: files of users that were read before.
Where ReadWhere(const config::JsonValue& value, const std::optional<SealRule>& seal, UserLists& lists);

}  // namespace kveil::policy
