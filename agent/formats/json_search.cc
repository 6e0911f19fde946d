#include "formats/json_search.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/ascii.h"
#include "base/short_runs.h"
#include "formats/json_scanner.h"
#include "formats/text_masks.h"
#include "formats/utf8.h"

namespace kveil::formats {
namespace {

constexpr size_t kBlock = 64;

uint8_t Byte(char c) { return static_cast<uint8_t>(c); }
char Lower(char c) { return absl::ascii_tolower(Byte(c)); }
bool IsSpace(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }
bool IsWord(char c) { return absl::ascii_isalnum(Byte(c)) || c == '_'; }

// Letters beyond ASCII that fold to one in ASCII: see MemberName.
struct FoldingLetter {
  std::string_view bytes;
  char to;
};
constexpr std::array<FoldingLetter, 4> kFoldingLetters = {{
    {"\xC5\xBF", 's'},      // U+017F
    {"\xE2\x84\xAA", 'k'},  // U+212A
    {"\xC4\xB0", 'i'},      // U+0130
    {"\xC4\xB1", 'i'},      // U+0131
}};

// Whether the letter behind a backslash is an escape by itself.
constexpr std::array<bool, 256> kEscapeLetters = [] {
  std::array<bool, 256> letters{};
  for (const char c : std::string_view("\"\\/bfnrt")) letters[static_cast<uint8_t>(c)] = true;
  return letters;
}();

// An escape of JSON that stands for nothing that could be a part of a searchable name.
bool IsHarmlessEscape(std::string_view text, size_t backslash) {
  if (backslash + 1 >= text.size()) return false;
  const char letter = text[backslash + 1];
  if (letter != 'u') return kEscapeLetters[Byte(letter)];
  const int value = HexDigits(text.substr(backslash + 2, 4));
  return value >= 0x80 && value != 0x17F && value != 0x212A && value != 0x130 && value != 0x131;
}

// A document of one object, as far as its two ends tell. Readers that guess at UTF-16 and UTF-32 look for zeros in the
// first four bytes.
bool LooksLikeObject(std::string_view text) {
  size_t first = 0;
  while (first < text.size() && IsSpace(text[first])) ++first;
  size_t end = text.size();
  while (end > first && IsSpace(text[end - 1])) --end;
  if (end - first < 4 || text[first] != '{' || text[end - 1] != '}') return false;
  return text[0] != '\0' && text[1] != '\0' && text[2] != '\0' && text[3] != '\0';
}

class NameSearch {
 public:
  NameSearch(std::string_view text, const MemberName& name) : text_(text), name_(name.text()) {
    pair_.first = Byte(name_[0]) | 0x20;
    pair_.second = Byte(name_[1]) | 0x20;
    ends_ = EndsOf(name_.data());
  }

  Sight Run() {
    if (!LooksLikeObject(text_)) return {};
    const auto* bytes = reinterpret_cast<const uint8_t*>(text_.data());
    for (size_t base = 0; base < text_.size(); base += kBlock) {
      const bool good = sight_ == 0 ? TakeBlock<true>(bytes + base, base) : TakeBlock<false>(bytes + base, base);
      if (!good) return {};
    }
    if (hasNonAscii_ && (!IsUtf8(text_) || MayFoldToName())) return {};
    if (sight_ == 0) return {Sight::Kind::kNowhere, 0};
    return {Sight::Kind::kOnce, sight_ + name_.size() + 1};
  }

 private:
  // What is known of a block until the name was seen.
  struct Structure {
    uint64_t quotes = 0;  // that begin or end a string
    uint64_t brackets = 0;
    const uint8_t* bytes = nullptr;
    bool quoteBefore = false;  // is the byte before the block one of them
    bool inString = false;     // at the beginning of the block
  };

  // False: unsure. kStructure: the name was not seen yet.
  template <bool kStructure>
  [[gnu::always_inline]] bool TakeBlock(const uint8_t* bytes, size_t base) {
    const BlockMasks masks = MasksOf<kStructure>(bytes, pair_);
    const size_t left = text_.size() - base;
    const uint64_t inText = left >= kBlock ? ~uint64_t{0} : (uint64_t{1} << left) - 1;
    uint64_t escaped = 0;
    if (((masks.odd & inText) != 0 || escapeAtEnd_) && !TakeOdd(bytes, masks.odd & inText, base, escaped)) return false;
    if constexpr (kStructure) {
      structure_.quotes = masks.quotes & inText & ~escaped;
      structure_.brackets = masks.brackets & inText;
      structure_.bytes = bytes;
    }
    for (uint64_t pairs = masks.pairs & inText; pairs != 0; pairs &= pairs - 1) {
      const int bit = __builtin_ctzll(pairs);
      const size_t place = base + static_cast<size_t>(bit);
      if (!MayBeSight(place) || !IsSight(place)) continue;
      if (sight_ != 0 || place == 0 || !IsOutermostName(place, bit)) return false;
      sight_ = place;
    }
    if constexpr (kStructure) {
      if (sight_ != 0) return true;  // it is not looked at any more
      if (structure_.brackets != 0) depth_ += DepthOf(InStrings(), ~uint64_t{0});
      structure_.quoteBefore = structure_.quotes >> 63 != 0;
      structure_.inString ^= __builtin_parityll(structure_.quotes) != 0;
    }
    return true;
  }

