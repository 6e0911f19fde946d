#include "base/log.h"

#include <atomic>
#include <cstdlib>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/log_limit.h"
#include "base/log_writer.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::log {
namespace {

std::atomic<Level> writtenFrom{Level::kInfo};
std::atomic<Layout> layoutInUse{Layout::kText};

std::string_view NameOf(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarning:
      return "warning";
    case Level::kError:
      break;
  }
  return "error";
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

// "2026-11-25T01:34:16.705+00:00 warning EVENT key=value ..." or an object, with its end.
std::string Line(Level level, std::string_view event, Fields fields) {
  const std::string time = absl::FormatTime("%Y-%m-%dT%H:%M:%E3S%Ez", absl::Now(), absl::UTCTimeZone());
  if (layoutInUse.load(std::memory_order_relaxed) == Layout::kJson) {
    return StrCat(FormatJson(time, level, event, fields), "\n");
  }
  return StrCat(time, " ", NameOf(level), " ", Format(event, fields), "\n");
}

// Never destroyed: threads may log until the very end.
struct Log {
  Log() : writer(Options()) {
    std::atexit([] { Flush(); });
  }
  LineWriter::Options Options() {
    LineWriter::Options options;
    options.more = [this] {
      std::string lines;
      for (const LineLimit::Suppressed& kind : limit.TakeSuppressed()) {
        lines += Line(Level::kWarning, "log.limited",
                      {{"limited", kind.event}, {"lines", kind.lines}, {"lastWorkload", kind.workload}});
      }
      return lines;
    };
    options.lost = [](uint64_t lines) { return Line(Level::kWarning, "log.lost", {{"lines", lines}}); };
    return options;
  }

  LineLimit limit;
  LineWriter writer;
};

Log& Instance() {
  static Log* const log = new Log();
  return *log;
}

constexpr std::string_view kShare = "share";

std::string_view ShareIn(Fields fields) {
  for (const Field& field : fields) {
    if (field.key == kShare) return field.value;
  }
  return {};
}

}  // namespace

void SetLevel(Level level) { writtenFrom = level; }

void SetLayout(Layout layout) { layoutInUse = layout; }

std::string Format(std::string_view event, Fields fields) {
  std::string line(event);
  for (const Field& field : fields) {
    if (field.key == kShare) continue;
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

std::string FormatJson(std::string_view time, Level level, std::string_view event, Fields fields) {
  using Json = nlohmann::ordered_json;
  Json line = {{"time", time}, {"level", NameOf(level)}, {"event", event}};
  for (const Field& field : fields) {
    if (field.key == kShare) continue;
    line[field.key] = field.isNumber ? Json::parse(field.value, nullptr, false) : Json(field.value);
  }
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Write(Level level, std::string_view event, Fields fields) {
  if (level < writtenFrom.load(std::memory_order_relaxed)) return;
  Log& log = Instance();
  if (log.limit.Admit(event, ShareIn(fields), LineLimit::Clock::now())) {
    log.writer.Write(Line(level, event, fields));
  } else {
    log.writer.AskForMore();
  }
}

bool Flush(std::chrono::milliseconds limit) { return Instance().writer.Flush(limit); }

Losses Lost() {
  Log& log = Instance();
  return {.unread = log.writer.lost(), .limited = log.limit.suppressed()};
}

}  // namespace kveil::log
