#include "config/gcp_config.h"

#include <string_view>

#include "config/json_value.h"
#include "config/service_address.h"
#include "keys/names/key_names.h"

namespace kveil::config {
namespace {

constexpr std::string_view kEndpoint = "https://cloudkms.googleapis.com";

}  // namespace

GcpConfig ReadGcpKms(const JsonValue& value, KeyNamedBy namedBy) {
  GcpConfig gcp;
  const JsonObject object(value, {"key", "endpoint", "credentialsFile", "ca"});
  if (const auto key = FindNamedKey(object, namedBy)) {
    gcp.key = key->String();
    if (!gcp.key.empty() && !keys::IsGcpKeyName(gcp.key)) {
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
