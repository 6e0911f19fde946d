// Finds a member of a JSON object by searching for its name: faster than parsing, and strict where it matters.
//
// The rule: no reader that accepts the text may find another member under this name. Reading the whole text strictly
// (json_scanner.h) ensures that, but so do these three together:
//   1. the name occurs once in the text, as a whole word, in any case, quoted or not;
//   2. nothing else spells it: no escape stands for an ASCII character (or one that folds to an ASCII letter), every
//      escape is one that JSON has, and the bytes are UTF-8;
//   3. that occurrence is a name of the outermost object.
// Then even a reader that accepts comments, single quotes, unquoted names, another case, or a broken rest of the text
// finds this member or none. If one of the three fails, read the text strictly. Do so, too, if finding none would make
// a reader look elsewhere, as with a list of pointers.
#pragma once

#include <cstddef>
#include <string_view>

#include "formats/member_name.h"

namespace kveil::formats {

struct Sight {
  enum class Kind : uint8_t {
    kNowhere,  // no reader finds the name
    kOnce,     // a name of the outermost object; `end` is behind its closing quote
    kUnsure,   // read it strictly
  };
  Kind kind = Kind::kUnsure;
  size_t end = 0;
};

// `name` must be searchable (MemberName). At least 64 readable bytes must follow the text.
Sight FindOnlySight(std::string_view text, const MemberName& name);

}  // namespace kveil::formats
