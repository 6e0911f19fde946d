// Texts of others on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace kveil::cli {

// The text without anything that a terminal would take for a command, or that would show what follows in another order:
// control characters and Unicode's directional ones become \x and two digits for each of their bytes.
std::string Plain(std::string_view text);

}  // namespace kveil::cli
