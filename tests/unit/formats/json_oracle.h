// What JsonFinder must say of a text, by another library's parser: nlohmann's reads all of it and keeps every member.
#pragma once

#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/json_finder.h"
#include "nlohmann/json.hpp"

namespace kveil::formats {

struct OracleNode {
  enum class Kind { kNull, kString, kInteger, kOther, kObject, kList };
  Kind kind = Kind::kNull;
  std::string text;
  std::vector<std::string> names;  // of an object's members
  std::vector<OracleNode> members;
};

class OracleReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return Add({}); }
  bool boolean(bool) override { return AddScalar(OracleNode::Kind::kOther, ""); }
  bool number_integer(number_integer_t value) override { return AddInteger(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return AddInteger(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override {
    return AddScalar(OracleNode::Kind::kInteger, text);
  }
  bool string(string_t& text) override { return AddScalar(OracleNode::Kind::kString, text); }
  bool binary(binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(OracleNode::Kind::kObject); }
  bool key(string_t& name) override {
    open_.back().names.push_back(name);
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(OracleNode::Kind::kList); }
  bool end_array() override { return Close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  OracleNode root;

 private:
  bool AddInteger(const std::string& text) { return AddScalar(OracleNode::Kind::kInteger, text); }
  bool AddScalar(OracleNode::Kind kind, const std::string& text) {
    OracleNode node;
    node.kind = kind;
    node.text = text;
    return Add(std::move(node));
  }
  bool Add(OracleNode node) {
    if (open_.empty()) {
      root = std::move(node);
    } else {
      open_.back().members.push_back(std::move(node));
    }
    return true;
  }
  bool Open(OracleNode::Kind kind) {
    if (open_.size() > kMostLevels) return false;
    open_.emplace_back().kind = kind;
    return true;
  }
  bool Close() {
    OracleNode node = std::move(open_.back());
    open_.pop_back();
    return Add(std::move(node));
  }

  static constexpr size_t kMostLevels = 2000;  // nodes are destroyed by recursion; the finder reads 1000

  std::vector<OracleNode> open_;
};

// Ignores case in ASCII, and knows of the letters beyond that fold to ASCII.
inline std::string OracleFold(std::string_view name) {
  std::string folded;
  for (size_t i = 0; i < name.size(); ++i) {
    const std::string_view rest = name.substr(i);
    if (rest.starts_with("\xC5\xBF")) {
      folded += 's', ++i;
    } else if (rest.starts_with("\xE2\x84\xAA")) {
      folded += 'k', i += 2;
    } else if (rest.starts_with("\xC4\xB0") || rest.starts_with("\xC4\xB1")) {
      folded += 'i', ++i;
    } else {
      folded += static_cast<char>(std::tolower(static_cast<unsigned char>(name[i])));
    }
  }
  return folded;
}

struct Verdict {
  JsonResult result = JsonResult::kMissing;
  std::string text;

  friend bool operator==(const Verdict&, const Verdict&) = default;
};

inline bool IsUser(const Verdict& verdict) {
  return verdict.result == JsonResult::kString || verdict.result == JsonResult::kNumber;
}

inline Verdict OracleFollow(const OracleNode& node, absl::Span<const JsonStep> steps) {
  using Kind = OracleNode::Kind;
  if (node.kind == Kind::kNull) return {JsonResult::kMissing, ""};
  if (steps.empty()) {
    if (node.kind == Kind::kString) return {JsonResult::kString, node.text};
    if (node.kind == Kind::kInteger) return {JsonResult::kNumber, node.text};
    return {JsonResult::kOther, ""};
  }
  if (node.kind == Kind::kList) {
    if (!steps[0].index.has_value()) return {JsonResult::kOther, ""};
    if (*steps[0].index >= node.members.size()) return {JsonResult::kMissing, ""};
    return OracleFollow(node.members[*steps[0].index], steps.subspan(1));
  }
  if (node.kind != Kind::kObject) return {JsonResult::kOther, ""};
  const OracleNode* found = nullptr;
  size_t same = 0;
  size_t alike = 0;
  bool isSuspicious = false;  // U+0000, or half a surrogate pair
  for (size_t i = 0; i < node.names.size(); ++i) {
    const std::string& name = node.names[i];
    isSuspicious =
        isSuspicious || name.find('\0') != std::string::npos || name.find("\xEF\xBF\xBD") != std::string::npos;
    const bool isSame = name == steps[0].name.text();
    if (isSame) found = &node.members[i];
    same += isSame ? 1 : 0;
    alike += !isSame && OracleFold(name) == OracleFold(steps[0].name.text()) ? 1 : 0;
  }
  if (isSuspicious || same > 1 || (same == 1 && alike > 0)) return {JsonResult::kAmbiguous, ""};
  if (same == 0) return {alike > 0 ? JsonResult::kOther : JsonResult::kMissing, ""};
  return OracleFollow(*found, steps.subspan(1));
}

// That parser refuses two things that are JSON: half a surrogate pair, here replaced by U+FFFD, and a number beyond a
// double, here made smaller.
inline std::string WithoutWhatItRefuses(std::string_view text) {
  std::string out(text);
  const auto half = [&out](size_t at, char first, char last) {
    return out.compare(at, 2, "\\u") == 0 && at + 6 <= out.size() && std::tolower(out[at + 2]) == 'd' &&
           std::isxdigit(out[at + 3]) != 0 && std::isxdigit(out[at + 4]) != 0 && std::isxdigit(out[at + 5]) != 0 &&
           std::tolower(out[at + 3]) >= first && std::tolower(out[at + 3]) <= last;
  };
  for (size_t i = 0; i + 1 < out.size(); ++i) {
    if (std::tolower(out[i]) == 'e' && i > 0 && std::isdigit(static_cast<unsigned char>(out[i - 1])) != 0) {
      if (out[i + 1] == '+' || out[i + 1] == '-') ++i;
      while (i + 1 < out.size() && std::isdigit(static_cast<unsigned char>(out[i + 1])) != 0) out[++i] = '0';
    }
    if (out[i] != '\\') continue;
    if (half(i, '8', 'b') && half(i + 6, 'c', 'f')) {
      i += 11;
    } else {
      if (half(i, '8', 'f')) out.replace(i + 2, 4, "fffd");
      ++i;
    }
  }
  return out;
}

// nullopt: no JSON. A byte order mark at the start is passed over.
inline std::optional<Verdict> OracleVerdict(std::string_view text, const JsonPointer& pointer) {
  if (text.find('\0') != std::string_view::npos) return std::nullopt;  // which that parser takes for the end
  OracleReader reader;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) return OracleFollow(reader.root, pointer.steps());
  const std::string mended = WithoutWhatItRefuses(text);
  OracleReader second;
  if (mended == text || !nlohmann::json::sax_parse(mended, &second)) return std::nullopt;
  return OracleFollow(second.root, pointer.steps());
}

// By the first of the pointers that leads somewhere, as OracleVerdict.
inline std::optional<Verdict> OracleVerdict(std::string_view text, absl::Span<const JsonPointer> pointers) {
  std::optional<Verdict> verdict = Verdict{};
  for (const JsonPointer& pointer : pointers) {
    verdict = OracleVerdict(text, pointer);
    if (!verdict.has_value() || verdict->result != JsonResult::kMissing) break;
  }
  return verdict;
}

// What a reader finds that takes comments, and of several documents the first. nullopt: it refuses the text.
inline std::optional<Verdict> FirstDocumentVerdict(std::string_view text, absl::Span<const JsonPointer> pointers) {
  constexpr bool kToTheEnd = false;
  constexpr bool kTakesComments = true;
  OracleReader reader;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader, nlohmann::json::input_format_t::json, kToTheEnd,
                                 kTakesComments)) {
    return std::nullopt;
  }
  Verdict verdict;
  for (const JsonPointer& pointer : pointers) {
    verdict = OracleFollow(reader.root, pointer.steps());
    if (verdict.result != JsonResult::kMissing) break;
  }
  return verdict;
}

