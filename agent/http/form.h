// Fields of a form (application/x-www-form-urlencoded), which are also those of a URL's query.
#pragma once

#include <string_view>

#include "crypto/secret_text.h"

namespace kveil::http {

// Appends "name=value", after an ampersand unless it is the first one. In the value, everything but the unreserved
// characters of RFC 3986, section 2.3, is percent-encoded. `name` has no others.
void AppendFormField(crypto::SecretText& form, std::string_view name, std::string_view value);

}  // namespace kveil::http
