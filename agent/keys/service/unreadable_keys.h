// The keys that a turn of the epochs cannot rewrap, as their rows do not give them: damage that the operator has to
// hear of, by name.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "base/text.h"
#include "crypto/key_id.h"

namespace kveil::keys {

// What a pass over all rows finds, and until it has ended, also what the one before found.
class UnreadableKeys {
 public:
  static constexpr size_t kMostNamed = 16;  // others are counted

  void Note(const crypto::KeyId& id) {
    ++now_.count;
    if (now_.ids.size() < kMostNamed) now_.ids.push_back(id);
  }
  // A row of which not even the id can be read.
  void NoteMalformed() { ++now_.count; }
  // Whether the pass, or its rest, has found any.
  bool EndPass() {
    before_ = std::exchange(now_, {});
    return before_.count > 0;
  }
  void Clear() { before_ = now_ = {}; }

  bool empty() const { return before_.count == 0 && now_.count == 0; }
  const std::vector<crypto::KeyId>& ids() const { return Shown().ids; }
  // "1 key(s) cannot be unwrapped: 00ff..., and 3 more".
  std::string Text() const {
    std::string text = StrCat(Shown().count, " key(s) cannot be unwrapped");
    const char* separator = ": ";
    for (const crypto::KeyId& id : ids()) StrAppend(&text, std::exchange(separator, ", "), TextOf(id));
    if (Shown().count > ids().size()) StrAppend(&text, ", and ", Shown().count - ids().size(), " more");
    return text;
  }

 private:
  struct Pass {
    std::vector<crypto::KeyId> ids;
    size_t count = 0;
  };
  const Pass& Shown() const { return now_.count >= before_.count ? now_ : before_; }
  Pass before_, now_;
};

}  // namespace kveil::keys
