// An agent configuration of any text, and the small text forms in it.
#include "config/config.h"

#include <string>

#include "base/text.h"
#include "config/target_text.h"
#include "config/units.h"
#include "fuzz.h"

namespace kveil::fuzz {
namespace {

void CheckPorts(const std::vector<config::PortRange>& ports) {
  Check(!ports.empty(), "a target has a port");
  uint32_t next = 1;  // the least that a range may begin with
  for (const config::PortRange& range : ports) {
    Check(range.first >= next && range.first <= range.last, "ports ascend and do not touch");
    next = uint32_t{range.last} + 2;
  }
}

void CheckTarget(const config::Target& target) {
  Check(!target.cluster.empty(), "a target has a cluster");
  CheckPorts(target.ports);
  const auto again = config::ParseNetwork(target.CidrText());
  Check(again.ok() && again->prefixLength == target.prefixLength && again->address == target.network,
        "a network is printed as it was read");
}

void CheckTexts(std::string_view text) {
  if (const auto duration = config::ParseDuration(text)) {
    Check(config::ParseDuration(config::FormatDuration(*duration)) == duration, "a duration is printed as it was read");
  }
  if (const auto size = config::ParseSize(text)) {
    Check(config::ParseSize(config::FormatSize(*size)) == size, "a size is printed as it was read");
  }
  if (const auto ports = config::ParsePorts(text)) CheckPorts(*ports);
  (void)config::ParseEndpoint(text);
  (void)config::ParseNetwork(text);
}

}  // namespace

void Run(Bytes input) {
  CheckTexts(AsText(input));
  const auto config = config::ParseConfig(AsText(input), "fuzz.json");
  if (!config.ok()) {
    const std::string_view message = ToStd(config.status().message());
    Check(absl::IsInvalidArgument(config.status()), "a configuration that is refused is the file's fault");
    Check(message.starts_with("fuzz.json"), "an error names its file");
    Check(message.find('\n') == std::string_view::npos, "an error is one line");
    return;
  }
  for (const config::Target& target : config->intercept.targets) CheckTarget(target);
}

}  // namespace kveil::fuzz
