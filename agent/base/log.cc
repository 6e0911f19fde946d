#include "base/log.h"

#include <memory>

#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace kveil::log {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto created = spdlog::stderr_logger_mt("kveil");
    created->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    created->flush_on(spdlog::level::info);
    return created;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      break;
  }
  return spdlog::level::err;
}

bool NeedsQuotes(std::string_view value) {
  if (value.empty()) return true;
  for (unsigned char character : value) {
    if (character <= ' ' || character == '"' || character == '=' || character == '\\' || character == 0x7f) return true;
  }
  return false;
}

void AppendQuoted(std::string& out, std::string_view value) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (unsigned char character : value) {
    if (character == '"' || character == '\\') {
      out += '\\';
      out += static_cast<char>(character);
    } else if (character == '\n') {
      out += "\\n";
    } else if (character < ' ' || character == 0x7f) {
      out += "\\x";
      out += kHex[character >> 4];
      out += kHex[character & 15];
    } else {
      out += static_cast<char>(character);
    }
  }
  out += '"';
}

}  // namespace

void SetLevel(Level level) { Logger().set_level(ToSpdlog(level)); }

std::string Format(std::string_view event, Fields fields) {
  std::string line(event);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    if (NeedsQuotes(field.value)) {
      AppendQuoted(line, field.value);
    } else {
      line += field.value;
    }
  }
  return line;
}

void Write(Level level, std::string_view event, Fields fields) {
  const spdlog::level::level_enum translated = ToSpdlog(level);
  if (!Logger().should_log(translated)) return;
  Logger().log(translated, "{}", Format(event, fields));
}

}  // namespace kveil::log
