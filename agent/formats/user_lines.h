// Files that list users: an id per line, in UTF-8. Every line, the last one too, ends with a line feed, before which a
// carriage return may stand: a file that ends otherwise may be cut off. No line is empty, and there are no comments.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/user_id.h"

namespace kveil::formats {

// Goes through the lines of one file. Whoever reads the file divides it at the line feeds, and bounds its size.
class UserLines {
 public:
  // `path`: for messages.
  UserLines(std::string path, IdEncoding as) : path_(std::move(path)), as_(as) {}

  // The id of the next line in its one spelling, valid until the next call and while `line` is. `line` has no line
  // feed. kInvalidArgument: "FILE: line 7: ...", without the id.
  absl::StatusOr<std::string_view> IdOf(std::string_view line);
  // The same for what follows the last line feed: OK if that is nothing.
  absl::Status End(std::string_view rest);
  // kInvalidArgument, about the line that IdOf had last.
  absl::Status Wrong(std::string_view what) const;

  size_t count() const { return count_; }  // lines so far

 private:
  const std::string path_;
  const IdEncoding as_;
  size_t count_ = 0;
  std::string scratch_;
};

}  // namespace kveil::formats
