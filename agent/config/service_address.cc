#include "config/service_address.h"

#include <cstdint>
#include <optional>

#include "absl/strings/numbers.h"
#include "base/host_name.h"
#include "base/text.h"
#include "config/target_text.h"

namespace kveil::config {
namespace {

// A host and perhaps a port, "vault.example:8200", "[::1]".
struct Authority {
  std::string host;
  bool isLoopback = false;
};
std::optional<Authority> ParseAuthority(std::string_view text) {
  Authority authority;
  const size_t bracket = text.rfind(']');
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    uint32_t port = 0;
    const std::string_view digits = text.substr(colon + 1);
    if (digits.empty() || digits.size() > 5 || !absl::SimpleAtoi(ToAbsl(digits), &port) || port == 0 || port > 65535) {
      return std::nullopt;
    }
    text = text.substr(0, colon);
  }
  authority.host = std::string(text);
  if (IsHostName(text)) {
    authority.isLoopback = text == "localhost";
    return authority;
  }
  const std::optional<SocketAddress> address = ParseEndpoint(StrCat(text, ":1"));
  if (!address.has_value()) return std::nullopt;
  authority.isLoopback = text.starts_with("127.") || text == "[::1]";
  return authority;
}

}  // namespace

std::string ReadServiceAddress(const JsonValue& value, std::string_view example) {
  const std::string address = value.isString() ? value.String() : "";
  constexpr std::string_view kTls = "https://", kPlain = "http://";
  const bool isTls = address.starts_with(kTls);
  const std::optional<Authority> authority =
      isTls || address.starts_with(kPlain)
          ? ParseAuthority(std::string_view(address).substr(isTls ? kTls.size() : kPlain.size()))
          : std::nullopt;
  if (!authority.has_value()) {
    value.Expected(StrCat("an address such as \"", example, "\", without a path"));
  } else if (!isTls && !authority->isLoopback) {
    value.Expected("https://, as tokens and keys would cross the network in clear text (http:// only to this node)");
  }
  return address;
}

}  // namespace kveil::config
