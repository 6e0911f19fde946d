#include "bundle/manifest.h"

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "bundle/digest.h"
#include "config/json_value.h"
#include "config/read_file.h"
#include "formats/utf8.h"
#include "nlohmann/json.hpp"

namespace kveil::bundle {
namespace {

constexpr char kType[] = "kveil policies 1";
constexpr size_t kHashDigits = 64;

// Of a file that an agent would read.
bool IsFileName(std::string_view name) {
  return formats::IsUtf8(name) && name.size() <= kLongestName && !name.starts_with('.') &&
         name.find('/') == std::string_view::npos && (name.ends_with(".json") || name.ends_with(".txt"));
}

bool IsHash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string Manifest::Digest() const { return DigestOf({files.begin(), files.end()}); }

absl::Status Manifest::Lists(const std::string& path) const {
  if (files.contains(config::NameOf(path))) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat(absl::CEscape(path), ": is not in ", kManifestName, " (version ", version, "), so nobody has signed it"));
}

absl::Status Manifest::Has(const std::string& path, std::string_view hash) const {
  RETURN_IF_ERROR(Lists(path));
  if (files.find(config::NameOf(path))->second == hash) return absl::OkStatus();
  return absl::FailedPreconditionError(
      StrCat(absl::CEscape(path), ": is not the file that was signed as version ", version));
}

absl::Status Check(const Manifest& manifest) {
  if (manifest.version < 1 || manifest.version > kHighestVersion) {
    return absl::InvalidArgumentError(StrCat("a version is a number from 1 to ", kHighestVersion));
  }
  if (manifest.files.empty() || manifest.files.size() > kMostFiles) {
    return absl::InvalidArgumentError(StrCat("a manifest has 1 to ", kMostFiles, " files"));
  }
  for (const auto& [name, hash] : manifest.files) {
    if (!IsFileName(name)) {
      return absl::InvalidArgumentError(
          StrCat("\"", absl::CEscape(name),
                 "\" is no name of a file *.json or *.txt in a folder, in UTF-8, of at most ", kLongestName, " bytes"));
    }
    if (!IsHash(hash))
      return absl::InvalidArgumentError(StrCat("the hash of ", absl::CEscape(name), " is no SHA-256 in hexadecimal"));
  }
  return absl::OkStatus();
}

std::string TextOf(const Manifest& manifest) {
  const nlohmann::ordered_json json = {
      {"type", kType}, {"version", manifest.version}, {"created", manifest.created}, {"files", manifest.files}};
  // `created` may be anything.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Manifest> ParseManifest(std::string_view text, const std::string& name) {
  ASSIGN_OR_RETURN(config::JsonDocument document, config::JsonDocument::Parse(text, name));
  Manifest manifest;
  const config::JsonObject root(document.root(), {"type", "version", "created", "files"});
  if (const auto type = root.Require("type"); type && type->String() != kType) {
    type->Expected(StrCat("\"", kType, "\""));
  }
  if (const auto version = root.Require("version")) manifest.version = version->Integer(1, kHighestVersion);
  if (const auto created = root.Require("created")) manifest.created = created->String();
  if (const auto files = root.Require("files")) {
    for (const auto& [file, hash] : files->Members()) manifest.files.emplace(file, hash.String());
  }
  RETURN_IF_ERROR(document.status());
  if (const absl::Status status = Check(manifest); !status.ok()) {
    return absl::InvalidArgumentError(StrCat(name, ": ", ToStd(status.message())));
  }
  return manifest;
}

}  // namespace kveil::bundle
