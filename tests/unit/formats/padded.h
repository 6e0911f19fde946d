// Texts as they are in the agent's buffers: with readable bytes behind them.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "formats/json_finder.h"

namespace kveil::formats {

inline constexpr size_t kPadding = 64;

// What stands behind the text would mislead whoever reads on.
inline ByteBuffer Padded(std::string_view text, std::string_view behind = R"(, "user": "behind"})") {
  ByteBuffer padded;
  Append(padded, AsBytes(text));
  Append(padded, AsBytes(behind));
  padded.resize(text.size() + kPadding, ' ');
  return padded;
}

// What is found, as text: "string anna", "number 38", "missing", "other", "not text", "not JSON", "ambiguous".
inline std::string FindText(JsonFinder& finder, std::string_view json, std::string_view pointer) {
  const ByteBuffer padded = Padded(json);
  const JsonPointer pointers[] = {*JsonPointer::Parse(pointer)};
  std::string_view found;
  switch (finder.Find(Bytes(padded).first(json.size()), pointers, found)) {
    case JsonResult::kString:
      return "string " + std::string(found);
    case JsonResult::kNumber:
      return "number " + std::string(found);
    case JsonResult::kMissing:
      return "missing";
    case JsonResult::kOther:
      return "other";
    case JsonResult::kNotText:
      return "not text";
    case JsonResult::kNotJson:
      return "not JSON";
    case JsonResult::kAmbiguous:
      break;
  }
  return "ambiguous";
}

}  // namespace kveil::formats
