// One structured line per event, to stderr: time, level, event name, then key=value pairs (logfmt), or all of this as a
// JSON object.
//
//   log::Info("connection.open", {{"client", address}, {"broker", broker}});
//
// Logging never waits for the reader of stderr: a thread writes the lines (log_writer.h). No event and no workload can
// fill the log: lines beyond a rate are counted instead of written (log_limit.h). A line reports every loss.
//
// Never pass a record's bytes, a key, a user's id or SASL bytes. Not for the hot path.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"

namespace kveil::log {

enum class Level { kDebug, kInfo, kWarning, kError };

// A key and its value as text. The key "share" is not written: it says whose rate the line counts towards.
struct Field {
  Field(std::string_view key, std::string_view value) : key(key), value(value) {}
  Field(std::string_view key, const char* value) : key(key), value(value) {}
  Field(std::string_view key, const std::string& value) : key(key), value(value) {}
  Field(std::string_view key, const absl::Status& status) : key(key), value(status.message()) {}
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Field(std::string_view key, Number number) : key(key), value(std::to_string(number)), isNumber(true) {}

  std::string_view key;
  std::string value;
  bool isNumber = false;
};

using Fields = std::initializer_list<Field>;

// Lines below this level are not written. The default is kInfo.
void SetLevel(Level level);

// How lines are written from now on. The default is kText.
enum class Layout {
  kText,  // logfmt
  kJson,  // an object per line (JSON lines), with the members "time" (RFC 3339), "level", "event", then the fields
};
void SetLayout(Layout layout);

// Any thread; never blocks.
void Write(Level level, std::string_view event, Fields fields);
inline void Debug(std::string_view event, Fields fields = {}) { Write(Level::kDebug, event, fields); }
inline void Info(std::string_view event, Fields fields = {}) { Write(Level::kInfo, event, fields); }
inline void Warning(std::string_view event, Fields fields = {}) { Write(Level::kWarning, event, fields); }
inline void Error(std::string_view event, Fields fields = {}) { Write(Level::kError, event, fields); }

// Waits, at most for `limit`, until every line so far is written: the reader of stderr may have stopped. Returns
// whether they are. Called at the end of the process, and before an abort.
bool Flush(std::chrono::milliseconds limit = std::chrono::seconds(1));

// Lines not written since the process started.
struct Losses {
  uint64_t unread = 0;   // nobody read stderr, and the queue was full
  uint64_t limited = 0;  // beyond the rate of their event or workload
};
Losses Lost();

// The event and its pairs. Quotes and escapes values that are empty or hold a space, '"', '=', '\' or a control
// character.
std::string Format(std::string_view event, Fields fields);

// The same as a JSON object with `time` (RFC 3339) and `level` before it. Bytes that are not UTF-8 become U+FFFD.
// Fields with a number are numbers.
std::string FormatJson(std::string_view time, Level level, std::string_view event, Fields fields);

}  // namespace kveil::log
