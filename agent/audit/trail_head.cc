#include "audit/trail_head.h"

#include "absl/strings/escaping.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "nlohmann/json.hpp"

namespace kveil::audit {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kFirstLine[] = "kveil audit 1\n";

bool Read(const Json& json, const char* name, uint64_t& value) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_number_unsigned()) return false;
  value = found->get<uint64_t>();
  return true;
}

bool Read(const Json& json, const char* name, std::string& value) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_string()) return false;
  value = found->get<std::string>();
  return true;
}

}  // namespace

std::string TextOf(absl::Time time) { return absl::FormatTime(absl::RFC3339_sec, time, absl::UTCTimeZone()); }

std::string TextOfEnd(absl::Time time) {
  return TextOf(absl::UnixEpoch() + absl::Ceil(time - absl::UnixEpoch(), absl::Seconds(1)));
}

std::optional<absl::Time> TimeIn(const std::string& text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return std::nullopt;
  return time;
}

std::string TextOf(const TrailHead& head, const evidence::SigningKey& key) {
  const Json json = {{"first", head.first}, {"firstPrevious", head.firstPrevious},
                     {"last", head.last},   {"hash", head.hash},
                     {"file", head.file},   {"bytes", head.bytes},
                     {"time", head.time},   {"aged", head.aged},
                     {"early", head.early}};
  const std::string text = StrCat(kFirstLine, json.dump(), "\n");
  const std::string signature = key.Sign(text);
  if (signature.empty()) return "";
  return StrCat(text, absl::BytesToHexString(signature), "\n");
}

absl::StatusOr<TrailHead> ReadHead(const std::string& folder, const evidence::SigningKey* key) {
  const std::string path = folder + "/head";
  ASSIGN_OR_RETURN(const std::string text, evidence::ReadFile(path));
  return HeadIn(text, path, key);
}

absl::StatusOr<TrailHead> HeadIn(const std::string& text, const std::string& path, const evidence::SigningKey* key) {
  const absl::Status wrong =
      absl::FailedPreconditionError(StrCat(path, ": is not what was written there: kveil audit verify"));
  if (!text.starts_with(kFirstLine)) return wrong;
  const size_t end = text.find('\n', sizeof(kFirstLine) - 1);
  if (end == std::string::npos) return wrong;
  const std::string signature = absl::HexStringToBytes(absl::StripSuffix(text.substr(end + 1), "\n"));
  if (key != nullptr && !key->Verifies(text.substr(0, end + 1), signature)) return wrong;
  const Json json = Json::parse(text.begin() + sizeof(kFirstLine) - 1, text.begin() + static_cast<ptrdiff_t>(end),
                                nullptr, /*allow_exceptions=*/false);
  TrailHead head;
  if (!json.is_object() || !Read(json, "first", head.first) || !Read(json, "firstPrevious", head.firstPrevious) ||
      !Read(json, "last", head.last) || !Read(json, "hash", head.hash) || !Read(json, "file", head.file) ||
      !Read(json, "bytes", head.bytes) || !Read(json, "time", head.time) || !Read(json, "aged", head.aged) ||
      !Read(json, "early", head.early) || head.first == 0 || head.last + 1 < head.first) {
    return wrong;
  }
  return head;
}

}  // namespace kveil::audit
