#include "cli/plain.h"

#include "base/text.h"

namespace kveil::cli {
namespace {

// Bytes at the beginning of `text` that are not to be shown as they are.
size_t HiddenBytes(std::string_view text) {
  const auto at = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  if (at(0) < 0x20 || at(0) == 0x7f) return 1;
  if (at(0) == 0xc2 && at(1) >= 0x80 && at(1) < 0xa0) return 2;  // U+0080 to U+009F are commands, too
  if (at(0) != 0xe2) return 0;
  // U+200E, U+200F, U+2028 to U+202E
  if (at(1) == 0x80 && (at(2) == 0x8e || at(2) == 0x8f || (at(2) >= 0xa8 && at(2) <= 0xae))) return 3;
  return at(1) == 0x81 && at(2) >= 0xa6 && at(2) <= 0xa9 ? 3 : 0;  // U+2066 to U+2069
}

}  // namespace

std::string Plain(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size();) {
    const size_t hidden = HiddenBytes(text.substr(i));
    if (hidden == 0) plain += text[i++];
    for (const size_t end = i + hidden; i < end; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      StrAppend(&plain, "\\x", std::string_view(&"0123456789abcdef"[byte / 16], 1),
                std::string_view(&"0123456789abcdef"[byte % 16], 1));
    }
  }
  return plain;
}

}  // namespace kveil::cli
