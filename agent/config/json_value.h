// A strict typed view of a JSON document. Anything unexpected is an error that names the file, the JSON pointer and
// what was expected. After an error, reading continues with a default, so the reader's code stays a plain list of
// fields.
//
//   absl::StatusOr<JsonDocument> document = JsonDocument::Parse(text, "agent.json");
//   JsonObject root(document->root(), {"workers", "policies"});     // refuses other keys at once
//   unsigned workers = root.Find("workers") ? root.Find("workers")->Integer(0, 1024) : 0;
//   absl::Status status = document->status();
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"

namespace kveil::config {

// A key as one token of a JSON pointer (RFC 6901 section 4).
std::string EscapePointerToken(std::string_view key);

class JsonValue;

class JsonDocument {
 public:
  // kInvalidArgument with line and column for a syntax error, with the JSON pointer for a key that appears twice.
  static absl::StatusOr<JsonDocument> Parse(std::string_view text, const std::string& name);

  JsonValue root();
  // OK, or kInvalidArgument with the first error and the number of further ones.
  absl::Status status() const;

 private:
  friend class JsonValue;
  struct Content {
    std::string name;
    nlohmann::json json;
    std::vector<std::string> errors;
    std::set<std::string> places;  // with an error
  };
  explicit JsonDocument(std::unique_ptr<Content> content) : content_(std::move(content)) {}
  std::unique_ptr<Content> content_;
};

// A value and its place. Valid as long as its document.
class JsonValue {
 public:
  JsonValue(const nlohmann::json& json, std::string pointer, JsonDocument::Content& document)
      : json_(&json), pointer_(std::move(pointer)), document_(&document) {}

  bool isString() const { return json_->is_string(); }
  bool isList() const { return json_->is_array(); }
  bool isObject() const { return json_->is_object(); }
  bool isNumber() const { return json_->is_number(); }
  bool isTrue() const { return json_->is_boolean() && json_->get<bool>(); }
  const std::string& pointer() const { return pointer_; }

  // If the JSON is something else, each of these reports an error and returns an empty value, or `least`.
  std::string String() const;        // not empty, no control characters
  std::string AbsolutePath() const;  // of a file or folder
  // Of a file or folder, made absolute: it may start from the document's folder, or with kCredentials (credentials.h).
  std::string FilePath() const;
  int64_t Integer(int64_t least, int64_t most) const;  // both included
  double Number(int64_t least, int64_t most) const;    // both included
  std::chrono::milliseconds Duration(std::chrono::milliseconds least, std::chrono::milliseconds most) const;  // "60s"
  size_t Size(size_t least, size_t most) const;                                                               // "64MiB"
  void True() const;         // the value true
  std::string Dump() const;  // the JSON itself, whatever it is
  template <typename Enum>
  Enum OneOf(std::initializer_list<std::pair<std::string_view, Enum>> choices) const;
  std::vector<JsonValue> List() const;
  std::vector<std::pair<std::string, JsonValue>> Members() const;

  void Expected(std::string_view what) const;  // "expected WHAT, found ..." at this place
  void Error(std::string_view message) const;  // `message` at this place
  // "WHAT is not supported in this version", at this place: the design has it, this version does not.
  void NotSupported(std::string_view what) const;

 private:
  friend class JsonObject;
  size_t IndexOf(absl::Span<const std::string_view> names) const;  // names.size() after an error
  const nlohmann::json* json_;
  std::string pointer_;
  JsonDocument::Content* document_;
};

// An object and the keys that it may have.
class JsonObject {
 public:
  // Reports every other key as an error. Keys in `later` belong to the design but not to this version; their error says
  // so.
  JsonObject(const JsonValue& value, std::initializer_list<std::string_view> known,
             std::initializer_list<std::string_view> later = {});

  std::optional<JsonValue> Find(std::string_view key) const;
  std::optional<JsonValue> Require(std::string_view key) const;  // reports an error if it is missing
  // The one key of `keys` that is there. Reports an error and returns nullopt if there are none or several.
  std::optional<std::string_view> ExactlyOneOf(std::initializer_list<std::string_view> keys) const;
  const JsonValue& value() const { return value_; }

 private:
  JsonValue value_;
};

// The field `key` as the path of a file or folder, when it is there.
inline void ReadPath(const JsonObject& object, std::string_view key, std::string& path) {
  if (const auto value = object.Find(key)) path = value->FilePath();
}

template <typename Enum>
Enum JsonValue::OneOf(std::initializer_list<std::pair<std::string_view, Enum>> choices) const {
  std::vector<std::string_view> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  const size_t index = IndexOf(names);
  return choices.begin()[index < choices.size() ? index : 0].second;
}

// The name closest to `name` in letters (at most a third of them differ), or empty.
std::string_view NearestName(std::string_view name, absl::Span<const std::string_view> names);

}  // namespace kveil::config
