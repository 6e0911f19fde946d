#include "formats/json_scanner.h"

#include "absl/strings/ascii.h"
#include "formats/text_masks.h"

namespace kveil::formats {
namespace {

bool IsDigit(char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }

void AppendUtf8(uint32_t rune, std::string& out) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (rune < 0x80) {
    put(rune);
  } else if (rune < 0x800) {
    put(0xC0 | rune >> 6);
    put(0x80 | (rune & 0x3F));
  } else if (rune < 0x10000) {
    put(0xE0 | rune >> 12);
    put(0x80 | (rune >> 6 & 0x3F));
    put(0x80 | (rune & 0x3F));
  } else {
    put(0xF0 | rune >> 18);
    put(0x80 | (rune >> 12 & 0x3F));
    put(0x80 | (rune >> 6 & 0x3F));
    put(0x80 | (rune & 0x3F));
  }
}

// The character of an escape of one letter.
char Spelled(char letter) {
  switch (letter) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return letter;
  }
}

}  // namespace

int HexDigits(std::string_view four) {
  if (four.size() != 4) return -1;
  int value = 0;
  for (const char c : four) {
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return -1;
    value = value * 16 + (IsDigit(lower) ? lower - '0' : lower - 'a' + 10);
  }
  return value;
}

bool Unescape(std::string_view raw, size_t limit, std::string& out) {
  out.clear();
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\') {
      if (out.size() <= limit) out.push_back(raw[i]);
      continue;
    }
    ++i;
    if (raw[i] != 'u') {
      if (out.size() <= limit) out.push_back(Spelled(raw[i]));
      continue;
    }
    auto rune = static_cast<uint32_t>(HexDigits(raw.substr(i + 1, 4)));
    i += 4;
    if (rune >= 0xDC00 && rune < 0xE000) return false;
    if (rune >= 0xD800 && rune < 0xDC00) {
      const int low = raw.substr(i + 1, 2) == "\\u" ? HexDigits(raw.substr(i + 3, 4)) : -1;
      if (low < 0xDC00 || low >= 0xE000) return false;
      rune = 0x10000 + ((rune - 0xD800) << 10) + (static_cast<uint32_t>(low) - 0xDC00);
      i += 6;
    }
    if (out.size() <= limit) AppendUtf8(rune, out);
  }
  return true;
}

void JsonScanner::SkipSpace() {
  while (!atEnd()) {
    const char c = text_[position_];
    if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return;
    ++position_;
  }
}

bool JsonScanner::Take(char byte) {
  if (atEnd() || text_[position_] != byte) return false;
  ++position_;
  return true;
}

bool JsonScanner::ScanValue(absl::Span<const JsonStep> steps) {
  SkipSpace();
  if (steps.empty()) return ScanScalar();
  if (next() == '{') return ScanObject(steps);
  if (next() == '[') return ScanList(steps);
  place_.kind = next() == 'n' ? JsonPlace::Kind::kMissing : JsonPlace::Kind::kOther;
  return SkipValue();
}

// What the pointer leads to, if it is a scalar.
bool JsonScanner::ScanScalar() {
  const size_t start = position_;
  if (next() == '"') {
    StringFacts facts;
    if (!ScanString(facts)) return false;
    place_.kind = JsonPlace::Kind::kString;
    place_.raw = text_.substr(start + 1, position_ - start - 2);
    place_.hasEscapes = facts.hasEscapes;
    return true;
  }
  if (next() == '-' || IsDigit(next())) {
    if (!ScanNumber()) return false;
    place_.kind = JsonPlace::Kind::kNumber;
    place_.raw = text_.substr(start, position_ - start);
    return true;
  }
  place_.kind = next() == 'n' ? JsonPlace::Kind::kMissing : JsonPlace::Kind::kOther;
  return SkipValue();
}

bool JsonScanner::ScanObject(absl::Span<const JsonStep> steps) {
  if (!Take('{') || ++depth_ > kMostLevels) return false;
  bool isThere = false;
  bool isAlikeThere = false;
  SkipSpace();
  if (next() != '}') {
    do {
      SkipSpace();
      StringFacts name;
      if (next() != '"' || !ScanString(name)) return false;
      SkipSpace();
      if (!Take(':')) return false;
      const NameMatch match = Compare(name, steps[0].name);
      isAmbiguous_ = isAmbiguous_ || (match == NameMatch::kSame && isThere);
      if (isAmbiguous_) return false;
      isThere = isThere || match == NameMatch::kSame;
      isAlikeThere = isAlikeThere || match == NameMatch::kAlike;
      const bool good = match == NameMatch::kSame ? ScanValue(steps.subspan(1)) : SkipValue();
      if (!good) return false;
      SkipSpace();
    } while (Take(','));
  }
  if (!Take('}')) return false;
  --depth_;
  isAmbiguous_ = isThere && isAlikeThere;
  if (!isThere) place_.kind = isAlikeThere ? JsonPlace::Kind::kOther : JsonPlace::Kind::kMissing;
  return !isAmbiguous_;
}

