#include "formats/json_search.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "absl/strings/ascii.h"
#include "base/short_runs.h"
#include "formats/json_scanner.h"
#include "formats/text_masks.h"
#include "formats/utf8.h"

namespace kveil::formats {
namespace {

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

constexpr size_t kShortest = 4;

bool HasEarlyZeros(std::string_view text) {
  return text[0] == '\0' || text[1] == '\0' || text[2] == '\0' || text[3] == '\0';
}

constexpr uint32_t kCaseBits = 0x20202020;  // in which the two cases of a letter differ

// What is compared first of a name: bytes at both of its ends, with their case bits set.
struct NameAnchor {
  uint8_t first = 0;
  uint8_t second = 0;
  uint32_t tail = 0;  // the last four bytes, as they lie in memory
  uint32_t tailMask = ~uint32_t{0};
  size_t tailAt = 0;
};

NameAnchor AnchorOf(std::string_view name) {
  NameAnchor anchor;
  anchor.first = Byte(name[0]) | 0x20;
  anchor.second = Byte(name[1]) | 0x20;
  if (name.size() < sizeof(anchor.tail)) {
    anchor.tailMask = 0;  // the first two are enough
    return anchor;
  }
  anchor.tailAt = name.size() - sizeof(anchor.tail);
  std::memcpy(&anchor.tail, name.data() + anchor.tailAt, sizeof(anchor.tail));
  anchor.tail |= kCaseBits;
  return anchor;
}

// Where the brace is that begins a document of one object, as far as its two ends tell; kNone: it is none. Readers that
// guess at UTF-16 and UTF-32 look for zeros in the first four bytes.
constexpr size_t kNone = SIZE_MAX;
size_t FindBrace(std::string_view text) {
  size_t first = 0;
  while (first < text.size() && IsSpace(text[first])) ++first;
  size_t end = text.size();
  while (end > first && IsSpace(text[end - 1])) --end;
  if (end - first < kShortest || text[first] != '{' || text[end - 1] != '}') return kNone;
  return HasEarlyZeros(text) ? kNone : first;
}
// FindBrace finds it at the beginning.
bool IsPlainObject(std::string_view text) {
  return text.size() >= kShortest && text.front() == '{' && text.back() == '}' && !HasEarlyZeros(text);
}

// Of a block that begins at `base`, the bytes in front of `end`.
template <typename Mask>
Mask BytesBefore(size_t end, size_t base) {
  constexpr size_t kBits = std::numeric_limits<Mask>::digits;
  return end - base >= kBits ? ~Mask{0} : (Mask{1} << (end - base)) - 1;
}

// Which backslashes begin an escape, block by block. Blocks without a backslash may be left out.
template <typename Mask>
class Escapes {
 public:
  struct Masks {
    Mask begins = 0;   // the backslashes that begin one
    Mask escaped = 0;  // the bytes behind these
  };
  Masks Take(Mask backslashes, size_t base) {
    constexpr Mask kOdd = std::numeric_limits<Mask>::max() / 3 * 2;
    const Mask carried = base == next_ ? 1 : 0;  // the first byte is behind one
    // As in simdjson: the subtraction carries through a run of backslashes, which tells whether its length is odd.
    const Mask runs = backslashes & ~carried;
    const Mask ends = (((runs << 1) | kOdd) - runs) ^ kOdd;
    Masks masks;
    masks.begins = ends & backslashes;
    masks.escaped = ends ^ (backslashes | carried);
    constexpr size_t kBits = std::numeric_limits<Mask>::digits;
    next_ = masks.begins >> (kBits - 1) != 0 ? base + kBits : kNone;
    return masks;
  }

 private:
  size_t next_ = kNone;  // where a block begins with an escaped byte
};

const uint8_t* BytesAt(std::string_view text, size_t place) {
  return reinterpret_cast<const uint8_t*>(text.data()) + place;
}

// The backslashes of a text, and whether it has bytes beyond ASCII.
class OddBytes {
 public:
  explicit OddBytes(std::string_view text) : text_(text) {}

