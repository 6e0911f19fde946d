#include "formats/utf8.h"

#include "simdjson.h"

namespace kveil::formats {

bool IsUtf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

}  // namespace kveil::formats
