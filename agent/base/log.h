// One structured line an event, to stderr: time, level, event name, then key=value pairs (logfmt).
//
//   log::Info("connection.open", {{"client", address}, {"broker", broker}});
//
// Never pass a record's bytes, a key, a user's id or SASL bytes. Not for the hot path.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"

namespace kveil::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// One key and its value as text.
struct Field {
  Field(std::string_view key, std::string_view value) : key(key), value(value) {}
  Field(std::string_view key, const char* value) : key(key), value(value) {}
  Field(std::string_view key, const std::string& value) : key(key), value(value) {}
  Field(std::string_view key, const absl::Status& status) : key(key), value(status.message()) {}
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Field(std::string_view key, Number number) : key(key), value(std::to_string(number)) {}

  std::string_view key;
  std::string value;
};

using Fields = std::initializer_list<Field>;

// Lines below this level are not written. The default is kInfo.
void SetLevel(Level level);

void Write(Level level, std::string_view event, Fields fields);
inline void Debug(std::string_view event, Fields fields = {}) { Write(Level::kDebug, event, fields); }
inline void Info(std::string_view event, Fields fields = {}) { Write(Level::kInfo, event, fields); }
inline void Warning(std::string_view event, Fields fields = {}) { Write(Level::kWarning, event, fields); }
inline void Error(std::string_view event, Fields fields = {}) { Write(Level::kError, event, fields); }

// The pairs of one line, values quoted and escaped where they hold a space, a quote or a control character.
std::string Format(std::string_view event, Fields fields);

}  // namespace kveil::log
