#include "config/gcp_config.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "config/json_value.h"
#include "config/service_address.h"

namespace kveil::config {
namespace {

constexpr std::string_view kEndpoint = "https://cloudkms.googleapis.com";
constexpr size_t kLongestProject = 100;
constexpr size_t kLongestName = 63;

bool HasOnly(std::string_view text, size_t longest, bool hasUpper, std::string_view more) {
  return !text.empty() && text.size() <= longest && std::all_of(text.begin(), text.end(), [&](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return absl::ascii_islower(byte) || absl::ascii_isdigit(byte) || (hasUpper && absl::ascii_isupper(byte)) ||
           more.find(c) != std::string_view::npos;
  });
}

// A project may be one of a domain, "example.com:project".
bool IsKey(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  return parts.size() == 8 && parts[0] == "projects" && HasOnly(parts[1], kLongestProject, false, ".:-") &&
         parts[2] == "locations" && HasOnly(parts[3], kLongestName, false, "-") && parts[4] == "keyRings" &&
         HasOnly(parts[5], kLongestName, true, "_-") && parts[6] == "cryptoKeys" &&
         HasOnly(parts[7], kLongestName, true, "_-");
}

}  // namespace

GcpConfig ReadGcpKms(const JsonValue& value, KeyNamedBy namedBy) {
  GcpConfig gcp;
  const JsonObject object(value, {"key", "endpoint", "credentialsFile", "ca"});
  if (const auto key = FindNamedKey(object, namedBy)) {
    gcp.key = key->String();
    if (!gcp.key.empty() && !IsKey(gcp.key)) {
      key->Expected("a key such as \"projects/P/locations/L/keyRings/R/cryptoKeys/K\", without a version");
    }
  }
  gcp.endpoint = kEndpoint;
  if (const auto endpoint = object.Find("endpoint")) gcp.endpoint = ReadServiceAddress(*endpoint, kEndpoint);
  if (const auto file = object.Find("credentialsFile")) gcp.credentialsFile = file->FilePath();
  if (const auto ca = object.Find("ca")) gcp.ca = ca->FilePath();
  return gcp;
}

}  // namespace kveil::config
