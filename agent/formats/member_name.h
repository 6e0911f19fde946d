// The name of a JSON member that a policy looks for, and the other names that a reader might take for it.
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

// "k" is one byte and U+212A, which folds to it, three: a name longer than that is never alike.
inline constexpr size_t kMostGrowthByFolding = 3;

class MemberName {
 public:
  // `text` is UTF-8, and no longer than a policy allows.
  explicit MemberName(std::string text);

  const std::string& text() const { return text_; }
  // Compares a name in UTF-8, without its escapes. Ignores case by Unicode's simple case folding; the Turkish i without
  // a dot and I with one count as "i", as in Java's equalsIgnoreCase.
  NameMatch Compare(std::string_view name) const;
  // Whether searching for the bytes of the text finds it (json_search.h): it has at least two letters, and can only be
  // spelled in ASCII letters, digits and marks that need no escape in JSON.
  bool isSearchable() const { return isSearchable_; }

 private:
  bool IsAlike(std::string_view name) const;

  std::string text_;
  bool isSearchable_ = false;
  std::shared_ptr<const re2::RE2> ignoringCase_;
};

}  // namespace kveil::formats
