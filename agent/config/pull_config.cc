#include "config/pull_config.h"

#include "config/json_value.h"
#include "config/service_address.h"

namespace kveil::config {

PullConfig ReadPull(const JsonValue& value) {
  PullConfig pull;
  const JsonObject object(value, {"url", "ca", "certificate", "key", "tokenFile", "interval", "maxSize"});
  if (const auto url = object.Require("url")) pull.url = ReadServiceUrl(*url, "https://policies.example/node.bundle");
  const auto path = [&object](std::string_view name, std::string& field) {
    if (const auto found = object.Find(name)) field = found->FilePath();
  };
  path("ca", pull.ca);
  path("certificate", pull.certificate);
  path("key", pull.key);
  path("tokenFile", pull.tokenFile);
  if (pull.certificate.empty() != pull.key.empty()) value.Error("expected certificate and key together");
  if (const auto interval = object.Find("interval")) {
    pull.interval = interval->Duration(std::chrono::seconds(5), std::chrono::hours(24));
  }
  if (const auto size = object.Find("maxSize")) pull.maxSize = size->Size(size_t{1} << 20, size_t{64} << 20);
  return pull;
}

}  // namespace kveil::config
