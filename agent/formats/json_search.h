// Finds a member of a JSON object by searching for its name, which is faster than parsing, and strict in what matters.
//
// The rule: no reader that accepts the text may find another member under this name. Reading the whole text strictly
// (json_scanner.h) is sufficient for that, but not necessary. It is also sufficient that
//   1. the name stands once in the text, as a whole word, in any case, in quotes or not;
//   2. nothing else spells it: no escape stands for an ASCII character (or one that folds to an ASCII letter), none is
//      one that JSON does not have, and the bytes are UTF-8;
//   3. that one sight is a name of the outermost object.
// Then also readers that take comments, single quotes, names without quotes, another case, or a broken rest of the text
// find this member or none. Where one of the three fails, the text is to be read strictly. So it is where finding none
// makes a reader look elsewhere, as with a list of pointers.
#pragma once

#include <cstddef>
#include <string_view>

#include "formats/member_name.h"

namespace kveil::formats {

struct Sight {
  enum class Kind : uint8_t {
    kNowhere,  // no reader finds the name
    kOnce,     // a name of the outermost object, which ends (with its quote) at `end`
    kUnsure,   // read it strictly
  };
  Kind kind = Kind::kUnsure;
  size_t end = 0;
};

// `name` is searchable. At least 64 readable bytes must follow the text.
Sight FindOnlySight(std::string_view text, const MemberName& name);

}  // namespace kveil::formats
