#include "config/service_address.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "absl/strings/ascii.h"
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

constexpr size_t kLongestUrl = 2048;

// Reports what is wrong with the scheme and the host of `address`, whose first characters `text` are.
void CheckAddress(const JsonValue& value, std::string_view text, std::string_view expected) {
  constexpr std::string_view kTls = "https://", kPlain = "http://";
  const bool isTls = text.starts_with(kTls);
  const std::optional<Authority> authority = isTls || text.starts_with(kPlain)
                                                 ? ParseAuthority(text.substr(isTls ? kTls.size() : kPlain.size()))
                                                 : std::nullopt;
  if (!authority.has_value()) {
    value.Expected(expected);
  } else if (!isTls && !authority->isLoopback) {
    value.Expected("https://, as tokens and keys would cross the network in clear text (http:// only to this node)");
  }
}

bool IsPath(std::string_view text) {
  return text.size() > 1 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '#' && c != '"' && c != '\\';
         });
}

}  // namespace

std::string ReadServiceAddress(const JsonValue& value, std::string_view example) {
  const std::string address = value.isString() ? value.String() : "";
  CheckAddress(value, address, StrCat("an address such as \"", example, "\", without a path"));
  return address;
}

std::string ReadServiceUrl(const JsonValue& value, std::string_view example) {
  const std::string url = value.isString() ? value.String() : "";
  const size_t scheme = url.find("://");
  const size_t path = scheme == std::string::npos ? scheme : url.find('/', scheme + 3);
  const std::string expected =
      StrCat("an address with a path such as \"", example, "\", of at most ", kLongestUrl, " characters");
  if (path == std::string::npos || url.size() > kLongestUrl || !IsPath(std::string_view(url).substr(path))) {
    value.Expected(expected);
    return url;
  }
  CheckAddress(value, std::string_view(url).substr(0, path), expected);
  return url;
}

}  // namespace kveil::config
