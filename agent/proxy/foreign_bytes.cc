#include "proxy/foreign_bytes.h"

#include <algorithm>
#include <string_view>

namespace kveil::proxy {
namespace {

constexpr std::string_view kProxyV2("\r\n\r\n\0\r\nQUIT\n", 12);

// Whether what is there begins with `text`, or is its beginning.
bool Matches(std::string_view start, std::string_view text) {
  const size_t size = std::min(start.size(), text.size());
  return start.substr(0, size) == text.substr(0, size);
}

}  // namespace

bool BeginsTls(Bytes start) { return !start.empty() && Matches(AsText(start), "\x16\x03"); }

std::string NameForeignBytes(Bytes start) {
  const std::string_view text = AsText(start);
  if (start.size() < 4) return "not a Kafka frame";
  if (BeginsTls(start)) {
    return "TLS, which this cluster's clientTls refuses: the application must speak plain Kafka";
  }
  if (Matches(text, "PROXY ")) return "the PROXY protocol, version 1";
  if (Matches(text, kProxyV2)) return "the PROXY protocol, version 2";
  for (const std::string_view method :
       {"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "PATC", "CONN", "TRAC", "PRI "}) {
    if (Matches(text, method)) return "HTTP";
  }
  if (Matches(text, "SSH-")) return "SSH";
  return "not a Kafka frame";
}

}  // namespace kveil::proxy
