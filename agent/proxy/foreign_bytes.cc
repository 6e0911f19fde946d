#include "proxy/foreign_bytes.h"

#include <string_view>

namespace kveil::proxy {

std::string NameForeignBytes(Bytes start) {
  const std::string_view text = AsText(start);
  if (start.size() >= 2 && start[0] == 0x16 && start[1] == 0x03) {
    return "TLS, which the agent cannot look into: the application must speak plain Kafka";
  }
  if (text.starts_with("PROXY ") || text.starts_with(std::string_view("\r\n\r\n\0\r\nQUIT\n", 12))) {
    return "the PROXY protocol";
  }
  for (const std::string_view method : {"GET ", "POST", "PUT ", "HEAD", "OPTI", "DELE", "PATC", "CONN", "PRI "}) {
    if (text.starts_with(method)) return "HTTP";
  }
  if (text.starts_with("SSH-")) return "SSH";
  return "not a Kafka frame";
}

}  // namespace kveil::proxy
