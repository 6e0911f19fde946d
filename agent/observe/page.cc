#include "observe/page.h"

#include <algorithm>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "base/socket_address.h"
#include "base/text.h"
#include "observe/page_files.h"

namespace kveil::observe {
namespace {

// Of the first header with this name; "" if there is none. `name` ends with its colon.
std::string_view HeaderOf(std::string_view request, std::string_view name) {
  for (size_t end = request.find("\r\n"); end != std::string_view::npos; end = request.find("\r\n")) {
    request.remove_prefix(end + 2);
    if (!absl::StartsWithIgnoreCase(ToAbsl(request), ToAbsl(name))) continue;
    const std::string_view line = request.substr(name.size(), request.find("\r\n") - name.size());
    return ToStd(absl::StripAsciiWhitespace(ToAbsl(line)));
  }
  return "";
}

}  // namespace

// https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
const char kPageHeaders[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n"
    "Cache-Control: no-store\r\n";

const PageFile* FindPageFile(std::string_view path) {
  static const PageFile kFiles[] = {
      {"/", "text/html; charset=utf-8", kPageHtml},
      {"/page.js", "text/javascript; charset=utf-8", kPageScript},
      {"/page.css", "text/css; charset=utf-8", kPageStyle},
  };
  const auto* const file =
      std::find_if(std::begin(kFiles), std::end(kFiles), [path](const PageFile& one) { return one.path == path; });
  return file == std::end(kFiles) ? nullptr : file;
}

bool MayHavePage(std::string_view request) {
  std::string_view host = HeaderOf(request, "host:");
  if (host.starts_with('[')) {  // RFC 3986 section 3.2.2
    const size_t end = host.find(']');
    return end != std::string_view::npos && SocketAddress::Parse(std::string(host.substr(1, end - 1)), 0).ok();
  }
  host = host.substr(0, host.find(':'));
  return absl::EqualsIgnoreCase(ToAbsl(host), "localhost") || SocketAddress::Parse(std::string(host), 0).ok();
}

}  // namespace kveil::observe
