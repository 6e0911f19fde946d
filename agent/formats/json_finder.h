// Finds the string or number that a JSON pointer leads to, such that no reader that accepts the bytes finds another.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "formats/json_pointer.h"
#include "formats/json_scanner.h"

namespace kveil::formats {

enum class JsonResult : uint8_t {
  kString,
  kNumber,     // as it is written
  kMissing,    // the pointer leads to null or to nothing
  kOther,      // it leads to something else
  kNotText,    // it leads to a string with half a surrogate pair, which is no character
  kNotJson,    // not one JSON document (RFC 8259) in UTF-8, or one deeper than 1000 levels
  kAmbiguous,  // readers may differ: see JsonScanner::isAmbiguous
};

// One per thread. Holds no more memory than a user's id takes.
class JsonFinder {
 public:
  // Follows the first pointer that leads to something other than null. `found` is the string without its escapes, or
  // the number, and valid until the next call and while the bytes are. A string longer than kLongest may be cut off
  // behind that. A byte order mark at the start is skipped: readers skip it, or refuse the text. At least 64 readable
  // bytes must follow `json`.
  //
  // With one pointer, this searches for its name, and may not see what is wrong elsewhere in the text. With several, it
  // reads the whole text strictly, once per pointer that it tries.
  JsonResult Find(Bytes json, absl::Span<const JsonPointer> pointers, std::string_view& found);

  static constexpr size_t kLongest = 4096;

 private:
  JsonResult FindOnly(std::string_view text, const JsonPointer& pointer, std::string_view& found);
  JsonResult Search(std::string_view text, const JsonPointer& pointer, std::string_view& found);
  JsonResult FindStrictly(std::string_view text, const JsonPointer& pointer, std::string_view& found);
  JsonResult ResultOf(const JsonScanner& scanner, std::string_view& found);

  std::string unescaped_;
  std::string name_;          // scratch of the scanner
  bool isKnownGood_ = false;  // the text was read strictly
};

}  // namespace kveil::formats