  // Those of a block. False: there is an escape that may stand for a part of a name.
  [[gnu::noinline]] bool Take(uint32_t odd, size_t base) {
    const uint32_t backslashes = static_cast<uint32_t>(MaskOf(BytesAt(text_, base), '\\')) & odd;
    hasNonAscii_ = hasNonAscii_ || backslashes != odd;
    if (backslashes == 0) return true;
    hasEscapes_ = true;
    for (uint32_t left = escapes_.Take(backslashes, base).begins; left != 0; left &= left - 1) {
      if (!IsHarmlessEscape(text_, base + static_cast<size_t>(__builtin_ctz(left)))) return false;
    }
    return true;
  }
  bool hasEscapes() const { return hasEscapes_; }
  bool hasNonAscii() const { return hasNonAscii_; }

 private:
  const std::string_view text_;
  Escapes<uint32_t> escapes_;
  bool hasEscapes_ = false;
  bool hasNonAscii_ = false;
};

// Whether a byte is in no string, with one bracket open before it.
[[gnu::noinline]] bool IsBetweenMembers(std::string_view text, size_t place, bool hasEscapes) {
  int64_t depth = 0;
  uint64_t inString = 0;  // all bits: the block begins in a string
  Escapes<uint64_t> escapes;
  for (size_t base = 0; base < place; base += kStructureBlock) {
    const uint8_t* const bytes = BytesAt(text, base);
    const StructureMasks masks = StructureMasksOf(bytes);
    const auto before = BytesBefore<uint64_t>(place, base);
    uint64_t quotes = masks.quotes & before;
    if (hasEscapes) quotes &= ~escapes.Take(MaskOf(bytes, '\\'), base).escaped;
    if (masks.brackets != 0) {
      // From the opening quote of each string to before the closing one.
      const uint64_t inStrings = PrefixXor(quotes) ^ inString;
      for (uint64_t left = masks.brackets & before & ~inStrings; left != 0; left &= left - 1) {
        const uint8_t bracket = bytes[__builtin_ctzll(left)];
        depth += bracket == '{' || bracket == '[' ? 1 : -1;
      }
    }
    if (__builtin_parityll(quotes) != 0) inString = ~inString;
  }
  return inString == 0 && depth == 1;
}

// Most of what is not the name in any case ends in other bytes.
bool MayBeName(std::string_view text, size_t place, size_t size, const NameAnchor& anchor) {
  if (place + size > text.size()) return false;
  uint32_t tail;
  std::memcpy(&tail, text.data() + place + anchor.tailAt, sizeof(tail));
  return (((tail | kCaseBits) ^ anchor.tail) & anchor.tailMask) == 0;
}

// The name as a whole word, in any case. A letter behind a backslash is a part of the escape, not of the word.
[[gnu::noinline]] bool IsWordInAnyCase(std::string_view text, size_t place, std::string_view name) {
  const size_t end = place + name.size();
  for (size_t i = 0; i < name.size(); ++i) {
    if (Lower(text[place + i]) != Lower(name[i])) return false;
  }
  const bool beginsWord = place == 0 || !IsWord(text[place - 1]) || (place > 1 && text[place - 2] == '\\');
  return beginsWord && (end == text.size() || !IsWord(text[end]));
}

// Letters beyond ASCII that fold to those of a name.
class FoldingLetters {
 public:
  FoldingLetters(std::string_view text, std::string_view name) : text_(text), name_(name) {}

  // Whether one of them stands between what its neighbours in the name would be.
  bool MayFoldToName() const {
    for (const FoldingLetter& letter : kFoldingLetters) {
      if (!HasLetter(letter.to)) continue;
      for (size_t at = text_.find(letter.bytes); at != std::string_view::npos; at = text_.find(letter.bytes, at + 1)) {
        if (MayBeIn(at, letter)) return true;
      }
    }
    return false;
  }

 private:
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
};

class NameSearch {
 public:
  NameSearch(std::string_view text, const MemberName& name)
      : text_(text), name_(name.text()), anchor_(AnchorOf(name_)), brace_(FindBrace(text)), odd_(text) {}

