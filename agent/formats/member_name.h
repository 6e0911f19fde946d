// The name of a JSON member that a policy looks for, and which other names a reader might take for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace re2 {
class RE2;
}

namespace kveil::formats {

enum class NameMatch : uint8_t {
  kOther,  // no reader takes it for the name
  kSame,   // byte for byte
  kAlike,  // in another case: Go, .NET and others that ignore case take it for the name
};

// "k" and U+212A, which folds to it, are one byte and three: no longer name is alike.
inline constexpr size_t kMostGrowthByFolding = 3;

class MemberName {
 public:
  // `text` is UTF-8 and not longer than a policy may be.
  explicit MemberName(std::string text);

  const std::string& text() const { return text_; }
  // Compares a name as it reads without its escapes, which must be UTF-8. Case is Unicode's simple case folding; the
  // Turkish letters without and with a dot count as "i", as in Java's equalsIgnoreCase.
  NameMatch Compare(std::string_view name) const;
  // Whether the text is of two letters at least and can only be spelled in ASCII letters, digits and marks that need no
  // escape in JSON, so that searching for its bytes finds it (json_search.h).
  bool isSearchable() const { return isSearchable_; }

 private:
  bool IsAlike(std::string_view name) const;

  std::string text_;
  bool isSearchable_ = false;
  std::shared_ptr<const re2::RE2> ignoringCase_;
};

}  // namespace kveil::formats
