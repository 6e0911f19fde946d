// Secrets that systemd hands to the agent's service: files in a folder of the service's own (LoadCredential=,
// systemd.exec(5)).
#pragma once

#include <string>
#include <string_view>

namespace kveil::config {

// How a path of the configuration names that folder.
inline constexpr std::string_view kCredentials = "${CREDENTIALS_DIRECTORY}/";

// A path that begins with kCredentials, with the folder in its place; every other one as it is. The folder is what the
// environment says. Without that, as for `kveil status` at a prompt, it is where systemd has it for kveil.service.
std::string ExpandCredentials(const std::string& path);

}  // namespace kveil::config