bool JsonScanner::ScanList(absl::Span<const JsonStep> steps) {
  if (!Take('[') || ++depth_ > kMostLevels) return false;
  bool isThere = false;
  SkipSpace();
  if (next() != ']') {
    size_t index = 0;
    do {
      const bool isIt = steps[0].index == index;
      isThere = isThere || isIt;
      const bool good = isIt ? ScanValue(steps.subspan(1)) : SkipValue();
      if (!good) return false;
      SkipSpace();
      ++index;
    } while (Take(','));
  }
  if (!Take(']')) return false;
  --depth_;
  if (!isThere) place_.kind = steps[0].index.has_value() ? JsonPlace::Kind::kMissing : JsonPlace::Kind::kOther;
  return true;
}

bool JsonScanner::SkipValue() {
  SkipSpace();
  return next() == '{' || next() == '[' ? SkipContainer() : SkipScalar();
}

bool JsonScanner::SkipScalar() {
  const char first = next();
  if (first == '"') {
    StringFacts facts;
    return ScanString(facts);
  }
  if (first == '-' || IsDigit(first)) return ScanNumber();
  return ScanLiteral(first == 't' ? "true" : first == 'f' ? "false" : "null");
}

// An object or list off the pointer's way, without recursion.
bool JsonScanner::SkipContainer() {
  const size_t outside = depth_;
  do {
    SkipSpace();
    const char first = next();
    if (first != '{' && first != '[') {
      if (!SkipScalar() || !EndContainers(outside)) return false;
      continue;
    }
    ++position_;
    if (++depth_ > kMostLevels) return false;
    isObject_[depth_] = first == '{';
    SkipSpace();
    if (next() == (first == '{' ? '}' : ']')) {
      if (!EndContainers(outside)) return false;
    } else if (first == '{' && !SkipName()) {
      return false;
    }
  } while (depth_ > outside);
  return true;
}

// Behind a value: takes the ends of what ends here, and what stands before the next value if there is one.
bool JsonScanner::EndContainers(size_t outside) {
  while (depth_ > outside) {
    SkipSpace();
    if (Take(',')) return !isObject_[depth_] || SkipName();
    if (!Take(isObject_[depth_] ? '}' : ']')) return false;
    --depth_;
  }
  return true;
}

bool JsonScanner::SkipName() {
  SkipSpace();
  StringFacts facts;
  if (next() != '"' || !ScanString(facts)) return false;
  SkipSpace();
  return Take(':');
}

bool JsonScanner::ScanString(StringFacts& facts) {
  const size_t start = ++position_;
  for (;;) {
    if (position_ >= text_.size()) return false;
    const uint32_t specials = StringSpecials(reinterpret_cast<const uint8_t*>(text_.data()) + position_);
    if (specials == 0) {
      position_ += 16;
      continue;
    }
    position_ += static_cast<size_t>(__builtin_ctz(specials));
    if (position_ >= text_.size()) return false;
    if (text_[position_] == '"') break;
    if (text_[position_] != '\\' || !ScanEscape(facts)) return false;
  }
  facts.raw = text_.substr(start, position_ - start);
  ++position_;
  return true;
}

bool JsonScanner::ScanEscape(StringFacts& facts) {
  facts.hasEscapes = true;
  const std::string_view rest = text_.substr(position_ + 1);
  if (rest.empty()) return false;
  if (rest[0] != 'u') {
    position_ += 2;
    return std::string_view("\"\\/bfnrt").find(rest[0]) != std::string_view::npos;
  }
  const int value = HexDigits(rest.substr(1, 4));
  facts.hasNul = facts.hasNul || value == 0;
  position_ += 6;
  return value >= 0;
}

bool JsonScanner::ScanDigits() {
  const size_t start = position_;
  while (IsDigit(next())) ++position_;
  return position_ > start;
}

bool JsonScanner::ScanNumber() {
  Take('-');
  if (!Take('0') && !ScanDigits()) return false;
  if (Take('.') && !ScanDigits()) return false;
  if (Take('e') || Take('E')) {
    if (!Take('+')) Take('-');
    return ScanDigits();
  }
  return true;
}

bool JsonScanner::ScanLiteral(std::string_view literal) {
  if (text_.substr(position_, literal.size()) != literal) return false;
  position_ += literal.size();
  return true;
}

NameMatch JsonScanner::Compare(const StringFacts& name, const MemberName& wanted) {
  // Readers in C end a name at U+0000.
  isAmbiguous_ = isAmbiguous_ || name.hasNul;
  if (!name.hasEscapes) return wanted.Compare(name.raw);
  if (Unescape(name.raw, kMostGrowthByFolding * wanted.text().size(), name_)) return wanted.Compare(name_);
  isAmbiguous_ = true;
  return NameMatch::kOther;
}

}  // namespace kveil::formats