// How often the name stands in the text as a whole word, in any case.
inline size_t WordsIn(std::string_view text, std::string_view name) {
  const auto isWord = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  const std::string folded = OracleFold(text);
  const std::string wanted = OracleFold(name);
  size_t count = 0;
  for (size_t at = folded.find(wanted); at != std::string::npos; at = folded.find(wanted, at + 1)) {
    const size_t end = at + wanted.size();
    const bool begins = at == 0 || !isWord(folded[at - 1]);
    count += begins && (end == folded.size() || !isWord(folded[end])) ? 1 : 0;
  }
  return count;
}

// Why the finder is wrong about the text; empty: it is right.
//
// Of JSON it must say what the oracle says; but once an object is ambiguous, another one behind it may be, too. Of what
// is no JSON it may say that there is a user only where no other is to be seen: not by a reader of the first document,
// nor, which is looked at for one pointer of one step, anywhere in the text.
inline std::string WhyWrong(std::string_view text, absl::Span<const JsonPointer> pointers, const Verdict& said) {
  const bool hasUser = IsUser(said);
  const std::string_view text0 = said.text == "-0" ? "0" : std::string_view(said.text);
  const std::optional<Verdict> wanted = OracleVerdict(text, pointers);
  if (!wanted.has_value()) {
    if (!hasUser) return "";
    const std::optional<Verdict> first = FirstDocumentVerdict(text, pointers);
    if (first.has_value() && IsUser(*first) && (first->result != said.result || first->text != text0)) {
      return "another user than in the first document";
    }
    if (pointers.size() > 1 || pointers[0].steps().size() > 1) return "";
    return WordsIn(text, pointers[0].steps()[0].name.text()) == 1 ? "" : "a user of a text with several";
  }
  const bool hasHalfAPair = said.result == JsonResult::kNotText;
  if (hasHalfAPair && wanted->result == JsonResult::kString) return "";
  if (said.result != wanted->result) return "another result";
  if (!hasUser || WithoutWhatItRefuses(text) != text) return "";
  return text0 == wanted->text ? "" : "another user";
}

}  // namespace kveil::formats
