// A file of consents: CSV or JSON lines, read a line at a time.
#pragma once

#include <cstddef>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "admin/user_commands.h"

namespace kveil::cli {

// CSV (RFC 4180, no line breaks within a field): user,purpose,granted|withdrawn[,until]. The first line may name the
// columns, exactly as "user,purpose,state,until" or "user,purpose,state".
// JSON lines, if the first character is a brace: {"user": "38", "purpose": "marketing", "state": "granted", "until":
// ..}
//
//   ASSIGN_OR_RETURN(ConsentsFile file, ConsentsFile::Open(path, "text"));
//   for (;;) {
//     ASSIGN_OR_RETURN(std::optional<Change> change, file.Next());   // nullopt: the end
//     ...
class ConsentsFile {
 public:
  using Change = admin::ChangeUsersCommand::Change;

  // `encoding`: how ids are written (formats::kIdEncodingNames). kNotFound, and kInvalidArgument when it is no regular
  // file.
  static absl::StatusOr<ConsentsFile> Open(const std::string& path, const std::string& encoding);

  // The change of the next line. nullopt at the end. kInvalidArgument: "FILE: line 7: ..."
  absl::StatusOr<std::optional<Change>> Next();
  // Of the change that Next has returned last, from 1.
  size_t line() const { return line_; }

 private:
  ConsentsFile(std::string path, std::string encoding, std::ifstream file)
      : path_(std::move(path)), encoding_(std::move(encoding)), file_(std::move(file)) {}
  absl::StatusOr<Change> Take(std::string_view text);

  std::string path_;
  std::string encoding_;
  std::ifstream file_;
  size_t line_ = 0;
  std::optional<bool> isJson_;
};

}  // namespace kveil::cli
