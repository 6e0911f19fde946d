#include "formats/member_name.h"

#include <re2/re2.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/text.h"

namespace kveil::formats {
namespace {

// The letters that fold to "i" in some language, and not in Unicode's folding: U+0130 and U+0131.
constexpr std::string_view kDottedCapitalI = "\xC4\xB0";
constexpr std::string_view kDotlessSmallI = "\xC4\xB1";

constexpr size_t kShortestSearched = 2;  // the search looks for the first two letters

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isascii(c); });
}

re2::StringPiece ToRe2(std::string_view text) { return {text.data(), text.size()}; }

std::string WithPlainI(std::string_view name) {
  std::string plain;
  for (size_t i = 0; i < name.size(); ++i) {
    const std::string_view two = name.substr(i, 2);
    const bool isOtherI = two == kDottedCapitalI || two == kDotlessSmallI;
    plain.push_back(isOtherI ? 'i' : name[i]);
    if (isOtherI) ++i;
  }
  return plain;
}

}  // namespace

MemberName::MemberName(std::string text) : text_(std::move(text)) {
  // A slash may be written with an escape, too.
  isSearchable_ = text_.size() >= kShortestSearched && IsAscii(text_) &&
                  std::all_of(text_.begin(), text_.end(),
                              [](char c) { return absl::ascii_isgraph(c) && c != '/' && c != '"' && c != '\\'; });
  const std::string plain = WithPlainI(text_);
  ignoringCase_ = std::make_shared<const re2::RE2>(StrCat("(?i)", re2::RE2::QuoteMeta(ToRe2(plain))), re2::RE2::Quiet);
}

NameMatch MemberName::Compare(std::string_view name) const {
  if (name == text_) return NameMatch::kSame;
  return IsAlike(name) ? NameMatch::kAlike : NameMatch::kOther;
}

bool MemberName::IsAlike(std::string_view name) const {
  if (name.size() == text_.size() && absl::EqualsIgnoreCase(ToAbsl(name), ToAbsl(text_))) return true;
  if (name.size() > kMostGrowthByFolding * text_.size() || text_.size() > kMostGrowthByFolding * name.size()) {
    return false;
  }
  if (IsAscii(name) && IsAscii(text_)) return false;
  return re2::RE2::FullMatch(ToRe2(WithPlainI(name)), *ignoringCase_);
}

}  // namespace kveil::formats
