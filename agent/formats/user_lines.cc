#include "formats/user_lines.h"

#include "base/text.h"

namespace kveil::formats {
namespace {

// Text with a space around it is another user than without, and looks alike.
bool HasSpaceAround(std::string_view line) {
  return line.front() == ' ' || line.front() == '\t' || line.back() == ' ' || line.back() == '\t';
}

}  // namespace

absl::Status UserLines::Wrong(std::string_view what) const {
  return absl::InvalidArgumentError(StrCat(path_, ": line ", count_, ": ", what));
}

absl::StatusOr<std::string_view> UserLines::IdOf(std::string_view line) {
  ++count_;
  if (count_ == 1 && line.starts_with("\xEF\xBB\xBF")) return Wrong("it begins with a byte order mark");
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) return Wrong("it is empty");
  if (HasSpaceAround(line)) return Wrong("there is a space before or behind the id");
  std::string_view id;
  const IdProblem problem = IdOfText(as_, line, scratch_, id);
  if (problem != IdProblem::kNone) return Wrong(Explain(problem));
  return id;
}

absl::Status UserLines::End(std::string_view rest) {
  if (rest.empty()) return absl::OkStatus();
  ++count_;
  return Wrong("it does not end with a line feed, so the file may be cut off");
}

}  // namespace kveil::formats
