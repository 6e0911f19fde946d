// Parses the text forms of a target.
#include "config/target_text.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::config {
namespace {

// Digits only: no sign, no space.
std::optional<uint32_t> ParseNumber(std::string_view text, uint32_t most) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || end != text.data() + text.size() || error != std::errc() || number > most) return std::nullopt;
  return number;
}

std::vector<uint8_t> AddressBytes(const SocketAddress& address) {
  if (address.family() == AF_INET) {
    const auto* v4 = reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in*>(address.get())->sin_addr);
    return {v4, v4 + 4};
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr.s6_addr;
  return {v6, v6 + 16};
}

SocketAddress FromBytes(const std::vector<uint8_t>& bytes) {
  if (bytes.size() == 4) {
    uint32_t v4 = 0;
    std::memcpy(&v4, bytes.data(), sizeof(v4));
    return SocketAddress::V4(v4, 0);
  }
  in6_addr v6 = {};
  std::memcpy(v6.s6_addr, bytes.data(), sizeof(v6.s6_addr));
  return SocketAddress::V6(v6, 0);
}

bool IsMapped(const SocketAddress& address) {
  return address.family() == AF_INET6 &&
         IN6_IS_ADDR_V4MAPPED(&reinterpret_cast<const sockaddr_in6*>(address.get())->sin6_addr);
}

// The address with every bit beyond `length` cleared.
SocketAddress Masked(const SocketAddress& address, uint32_t length) {
  std::vector<uint8_t> bytes = AddressBytes(address);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint32_t first = i * 8;
    const uint32_t kept = length <= first ? 0 : std::min<uint32_t>(length - first, 8);
    bytes[i] &= static_cast<uint8_t>(0xff00 >> kept);
  }
  return FromBytes(bytes);
}

}  // namespace

absl::StatusOr<Network> ParseNetwork(std::string_view text) {
  const size_t slash = text.find('/');
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text.substr(0, slash), 0);
  const uint32_t most = address.ok() && address->family() == AF_INET ? 32 : 128;
  const std::optional<uint32_t> length =
      slash == std::string_view::npos ? most : ParseNumber(text.substr(slash + 1), most);
  if (!address.ok() || !length) {
    return absl::InvalidArgumentError("a network such as \"10.0.0.0/8\" or \"fd00::/8\"");
  }
  if (IsMapped(*address)) return absl::InvalidArgumentError("an IPv4 network written as such, without ::ffff:");
  const SocketAddress network = Masked(*address, *length);
  if (!(network == *address)) {
    return absl::InvalidArgumentError(
        StrCat("no bits beyond the prefix, that is \"", network.AddressText(), "/", *length, "\""));
  }
  return Network{network, static_cast<uint8_t>(*length)};
}

std::optional<std::vector<PortRange>> ParsePorts(std::string_view text) {
  std::vector<PortRange> ranges;
  for (absl::string_view piece : absl::StrSplit(ToAbsl(text), ',')) {
    const std::string_view part = ToStd(piece);
    const size_t dash = part.find('-');
    const std::optional<uint32_t> first = ParseNumber(part.substr(0, dash), 65535);
    const std::optional<uint32_t> last =
        dash == std::string_view::npos ? first : ParseNumber(part.substr(dash + 1), 65535);
    if (!first || !last || *first == 0 || *last < *first) return std::nullopt;
    ranges.push_back({static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)});
  }
  std::sort(ranges.begin(), ranges.end(), [](const PortRange& a, const PortRange& b) { return a.first < b.first; });
  std::vector<PortRange> joined;
  for (const PortRange& range : ranges) {
    if (!joined.empty() && range.first <= uint32_t{joined.back().last} + 1) {
      joined.back().last = std::max(joined.back().last, range.last);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

std::optional<SocketAddress> ParseEndpoint(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::optional<uint32_t> port = ParseNumber(text.substr(colon + 1), 65535);
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (!port || bracketed != (host.find(':') != std::string_view::npos)) return std::nullopt;
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(host, static_cast<uint16_t>(*port));
  if (!address.ok()) return std::nullopt;
  return *address;
}

}  // namespace kveil::config
