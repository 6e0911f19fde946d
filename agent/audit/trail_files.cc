#include "audit/trail_files.h"

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kDigits = 12;
constexpr std::string_view kEnding = ".jsonl";
constexpr std::string_view kSetAside = ".unsigned";

// Sorted by the number that `numberOf` finds in their names; those without one are left out.
absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder,
                                                 std::optional<uint64_t> (*numberOf)(const std::string& name)) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(folder.c_str()), ::closedir);
  if (directory == nullptr) return FileError(folder);
  std::vector<std::pair<uint64_t, std::string>> found;
  while (const dirent* const entry = ::readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (const std::optional<uint64_t> number = numberOf(name); number.has_value()) found.emplace_back(*number, name);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> files;
  for (auto& [number, name] : found) files.push_back(std::move(name));
  return files;
}

}  // namespace

std::string DayOf(absl::Time time) { return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone()); }

std::string FileName(uint64_t firstLine, absl::Time now) {
  std::string digits = StrCat(firstLine);
  if (digits.size() < kDigits) digits.insert(0, kDigits - digits.size(), '0');
  return StrCat(digits, ".", DayOf(now), kEnding);
}

std::string_view DayIn(std::string_view file) {
  file.remove_suffix(kEnding.size());
  return file.substr(file.rfind('.') + 1);
}

std::string FormerName(const std::string& name) {
  if (!name.ends_with(kSetAside)) return "";
  const std::string counted = name.substr(0, name.size() - kSetAside.size());
  return counted.substr(0, counted.rfind('.'));
}

std::string SetAsideName(const std::string& file, int count) { return StrCat(file, ".", count, kSetAside); }

std::string PreviousOf(const std::string& path) {
  const absl::StatusOr<std::string> text = evidence::ReadFile(path);
  if (!text.ok()) return "";
  const Json line = Json::parse(text->substr(0, text->find('\n')), nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return "";
  const auto previous = line.find("previous");
  return previous != line.end() && previous->is_string() ? previous->get<std::string>() : "";
}

std::optional<uint64_t> SignedEnd(const std::string& file, const std::string& next) {
  const Json line = Json::parse(next.substr(0, next.find('\n')), nullptr, /*allow_exceptions=*/false);
  if (!line.is_object() || line.value("kind", Json()) != "unsigned" || line.value("file", Json()) != file) {
    return std::nullopt;
  }
  const auto from = line.find("from");
  if (from == line.end() || !from->is_number_unsigned()) return std::nullopt;
  return from->get<uint64_t>();
}

std::optional<uint64_t> FirstLineOf(const std::string& file) {
  uint64_t number = 0;
  if (file.size() <= kDigits || !file.ends_with(kEnding)) return std::nullopt;
  const size_t dot = file.find('.');
  if (dot == std::string::npos || !absl::SimpleAtoi(file.substr(0, dot), &number)) return std::nullopt;
  if (file.size() != dot + 1 + std::strlen("2026-11-29") + kEnding.size()) return std::nullopt;
  return number;
}

absl::Status FileError(const std::string& path) {
  const int error = errno;
  return absl::UnavailableError(StrCat("audit: ", path, ": ", std::strerror(error)));
}

absl::StatusOr<std::vector<std::string>> FilesOf(const std::string& folder) { return NamesIn(folder, FirstLineOf); }

absl::StatusOr<std::vector<std::string>> SetAsideIn(const std::string& folder) {
  return NamesIn(folder, [](const std::string& name) { return FirstLineOf(FormerName(name)); });
}

}  // namespace kveil::audit
