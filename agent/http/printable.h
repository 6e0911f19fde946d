// What a service says, for a message.
#pragma once

#include <string>
#include <string_view>

namespace kveil::http {

// Cut after 200 bytes, every character that is not printable ASCII replaced by a space, and none at either end.
std::string Printable(std::string_view text);

}  // namespace kveil::http
