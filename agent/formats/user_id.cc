#include "formats/user_id.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "base/text.h"
#include "formats/utf8.h"

namespace kveil::formats {
namespace {

constexpr size_t kInt64Size = 8;
constexpr size_t kUuidSize = 16;
constexpr size_t kUuidTextSize = 36;

bool IsHexDigit(char c) { return absl::ascii_isxdigit(static_cast<unsigned char>(c)); }
bool IsDash(size_t place) { return place == 8 || place == 13 || place == 18 || place == 23; }

void AppendLower(char c, std::string& out) { out.push_back(absl::ascii_tolower(static_cast<unsigned char>(c))); }

// Looks at eight bytes of text at once; their order does not matter.
class TextBytes {
 public:
  void Add(uint64_t bytes) {
    const uint64_t low = bytes & (0x7F * kEach);
    // The highest bit of each byte: it is below 0x20, or 0x7F, and not beyond ASCII.
    control_ |= (~(low + 0x60 * kEach) | (low + 0x01 * kEach)) & ~bytes;
    all_ |= bytes;
  }
  bool hasControl() const { return (control_ & 0x80 * kEach) != 0; }
  bool isAscii() const { return (all_ & 0x80 * kEach) == 0; }

 private:
  static constexpr uint64_t kEach = 0x0101010101010101;

  uint64_t control_ = 0;
  uint64_t all_ = 0;
};

template <typename Integer>
uint64_t LoadAs(const char* from) {
  Integer value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

// All bytes of a text of 1 to 7, some of them more than once.
uint64_t LoadShort(const char* text, size_t size) {
  if (size >= 4) return LoadAs<uint32_t>(text) | LoadAs<uint32_t>(text + size - 4) << 32;
  return LoadAs<uint8_t>(text) * 0x0101010101010000 | LoadAs<uint8_t>(text + size / 2) << 8 |
         LoadAs<uint8_t>(text + size - 1);
}

// Once per record.
[[gnu::always_inline]] inline IdProblem CheckText(std::string_view text) {
  if (text.empty()) return IdProblem::kEmpty;
  if (text.size() > kLongestUserId) return IdProblem::kTooLong;
  TextBytes bytes;
  if (text.size() < 8) {
    bytes.Add(LoadShort(text.data(), text.size()));
  } else {
    const char* const last = text.data() + text.size() - 8;
    for (const char* at = text.data(); at < last; at += 8) bytes.Add(LoadAs<uint64_t>(at));
    bytes.Add(LoadAs<uint64_t>(last));
  }
  if (bytes.hasControl()) return IdProblem::kNotText;
  return bytes.isAscii() || IsUtf8(text) ? IdProblem::kNone : IdProblem::kNotText;
}

// Decimal digits, a minus sign, no zeros in front: as JSON writes integers, and with one zero only.
bool IsCanonicalInteger(std::string_view text) {
  const std::string_view digits = text.starts_with('-') ? text.substr(1) : text;
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit)) return false;
  return digits[0] != '0' || text == "0";
}

// What a serializer of strings makes of a number. As eight bytes it would name somebody else.
bool IsDecimalText(std::string_view text) {
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  return std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

// No UUID of RFC 9562 is: its ninth byte is 0x80 to 0xBF.
bool IsPrintableText(std::string_view text) { return std::all_of(text.begin(), text.end(), absl::ascii_isprint); }

IdProblem SpellInt64(std::string_view text, std::string_view& id) {
  int64_t value = 0;
  if (!IsCanonicalInteger(text) || !absl::SimpleAtoi(ToAbsl(text), &value)) return IdProblem::kNotInt64;
  id = text;
  return IdProblem::kNone;
}

IdProblem SpellInt64(Bytes bytes, std::string& scratch, std::string_view& id) {
  if (bytes.size() != kInt64Size || IsDecimalText(AsText(bytes))) return IdProblem::kNotInt64;
  uint64_t value = 0;
  for (const uint8_t byte : bytes) value = value << 8 | byte;
  scratch = absl::StrCat(static_cast<int64_t>(value));
  id = scratch;
  return IdProblem::kNone;
}

IdProblem SpellUuid(std::string_view text, std::string& scratch, std::string_view& id) {
  if (text.size() != kUuidTextSize) return IdProblem::kNotUuid;
  scratch.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (IsDash(i) ? text[i] != '-' : !IsHexDigit(text[i])) return IdProblem::kNotUuid;
    AppendLower(text[i], scratch);
  }
  id = scratch;
  return IdProblem::kNone;
}

void AppendHex(uint8_t byte, std::string& out) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out.push_back(kDigits[byte >> 4]);
  out.push_back(kDigits[byte & 15]);
}

IdProblem SpellUuid(Bytes bytes, std::string& scratch, std::string_view& id) {
  if (bytes.size() != kUuidSize) return SpellUuid(AsText(bytes), scratch, id);
  if (IsPrintableText(AsText(bytes))) return IdProblem::kNotUuid;
  scratch.clear();
  for (const uint8_t byte : bytes) {
    if (IsDash(scratch.size())) scratch.push_back('-');
    AppendHex(byte, scratch);
  }
  id = scratch;
  return IdProblem::kNone;
}

IdProblem SpellHex(std::string_view text, std::string& scratch, std::string_view& id) {
  if (text.empty()) return IdProblem::kEmpty;
  if (text.size() > kLongestUserId) return IdProblem::kTooLong;
  if (text.size() % 2 != 0 || !std::all_of(text.begin(), text.end(), IsHexDigit)) return IdProblem::kNotHex;
  scratch.clear();
  for (const char c : text) AppendLower(c, scratch);
  id = scratch;
  return IdProblem::kNone;
}

