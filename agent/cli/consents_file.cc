#include "cli/consents_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "cli/erasing.h"
#include "formats/user_id.h"
#include "formats/utf8.h"
#include "users/facts_change.h"

namespace kveil::cli {
namespace {

constexpr size_t kLongestLine = 8192;  // longer than any line that makes sense
constexpr std::string_view kHeaders[] = {"user,purpose,state,until", "user,purpose,state"};

absl::StatusOr<std::vector<std::string>> SplitCsv(std::string_view line) {
  std::vector<std::string> fields(1);
  for (size_t i = 0; i < line.size();) {
    if (line[i] != '"') {
      const size_t end = std::min(line.find(',', i), line.size());
      fields.back() = line.substr(i, end - i);
      if (fields.back().find('"') != std::string::npos) return absl::InvalidArgumentError("a quote within a field");
      i = end;
    } else {
      for (++i;; ++i) {
        if (i == line.size()) return absl::InvalidArgumentError("a quote is not closed");
        if (line[i] == '"' && (i + 1 == line.size() || line[++i] != '"')) break;
        fields.back() += line[i];
      }
      if (i + 1 == line.size() && line[i] == '"') ++i;
      if (i < line.size() && line[i] != ',') return absl::InvalidArgumentError("something follows a closing quote");
    }
    if (i < line.size()) {
      ++i;
      fields.emplace_back();
    }
  }
  return fields;
}

struct Texts {
  std::string user, purpose, state;
  std::optional<std::string> until;
};

absl::StatusOr<Texts> TextsOfCsv(std::string_view line) {
  ASSIGN_OR_RETURN(std::vector<std::string> fields, SplitCsv(line));
  if (fields.size() < 3 || fields.size() > 4) {
    return absl::InvalidArgumentError("it has not the fields user,purpose,state[,until]");
  }
  Texts texts{fields[0], fields[1], fields[2], std::nullopt};
  if (fields.size() == 4 && !fields[3].empty()) texts.until = fields[3];
  return texts;
}

absl::StatusOr<Texts> TextsOfJson(std::string_view line) {
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("it is not a JSON object");
  Texts texts;
  for (const auto& [name, value] : json.items()) {
    if (name == "until" && value.is_null()) continue;
    if (name == "user" && value.is_number_integer()) {
      texts.user = value.dump();
      continue;
    }
    if (!value.is_string()) return absl::InvalidArgumentError(StrCat("\"", name, "\" is not a string"));
    if (name == "user") {
      texts.user = value.get<std::string>();
    } else if (name == "purpose") {
      texts.purpose = value.get<std::string>();
    } else if (name == "state") {
      texts.state = value.get<std::string>();
    } else if (name == "until") {
      texts.until = value.get<std::string>();
    } else {
      return absl::InvalidArgumentError(StrCat("there is no field \"", name, "\""));
    }
  }
  return texts;
}

}  // namespace

absl::StatusOr<ConsentsFile> ConsentsFile::Open(const std::string& path, const std::string& encoding) {
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(StrCat(path, ": is no regular file, and it has to be read twice"));
  }
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(StrCat(path, ": ", std::strerror(errno)));
  return ConsentsFile(path, encoding, std::move(file));
}

absl::StatusOr<std::optional<ConsentsFile::Change>> ConsentsFile::Next() {
  // With room for what ends a line. A longer one is not taken into memory.
  std::string buffer(kLongestLine + 3, '\0');
  while (file_.getline(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file_.gcount() > 0) {
    ++line_;
    if (file_.fail()) return absl::InvalidArgumentError(StrCat(path_, ": line ", line_, ": it is too long"));
    std::string_view line(buffer.data(), static_cast<size_t>(file_.gcount()) - (file_.eof() ? 0 : 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!isJson_.has_value()) isJson_ = line.starts_with("{");
    if (line_ == 1 && (line == kHeaders[0] || line == kHeaders[1])) continue;
    absl::StatusOr<Change> change = Take(line);
    if (!change.ok()) {
      return absl::InvalidArgumentError(StrCat(path_, ": line ", line_, ": ", ToStd(change.status().message())));
    }
    return *std::move(change);
  }
  if (file_.bad()) return absl::UnavailableError(StrCat(path_, ": cannot be read"));
  return std::nullopt;
}

absl::StatusOr<ConsentsFile::Change> ConsentsFile::Take(std::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("it is empty");
  if (text.size() > kLongestLine) return absl::InvalidArgumentError("it is too long");
  if (line_ == 1 && text.starts_with("\xEF\xBB\xBF")) {
    return absl::InvalidArgumentError("it begins with a byte order mark");
  }
  ASSIGN_OR_RETURN(Texts texts, *isJson_ ? TextsOfJson(text) : TextsOfCsv(text));
  Change change;
  ASSIGN_OR_RETURN(change.user, SpellUser(texts.user, encoding_));
  if (change.user.empty()) return absl::InvalidArgumentError("it names no user");
  if (change.user.size() > formats::kLongestUserId) return absl::InvalidArgumentError("the user's id is too long");
  if (!formats::IsUtf8(change.user)) return absl::InvalidArgumentError("it is not UTF-8 text");
  users::FactsChange checked{.name = texts.purpose};
  if (texts.state == "granted") {
    change.action = admin::ChangeUsersCommand::kGrant;
    if (texts.until.has_value()) {
      ASSIGN_OR_RETURN(checked.until, users::ParseUntil(*texts.until));
    }
  } else if (texts.state == "withdrawn") {
    change.action = admin::ChangeUsersCommand::kWithdraw;
    if (texts.until.has_value()) return absl::InvalidArgumentError("what is withdrawn has no end");
  } else {
    return absl::InvalidArgumentError("its state is neither granted nor withdrawn");
  }
  RETURN_IF_ERROR(users::Check(checked));
  if (checked.until <= absl::Now()) return absl::InvalidArgumentError("\"until\" is over already");
  change.name = std::move(texts.purpose);
  change.until = std::move(texts.until);
  return change;
}

}  // namespace kveil::cli
