// Reads JSON strictly (RFC 8259), and finds on the way where a pointer leads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "formats/json_pointer.h"

namespace kveil::formats {

// What a pointer leads to.
struct JsonPlace {
  enum class Kind : uint8_t {
    kMissing,  // no such member, or null there or on the way
    kString,
    kNumber,
    kOther,  // true, false, an object, a list; no object on the way; a name only in another case
  };
  Kind kind = Kind::kMissing;
  std::string_view raw;  // of a string, what is between its quotes; of a number, all of it
  bool hasEscapes = false;
};

// The text must be UTF-8; this is not checked. At least 64 readable bytes must follow it.
class JsonScanner {
 public:
  // Begins at `position`. `scratch` is used for names with escapes.
  JsonScanner(std::string_view text, size_t position, std::string& scratch)
      : text_(text), position_(position), name_(scratch) {}

  void SkipSpace();
  // Consumes the byte if it is the next one.
  bool Take(char byte);
  bool atEnd() const { return position_ >= text_.size(); }
  char next() const { return atEnd() ? '\0' : text_[position_]; }

  // Reads one value; place() is where `steps` lead in it. False: it is no JSON, is deeper than 1000 levels, or
  // isAmbiguous.
  bool ScanValue(absl::Span<const JsonStep> steps);
  const JsonPlace& place() const { return place_; }
  // Whether an object on the way has a name twice, or one that a reader may take for another: the name in another case
  // beside the name itself, or one with U+0000 or half a surrogate pair. Reading ends there.
  bool isAmbiguous() const { return isAmbiguous_; }

 private:
  struct StringFacts {
    std::string_view raw;
    bool hasEscapes = false;
    bool hasNul = false;
  };

  bool ScanObject(absl::Span<const JsonStep> steps);
  bool ScanList(absl::Span<const JsonStep> steps);
  bool ScanScalar();
  bool SkipValue();
  bool SkipScalar();
  bool SkipContainer();
  bool EndContainers(size_t outside);
  bool SkipName();
  bool ScanString(StringFacts& facts);
  bool ScanEscape(StringFacts& facts);
  bool ScanNumber();
  bool ScanDigits();
  bool ScanLiteral(std::string_view literal);
  NameMatch Compare(const StringFacts& name, const MemberName& wanted);

  static constexpr size_t kMostLevels = 1000;

  const std::string_view text_;
  size_t position_;
  size_t depth_ = 0;
  std::array<bool, kMostLevels + 1> isObject_;  // per open level off the pointer's way; set when it is opened
  JsonPlace place_;
  bool isAmbiguous_ = false;
  std::string& name_;
};

// A string's text without its escapes, which must be valid; cut off somewhere behind `limit` bytes. False: it has half
// a surrogate pair, which is no character.
bool Unescape(std::string_view raw, size_t limit, std::string& out);

// The value of the four hexadecimal digits of \uXXXX, or -1.
int HexDigits(std::string_view four);

}  // namespace kveil::formats
