// A user's id as text. Each id has one spelling, whatever bytes it came in, so that it names one key, and so that
// `kveil erase` can name whatever was sealed.
//
// What is an id: UTF-8 of 1 to kLongestUserId bytes without control characters (U+0000 to U+001F, U+007F).
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

// The names of the encodings, as policies and commands have them, in the order of the enum.
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

// In words, for the producer of a record and the user of a command. Never holds anything of the id.
std::string_view Explain(IdProblem problem);

// A record's key or header as a whole. On kNone `id` is its spelling, which is valid while `bytes` and `scratch` are.
IdProblem IdOfBytes(IdEncoding encoding, Bytes bytes, std::string& scratch, std::string_view& id);

// A string of JSON, or what a command was given. The spelling of an id spells it again.
IdProblem IdOfText(IdEncoding encoding, std::string_view text, std::string& scratch, std::string_view& id);

// A number of JSON, as it is written. It has to be whole and within the range of int64 or, with kText, of uint64. The
// other encodings have no numbers.
IdProblem IdOfNumber(IdEncoding encoding, std::string_view number, std::string_view& id);

}  // namespace kveil::formats