  // Backslashes, and what is not ASCII. `escaped` gets the bytes that are part of an escape.
  bool TakeOdd(const uint8_t* bytes, uint64_t odd, size_t base, uint64_t& escaped) {
    uint64_t backslashes = MaskOf(bytes, '\\') & odd;
    hasNonAscii_ = hasNonAscii_ || backslashes != odd;
    escaped = escapeAtEnd_ ? 1 : 0;
    escapeAtEnd_ = false;
    for (; backslashes != 0; backslashes &= backslashes - 1) {
      const int bit = __builtin_ctzll(backslashes);
      if ((escaped >> bit & 1) != 0) continue;
      if (!IsHarmlessEscape(text_, base + static_cast<size_t>(bit))) return false;
      if (bit == 63) {
        escapeAtEnd_ = true;
      } else {
        escaped |= uint64_t{2} << bit;
      }
    }
    return true;
  }

  // From the opening quote of each string to before the closing one.
  uint64_t InStrings() const { return PrefixXor(structure_.quotes) ^ (structure_.inString ? ~uint64_t{0} : 0); }

  // How many more brackets are opened than closed among these bytes of the block, outside of strings.
  int DepthOf(uint64_t inStrings, uint64_t bytes) const {
    int depth = 0;
    for (uint64_t left = structure_.brackets & ~inStrings & bytes; left != 0; left &= left - 1) {
      const uint8_t bracket = structure_.bytes[__builtin_ctzll(left)];
      depth += bracket == '{' || bracket == '[' ? 1 : -1;
    }
    return depth;
  }

  // Most of what is not the name in any case differs from it at one of its ends.
  [[gnu::always_inline]] bool MayBeSight(size_t place) const {
    return place + name_.size() <= text_.size() && EndsOf(text_.data() + place) == ends_;
  }

  int DepthOfFirst() const { return structure_.bytes[0] == '{' || structure_.bytes[0] == '[' ? 1 : -1; }

  // The name as a whole word, in any case. A letter behind a backslash is a part of the escape, not of the word.
  bool IsSight(size_t place) const {
    const size_t end = place + name_.size();
    if (!IsNameInAnyCase(place)) return false;
    const bool beginsWord = place == 0 || !IsWord(text_[place - 1]) || (place > 1 && text_[place - 2] == '\\');
    return beginsWord && (end == text_.size() || !IsWord(text_[end]));
  }

  // The first and the last bytes of what is as long as the name. Ignores the bit 0x20.
  uint64_t EndsOf(const char* word) const {
    constexpr size_t kEnd = sizeof(uint32_t);
    if (name_.size() < kEnd) return 0;
    uint32_t ends[2];
    std::memcpy(&ends[0], word, kEnd);
    std::memcpy(&ends[1], word + name_.size() - kEnd, kEnd);
    return (uint64_t{ends[1]} << 32 | ends[0]) | 0x2020202020202020;
  }
  bool IsName(size_t place) const { return AreSameRuns(text_.data() + place, name_.data(), name_.size()); }
  bool IsNameInAnyCase(size_t place) const {
    if (IsName(place)) return true;
    for (size_t i = 0; i < name_.size(); ++i) {
      if (Lower(text_[place + i]) != Lower(name_[i])) return false;
    }
    return true;
  }

  // In its own case, in quotes, behind "{" or ",", with one bracket open. A byte precedes it.
  bool IsOutermostName(size_t place, int bit) const {
    const size_t end = place + name_.size();
    if (end >= text_.size() || text_[place - 1] != '"' || text_[end] != '"' || !IsName(place)) return false;
    const uint64_t before = (uint64_t{1} << bit) - 1;
    const bool isInString = (__builtin_parityll(structure_.quotes & before) != 0) != structure_.inString;
    const bool isBehindQuote = bit == 0 ? structure_.quoteBefore : (structure_.quotes >> (bit - 1) & 1) != 0;
    if (!isInString || !isBehindQuote) return false;
    // Often, only the bracket stands before it that begins the text.
    const bool isBehindFirst = depth_ == 0 && !structure_.inString && (structure_.brackets & before) == 1;
    const int64_t depth = isBehindFirst ? DepthOfFirst() : depth_ + DepthOf(InStrings(), before);
    if (depth != 1) return false;
    size_t last = place - 2;
    while (last > 0 && IsSpace(text_[last])) --last;
    return text_[last] == '{' || text_[last] == ',';
  }

  // Whether one of the folding letters stands between what its neighbours in the name would be.
  bool MayFoldToName() const {
    for (const FoldingLetter& letter : kFoldingLetters) {
      if (!HasLetter(letter.to)) continue;
      for (size_t at = text_.find(letter.bytes); at != std::string_view::npos; at = text_.find(letter.bytes, at + 1)) {
        if (MayBeIn(at, letter)) return true;
      }
    }
    return false;
  }
  bool HasLetter(char letter) const {
    return std::any_of(name_.begin(), name_.end(), [letter](char c) { return Lower(c) == letter; });
  }
  bool MayBeIn(size_t at, const FoldingLetter& letter) const {
    const auto mayBe = [](char found, char wanted) { return Byte(found) >= 0x80 || Lower(found) == Lower(wanted); };
    const size_t behind = at + letter.bytes.size();
    for (size_t i = 0; i < name_.size(); ++i) {
      if (Lower(name_[i]) != letter.to) continue;
      const bool fitsBefore = i == 0 || (at > 0 && mayBe(text_[at - 1], name_[i - 1]));
      const bool fitsBehind = i + 1 == name_.size() || (behind < text_.size() && mayBe(text_[behind], name_[i + 1]));
      if (fitsBefore && fitsBehind) return true;
    }
    return false;
  }

  const std::string_view text_;
  const std::string_view name_;
  BytePair pair_;
  uint64_t ends_;
  Structure structure_;
  int64_t depth_ = 0;
  bool escapeAtEnd_ = false;
  bool hasNonAscii_ = false;
  size_t sight_ = 0;  // 0: not yet; no name stands at the beginning
};

}  // namespace

Sight FindOnlySight(std::string_view text, const MemberName& name) { return NameSearch(text, name).Run(); }

}  // namespace kveil::formats
