#include "http/printable.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace kveil::http {

std::string Printable(std::string_view text) {
  constexpr size_t kLongest = 200;
  std::string printable(text.substr(0, kLongest));
  std::replace_if(
      printable.begin(), printable.end(), [](char c) { return !absl::ascii_isprint(static_cast<unsigned char>(c)); },
      ' ');
  return std::string(absl::StripAsciiWhitespace(printable));
}

}  // namespace kveil::http
