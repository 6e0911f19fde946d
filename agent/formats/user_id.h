// A user's id as text. Each id has one spelling, whatever bytes it came in. So it names one key, and `kveil erase` can
// name whatever was sealed.
//
// An id is UTF-8 of 1 to kLongestUserId bytes without control characters (U+0000 to U+001F, U+007F).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace kveil::formats {

// How an id is written in records, and its one spelling. docs/policy.md has the table.
enum class IdEncoding : uint8_t {
  kText,    // as it is
  kInt64,   // 8 bytes that are not digits, big endian, two's complement; in text, decimal digits. Spelled in decimal
  kUuid,    // 16 bytes that are not printable ASCII; in text, 8-4-4-4-12 hexadecimal digits. Spelled in lower case
  kHex,     // any bytes; in text, hexadecimal digits of any case. Spelled in lower case
  kBase64,  // any bytes; in text, either alphabet of RFC 4648, padded or not. Spelled in the first one, padded
};

// The encodings' names in policies and commands, in the order of the enum.
inline constexpr std::array<std::string_view, 5> kIdEncodingNames = {"text", "int64", "uuid", "hex", "base64"};
inline std::string_view NameOf(IdEncoding encoding) { return kIdEncodingNames[static_cast<size_t>(encoding)]; }

inline constexpr size_t kLongestUserId = 1024;  // bytes of the spelling

enum class IdProblem : uint8_t {
  kNone,
  kEmpty,
  kTooLong,
  kNotText,
  kNotWhole,
  kNotInt64,
  kNotUuid,
  kNotHex,
  kNotBase64
};

// Explains the problem to the producer of a record or the user of a command. Never contains any part of the id.
std::string_view Explain(IdProblem problem);

// Takes a whole record key or header. On kNone, `id` is its spelling, valid while `bytes` and `scratch` are.
IdProblem IdOfBytes(IdEncoding encoding, Bytes bytes, std::string& scratch, std::string_view& id);

// Takes a JSON string, or an argument of a command. Spelling a spelling gives the same again.
IdProblem IdOfText(IdEncoding encoding, std::string_view text, std::string& scratch, std::string_view& id);

// Takes a JSON number as written. It must be whole and within int64 or, with kText, uint64. The other encodings have no
// numbers.
IdProblem IdOfNumber(IdEncoding encoding, std::string_view number, std::string_view& id);

}  // namespace kveil::formats
