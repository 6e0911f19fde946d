#include "bundle/bundle_file.h"

#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "bundle/signature.h"
#include "config/read_file.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::bundle {
namespace {

using Json = nlohmann::json;

constexpr char kType[] = "kveil policy bundle 1";
constexpr mode_t kMode = 0600;

// Takes the members as they come, and ends at the first that does not belong: what anybody may have written is never
// held as a tree, whose nodes take many times the memory of the text.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  BundleFile Take() { return std::move(file_); }
  // Empty: nothing is wrong.
  const std::string& error() const { return error_; }
  bool isWhole() const {
    return hasType_ && !file_.manifest.empty() && !file_.signature.empty() && !file_.files.empty();
  }

  bool start_object(size_t) override {
    if (depth_ == 0 || (depth_ == 1 && key_ == "files" && file_.files.empty())) {
      ++depth_;
      return true;
    }
    return Refuse("an object");
  }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool key(std::string& key) override {
    key_ = std::move(key);
    if (depth_ == 2 && key_.size() > kLongestName) return Refuse("a name that long");
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ == 2) {
      if (file_.files.size() >= kMostFiles) return Refuse("so many files");
      const auto [file, isNew] = file_.files.try_emplace(key_);
      return isNew ? Decode(value, file->second) : Refuse("the file a second time");
    }
    if (depth_ != 1) return Refuse("a string");
    if (key_ == "type" && value == kType) return hasType_ = true;
    if (key_ == "manifest" && file_.manifest.empty()) return Decode(value, file_.manifest);
    if (key_ == "signature" && file_.signature.empty()) return Decode(value, file_.signature);
    return Refuse("this string");
  }
  bool null() override { return Refuse("null"); }
  bool boolean(bool) override { return Refuse("a truth value"); }
  bool number_integer(int64_t) override { return Refuse("a number"); }
  bool number_unsigned(uint64_t) override { return Refuse("a number"); }
  bool number_float(double, const std::string&) override { return Refuse("a number"); }
  bool binary(Json::binary_t&) override { return Refuse("bytes"); }
  bool start_array(size_t) override { return Refuse("a list"); }
  bool end_array() override { return false; }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_ = StrCat("byte ", position, ": not JSON");
    return false;
  }

 private:
  bool Refuse(std::string_view what) {
    error_ = StrCat("\"", absl::CEscape(key_.substr(0, kLongestName)), "\": ", what, " does not belong there");
    return false;
  }
  bool Decode(const std::string& value, std::string& bytes) {
    return (absl::Base64Unescape(value, &bytes) && !bytes.empty()) || Refuse("what is no base64 of bytes");
  }

  int depth_ = 0;  // 1: the bundle; 2: its files
  std::string key_;
  bool hasType_ = false;
  BundleFile file_;
  std::string error_;
};

}  // namespace

absl::StatusOr<std::string> Pack(const std::string& folder) {
  const std::string path = config::PathIn(folder, kManifestName);
  ASSIGN_OR_RETURN(const std::string text, config::ReadTextFile(path, kLongestManifest));
  ASSIGN_OR_RETURN(const std::string signature, config::ReadTextFile(config::PathIn(folder, kSignatureName)));
  ASSIGN_OR_RETURN(const Manifest manifest, ParseManifest(text, path));
  nlohmann::ordered_json json = {
      {"type", kType}, {"manifest", absl::Base64Escape(text)}, {"signature", absl::Base64Escape(signature)}};
  size_t size = 0;
  for (const auto& [name, hash] : manifest.files) {
    const std::string file = config::PathIn(folder, name);
    ASSIGN_OR_RETURN(const std::string bytes, config::ReadTextFile(file));
    RETURN_IF_ERROR(manifest.Has(file, evidence::Sha256Hex(bytes)));
    std::string encoded = absl::Base64Escape(bytes);
    size += encoded.size();
    if (size > kLongestBundle) break;
    json["files"][name] = std::move(encoded);
  }
  std::string packed = size > kLongestBundle ? "" : json.dump(1) + "\n";
  if (size > kLongestBundle || packed.size() > kLongestBundle) {
    return absl::InvalidArgumentError(StrCat("the bundle would be longer than ", kLongestBundle >> 20, " MiB"));
  }
  return packed;
}

absl::StatusOr<BundleFile> ParseBundle(std::string_view text, const std::string& name) {
  Reader reader;
  const bool isRead = Json::sax_parse(text, &reader);
  if (isRead && reader.isWhole()) return reader.Take();
  return absl::InvalidArgumentError(
      StrCat(name, ": is no bundle of policies: ",
             isRead ? "type, manifest, signature or files is missing" : reader.error().c_str()));
}

absl::StatusOr<Manifest> Verify(const BundleFile& file, absl::Span<const evidence::SigningKey> trusted,
                                const std::string& name) {
  ASSIGN_OR_RETURN(Manifest manifest, VerifyManifest(file.manifest, file.signature, trusted, name));
  for (const auto& [path, bytes] : file.files) {
    const auto listed = manifest.files.find(path);  // the very name, which the manifest's check has seen
    if (listed != manifest.files.end() && listed->second == evidence::Sha256Hex(bytes)) continue;
    return absl::FailedPreconditionError(
        StrCat(name, ": ", absl::CEscape(path), " is no file that was signed as version ", manifest.version));
  }
  for (const auto& [path, hash] : manifest.files) {
    if (file.files.contains(path)) continue;
    return absl::FailedPreconditionError(StrCat(name, ": ", absl::CEscape(path), " is in its manifest, and not there"));
  }
  return manifest;
}

absl::Status Unpack(const BundleFile& file, const std::string& folder) {
  for (const auto& [name, bytes] : file.files) {
    RETURN_IF_ERROR(evidence::WriteFile(config::PathIn(folder, name), bytes, kMode));
  }
  RETURN_IF_ERROR(evidence::WriteFile(config::PathIn(folder, kManifestName), file.manifest, kMode));
  return evidence::WriteFile(config::PathIn(folder, kSignatureName), file.signature, kMode);
}

}  // namespace kveil::bundle