IdProblem SpellHex(Bytes bytes, std::string& scratch, std::string_view& id) {
  if (bytes.empty()) return IdProblem::kEmpty;
  if (2 * bytes.size() > kLongestUserId) return IdProblem::kTooLong;
  scratch.clear();
  for (const uint8_t byte : bytes) AppendHex(byte, scratch);
  id = scratch;
  return IdProblem::kNone;
}

IdProblem SpellBase64(Bytes bytes, std::string& scratch, std::string_view& id) {
  if (bytes.empty()) return IdProblem::kEmpty;
  if ((bytes.size() + 2) / 3 * 4 > kLongestUserId) return IdProblem::kTooLong;
  absl::Base64Escape(ToAbsl(AsText(bytes)), &scratch);
  id = scratch;
  return IdProblem::kNone;
}

// -1: in neither alphabet.
int SextetOf(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+' || c == '-') return 62;
  return c == '/' || c == '_' ? 63 : -1;
}

// Stricter than abseil's: no spaces, and no bits that are left over.
IdProblem SpellBase64(std::string_view text, std::string& scratch, std::string_view& id) {
  if (text.empty()) return IdProblem::kEmpty;
  if (text.size() > kLongestUserId) return IdProblem::kTooLong;
  std::string_view digits = text;
  while (digits.ends_with('=') && text.size() - digits.size() < 2) digits.remove_suffix(1);
  const bool isPadded = digits.size() < text.size();
  if (digits.size() % 4 == 1 || (isPadded && text.size() % 4 != 0)) return IdProblem::kNotBase64;
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : digits) {
    const int sextet = SextetOf(c);
    if (sextet < 0) return IdProblem::kNotBase64;
    bits = bits << 6 | static_cast<uint32_t>(sextet);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  if ((bits & ((1u << count) - 1)) != 0) return IdProblem::kNotBase64;
  return SpellBase64(AsBytes(bytes), scratch, id);
}

[[gnu::noinline]] IdProblem Spell(IdEncoding encoding, Bytes bytes, std::string& scratch, std::string_view& id) {
  if (bytes.empty()) return IdProblem::kEmpty;
  switch (encoding) {
    case IdEncoding::kText:
      break;
    case IdEncoding::kInt64:
      return SpellInt64(bytes, scratch, id);
    case IdEncoding::kUuid:
      return SpellUuid(bytes, scratch, id);
    case IdEncoding::kHex:
      return SpellHex(bytes, scratch, id);
    case IdEncoding::kBase64:
      return SpellBase64(bytes, scratch, id);
  }
  return IdProblem::kNotText;
}

[[gnu::noinline]] IdProblem Spell(IdEncoding encoding, std::string_view text, std::string& scratch,
                                  std::string_view& id) {
  if (text.empty()) return IdProblem::kEmpty;
  switch (encoding) {
    case IdEncoding::kText:
      break;
    case IdEncoding::kInt64:
      return SpellInt64(text, id);
    case IdEncoding::kUuid:
      return SpellUuid(text, scratch, id);
    case IdEncoding::kHex:
      return SpellHex(text, scratch, id);
    case IdEncoding::kBase64:
      return SpellBase64(text, scratch, id);
  }
  return IdProblem::kNotText;
}

}  // namespace

std::string_view Explain(IdProblem problem) {
  switch (problem) {
    case IdProblem::kNone:
      break;
    case IdProblem::kEmpty:
      return "the user's id is empty";
    case IdProblem::kTooLong:
      return "the user's id is longer than 1024 bytes";
    case IdProblem::kNotText:
      return "the user's id is not UTF-8 text without control characters; a binary one needs \"as\" in the policy";
    case IdProblem::kNotWhole:
      return "the user's id is a number that is not whole, or of more than 64 bits";
    case IdProblem::kNotInt64:
      return "the user's id is not a 64-bit integer (8 bytes big-endian; in JSON decimal digits), which \"as\" says it "
             "is";
    case IdProblem::kNotUuid:
      return "the user's id is not a UUID (16 bytes, or 36 characters), which \"as\" says it is";
    case IdProblem::kNotHex:
      return "the user's id is not hexadecimal, which \"as\" says it is";
    case IdProblem::kNotBase64:
      return "the user's id is not base64, which \"as\" says it is";
  }
  return "";
}

IdProblem IdOfBytes(IdEncoding encoding, Bytes bytes, std::string& scratch, std::string_view& id) {
  if (encoding != IdEncoding::kText) return Spell(encoding, bytes, scratch, id);
  id = AsText(bytes);
  return CheckText(id);
}

IdProblem IdOfText(IdEncoding encoding, std::string_view text, std::string& scratch, std::string_view& id) {
  if (encoding != IdEncoding::kText) return Spell(encoding, text, scratch, id);
  id = text;
  return CheckText(text);
}

IdProblem IdOfNumber(IdEncoding encoding, std::string_view number, std::string_view& id) {
  if (number == "-0") number = "0";
  switch (encoding) {
    case IdEncoding::kText:
      break;
    case IdEncoding::kInt64:
      return SpellInt64(number, id);
    case IdEncoding::kUuid:
      return IdProblem::kNotUuid;
    case IdEncoding::kHex:
      return IdProblem::kNotHex;
    case IdEncoding::kBase64:
      return IdProblem::kNotBase64;
  }
  uint64_t large = 0;
  id = number;
  if (!IsCanonicalInteger(number)) return IdProblem::kNotWhole;
  if (SpellInt64(number, id) == IdProblem::kNone || absl::SimpleAtoi(ToAbsl(number), &large)) return IdProblem::kNone;
  return IdProblem::kNotWhole;
}

}  // namespace kveil::formats