  // From the block at `base` on. Before it, there is nothing odd, and the name only at `sight`, if that is not 0.
  [[gnu::noinline]] Sight Run(size_t base, size_t sight) {
    if (brace_ == kNone) return {};
    sight_ = sight;
    const NameAnchor anchor = anchor_;
    for (; base < text_.size(); base += kNameBlock) {
      const NameMasks masks = NameMasksOf(BytesAt(text_, base), anchor.first, anchor.second);
      if ((masks.pairs | masks.odd) != 0 && !TakeBlock(masks, base)) return {};
    }
    if (odd_.hasNonAscii() && (!IsUtf8(text_) || FoldingLetters(text_, name_).MayFoldToName())) return {};
    if (sight_ == 0) return {Sight::Kind::kNowhere, 0};
    return {Sight::Kind::kOnce, sight_ + name_.size() + 1};
  }

 private:
  // False: unsure.
  bool TakeBlock(NameMasks masks, size_t base) {
    const auto inText = BytesBefore<uint32_t>(text_.size(), base);
    if ((masks.odd & inText) != 0 && !odd_.Take(masks.odd & inText, base)) return false;
    for (uint32_t pairs = masks.pairs & inText; pairs != 0; pairs &= pairs - 1) {
      const size_t place = base + static_cast<size_t>(__builtin_ctz(pairs));
      if (MayBeName(text_, place, name_.size(), anchor_) && !TakeMaybe(place)) return false;
    }
    return true;
  }

  bool TakeMaybe(size_t place) {
    if (!IsQuotedName(place)) return !IsWordInAnyCase(text_, place, name_);
    if (sight_ != 0 || !IsOutermostName(place)) return false;
    sight_ = place;
    return true;
  }

  // In its own case, in quotes.
  bool IsQuotedName(size_t place) const {
    const size_t end = place + name_.size();
    return place > brace_ && end < text_.size() && text_[place - 1] == '"' && text_[end] == '"' &&
           AreSameRuns(text_.data() + place, name_.data(), name_.size());
  }

  // Of a name in quotes, whether it stands behind "{" or ",", with one bracket open. At most once per text.
  bool IsOutermostName(size_t place) const {
    size_t last = place - 2;  // a brace precedes the quote
    while (IsSpace(text_[last])) --last;
    if (last == brace_) return true;  // the first name
    return (text_[last] == '{' || text_[last] == ',') && IsBetweenMembers(text_, place - 1, odd_.hasEscapes());
  }

  const std::string_view text_;
  const std::string_view name_;
  const NameAnchor anchor_;
  const size_t brace_;  // the first byte that is no space
  OddBytes odd_;
  size_t sight_ = 0;  // 0: not yet; no name stands at the beginning
};

}  // namespace

// What most records take: nothing odd, and the name once, as the first one. The rest is up to NameSearch, from the
// block on where that shows. Nothing else is called, so that nothing has to be saved.
Sight FindOnlySight(std::string_view text, const MemberName& name) {
  constexpr size_t kFirstName = 2;
  constexpr size_t kMostCompared = 16;  // without a call
  const auto search = [&](size_t base, size_t sight) __attribute__((noinline)) {
    return NameSearch(text, name).Run(base, sight);
  };
  if (!IsPlainObject(text)) return search(0, 0);
  const NameAnchor anchor = AnchorOf(name.text());
  const size_t size = name.text().size();
  size_t sight = 0;
  for (size_t base = 0; base < text.size(); base += kNameBlock) {
    const NameMasks masks = NameMasksOf(BytesAt(text, base), anchor.first, anchor.second);
    if ((masks.pairs | masks.odd) == 0) continue;
    const auto inText = BytesBefore<uint32_t>(text.size(), base);
    if ((masks.odd & inText) != 0) return search(base, base == 0 ? 0 : sight);
    for (uint32_t pairs = masks.pairs & inText; pairs != 0; pairs &= pairs - 1) {
      const size_t place = base + static_cast<size_t>(__builtin_ctz(pairs));
      if (!MayBeName(text, place, size, anchor)) continue;
      const size_t end = place + size;
      const bool isFirstName = place == kFirstName && size <= kMostCompared && end < text.size() && text[1] == '"' &&
                               text[end] == '"' && AreSameRuns(text.data() + place, name.text().data(), size);
      if (!isFirstName) return search(base, base == 0 ? 0 : sight);
      sight = place;
    }
  }
  if (sight == 0) return {Sight::Kind::kNowhere, 0};
  return {Sight::Kind::kOnce, sight + size + 1};
}

}  // namespace kveil::formats
