// Typed values of a JSON document, and the errors if the JSON is something else.
#include "config/json_value.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/text.h"
#include "config/credentials.h"
#include "config/units.h"

namespace kveil::config {
namespace {

using Json = nlohmann::json;

std::string Quoted(std::string_view name) { return StrCat("\"", name, "\""); }

std::string Choices(absl::Span<const std::string_view> names) {
  std::string choices = names.size() == 1 ? "" : "one of ";
  for (std::string_view name : names) StrAppend(&choices, name == names.front() ? "" : ", ", Quoted(name));
  return choices;
}

// What was found, short enough for a line.
std::string Describe(const Json& json) {
  constexpr size_t kLongest = 60;
  if (json.is_object()) return "an object";
  if (json.is_array()) return "a list";
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() <= kLongest) return text;
  size_t end = kLongest;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;  // not inside a UTF-8 character
  return StrCat(text.substr(0, end), "...\"");
}

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = absl::ascii_tolower(a[i - 1]) == absl::ascii_tolower(b[j - 1]);
      const size_t replaced = diagonal + (same ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string EscapePointerToken(std::string_view key) {
  return absl::StrReplaceAll(ToAbsl(key), {{"~", "~0"}, {"/", "~1"}});
}

std::string_view NearestName(std::string_view name, absl::Span<const std::string_view> names) {
  std::string_view nearest;
  size_t least = std::max<size_t>(name.size() / 3, 2) + 1;
  for (std::string_view candidate : names) {
    const size_t distance = EditDistance(name, candidate);
    if (distance >= least || distance >= candidate.size()) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

void JsonValue::Error(std::string_view message) const {
  // Of several things wrong at one place the first is said.
  if (!document_->places.insert(pointer_).second) return;
  document_->errors.push_back(StrCat(document_->name, ": ", pointer_, pointer_.empty() ? "" : ": ", message));
}

void JsonValue::Expected(std::string_view what) const {
  Error(StrCat("expected ", what, ", found ", Describe(*json_)));
}

void JsonValue::NotSupported(std::string_view what) const { Error(StrCat(what, " is not supported in this version")); }

std::string JsonValue::String() const {
  if (!json_->is_string() || json_->get_ref<const std::string&>().empty()) {
    Expected("a non-empty string");
    return "";
  }
  const std::string& text = json_->get_ref<const std::string&>();
  if (std::any_of(text.begin(), text.end(), absl::ascii_iscntrl)) {
    Expected("a string without control characters");
    return "";
  }
  return text;
}

std::string JsonValue::AbsolutePath() const {
  if (!json_->is_string() || json_->get_ref<const std::string&>().rfind('/', 0) != 0) {
    Expected("an absolute path");
    return "";
  }
  return String();
}

std::string JsonValue::FilePath() const {
  const std::string text = String();
  if (text.empty() || text[0] == '/') return text;
  if (text.starts_with(kCredentials)) return ExpandCredentials(text);
  if (text[0] == '$') {  // the name of some other variable would become the name of a folder
    Expected(StrCat("a path; of the environment, only ", kCredentials));
    return "";
  }
  const std::filesystem::path folder = std::filesystem::absolute(document_->name).parent_path();
  return (folder / text).lexically_normal().string();
}

int64_t JsonValue::Integer(int64_t least, int64_t most) const {
  const bool fits = json_->is_number_unsigned() ? json_->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)
                                                : json_->is_number_integer();
  if (!fits || json_->get<int64_t>() < least || json_->get<int64_t>() > most) {
    Expected(StrCat("a whole number from ", least, " to ", most));
    return least;
  }
  return json_->get<int64_t>();
}

double JsonValue::Number(int64_t least, int64_t most) const {
  const double number = json_->is_number() ? json_->get<double>() : 0;
  const bool fits = json_->is_number() && number >= static_cast<double>(least) && number <= static_cast<double>(most);
  if (!fits) Expected(StrCat("a number from ", least, " to ", most));
  return fits ? number : static_cast<double>(least);
}

std::chrono::milliseconds JsonValue::Duration(std::chrono::milliseconds least, std::chrono::milliseconds most) const {
  if (json_->is_string()) {
    const auto duration = ParseDuration(json_->get_ref<const std::string&>());
    if (duration && *duration >= least && *duration <= most) return *duration;
  }
  Expected(StrCat("a duration with a unit (ms, s, m, h) from ", FormatDuration(least), " to ", FormatDuration(most)));
  return least;
}

size_t JsonValue::Size(size_t least, size_t most) const {
  if (json_->is_string()) {
    const auto size = ParseSize(json_->get_ref<const std::string&>());
    if (size && *size >= least && *size <= most) return *size;
  }
  Expected(StrCat("a size with a unit (B, KiB, MiB, GiB) from ", FormatSize(least), " to ", FormatSize(most)));
  return least;
}

std::string JsonValue::Dump() const { return json_->dump(); }

void JsonValue::True() const {
  if (!isTrue()) Expected("true");
}

size_t JsonValue::IndexOf(absl::Span<const std::string_view> names) const {
  if (json_->is_string()) {
    const std::string& text = json_->get_ref<const std::string&>();
    const auto found = std::find(names.begin(), names.end(), text);
    if (found != names.end()) return found - names.begin();
  }
  Expected(Choices(names));
  return names.size();
}

std::vector<JsonValue> JsonValue::List() const {
  std::vector<JsonValue> values;
  if (!json_->is_array()) {
    Expected("a list");
    return values;
  }
  for (size_t i = 0; i < json_->size(); ++i) values.emplace_back((*json_)[i], StrCat(pointer_, "/", i), *document_);
  return values;
}

std::vector<std::pair<std::string, JsonValue>> JsonValue::Members() const {
  std::vector<std::pair<std::string, JsonValue>> members;
  if (!json_->is_object()) {
    Expected("an object");
    return members;
  }
  for (const auto& [key, value] : json_->items()) {
    members.emplace_back(key, JsonValue(value, StrCat(pointer_, "/", EscapePointerToken(key)), *document_));
  }
  return members;
}

JsonObject::JsonObject(const JsonValue& value, std::initializer_list<std::string_view> known,
                       std::initializer_list<std::string_view> later)
    : value_(value) {
  for (const auto& [key, member] : value.Members()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    if (std::find(later.begin(), later.end(), key) != later.end()) {
      member.NotSupported(Quoted(key));
      continue;
    }
    const std::string unknown = StrCat("unknown key \"", absl::Utf8SafeCEscape(key), "\", ");
    const std::string_view nearest = NearestName(key, known);
    if (!nearest.empty()) {
      member.Error(StrCat(unknown, "did you mean \"", nearest, "\"?"));
    } else {
      member.Error(StrCat(unknown, "expected ", known.size() == 0 ? "an empty object" : Choices(known)));
    }
  }
}

std::optional<JsonValue> JsonObject::Find(std::string_view key) const {
  if (!value_.json_->is_object()) return std::nullopt;
  const auto found = value_.json_->find(std::string(key));
  if (found == value_.json_->end()) return std::nullopt;
  return JsonValue(*found, StrCat(value_.pointer_, "/", key), *value_.document_);
}

std::optional<JsonValue> JsonObject::Require(std::string_view key) const {
  std::optional<JsonValue> found = Find(key);
  if (!found && value_.json_->is_object()) value_.Error(StrCat("expected the key \"", key, "\", which is missing"));
  return found;
}

std::optional<std::string_view> JsonObject::ExactlyOneOf(std::initializer_list<std::string_view> keys) const {
  std::vector<std::string> found;
  for (std::string_view key : keys) {
    if (Find(key)) found.emplace_back(key);
  }
  if (found.size() == 1) return *std::find(keys.begin(), keys.end(), found.front());
  if (value_.json_->is_object()) {
    const std::string choice = keys.size() == 1 ? Choices(keys) : StrCat("exactly ", Choices(keys));
    value_.Error(StrCat("expected ", choice, ", found ",
                        found.empty() ? "none" : StrCat("\"", absl::StrJoin(found, "\" and \""), "\"")));
  }
  return std::nullopt;
}

}  // namespace kveil::config
