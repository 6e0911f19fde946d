// Parses JSON text: reports syntax errors with line and column, refuses keys that appear twice.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/text.h"
#include "config/json_value.h"

namespace kveil::config {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxDepth = 32;

// Builds the document and remembers the first key that appears twice in one object (JSON leaves the meaning open,
// RFC 8259 section 4, so one reader's "last wins" is another's "first wins").
class Builder final : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view text) : text_(text) {}

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  bool number_float(double value, const std::string&) override { return Add(value); }
  bool string(std::string& value) override { return Add(std::move(value)); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(std::string& key) override {
    key_ = key;
    if (!open_.back()->contains(key)) return true;
    error_ = StrCat(Pointer(), ": the key \"", key, "\" appears twice");
    return false;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    // The library's message is "[json.exception.parse_error.101] parse error at line 1, column 2: REASON".
    std::string_view reason = error.what();
    const size_t end = reason.find(": ");
    if (end != std::string_view::npos) reason.remove_prefix(end + 2);
    const std::string_view before = text_.substr(0, position == 0 ? 0 : std::min(position - 1, text_.size()));
    const size_t line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t lineStart = before.rfind('\n');
    const size_t column = before.size() - (lineStart == std::string_view::npos ? 0 : lineStart + 1) + 1;
    error_ = StrCat("line ", line, ", column ", column, ": not JSON: ", reason);
    return false;
  }

  const std::string& error() const { return error_; }
  Json Take() { return std::move(root_); }

 private:
  std::string Pointer() const {
    std::string pointer;
    for (const std::string& token : tokens_) StrAppend(&pointer, "/", token);
    return pointer.empty() ? "top level" : pointer;
  }

  Json* Place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(Json container) {
    if (open_.size() == kMaxDepth) {
      error_ = StrCat(Pointer(), ": nested more than ", kMaxDepth, " levels deep");
      return false;
    }
    if (!open_.empty()) {
      const Json& parent = *open_.back();
      tokens_.push_back(parent.is_array() ? std::to_string(parent.size()) : EscapePointerToken(key_));
    }
    open_.push_back(Place(std::move(container)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    if (!tokens_.empty()) tokens_.pop_back();
    return true;
  }

  std::string_view text_;
  Json root_;
  std::vector<Json*> open_;          // from the root to the innermost container
  std::vector<std::string> tokens_;  // the pointer of open_.back()
  std::string key_;
  std::string error_;
};

// Keys of the document are named in errors, and may hold line feeds and other control characters.
std::string OneLine(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line.push_back(c);
    } else {
      StrAppend(&line, "\\u00", absl::Hex(byte, absl::kZeroPad2));
    }
  }
  return line;
}

}  // namespace

absl::StatusOr<JsonDocument> JsonDocument::Parse(std::string_view text, const std::string& name) {
  Builder builder(text);
  if (!Json::sax_parse(text, &builder)) {
    return absl::InvalidArgumentError(OneLine(StrCat(name, ": ", builder.error())));
  }
  auto content = std::make_unique<Content>();
  content->name = name;
  content->json = builder.Take();
  return JsonDocument(std::move(content));
}

JsonValue JsonDocument::root() { return JsonValue(content_->json, "", *content_); }

absl::Status JsonDocument::status() const {
  const std::vector<std::string>& errors = content_->errors;
  if (errors.empty()) return absl::OkStatus();
  std::string message = errors.front();
  if (errors.size() > 1) StrAppend(&message, " (and ", errors.size() - 1, " more)");
  return absl::InvalidArgumentError(OneLine(message));
}

}  // namespace kveil::config
