#include "names/hosts_file.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace kveil::names {

std::string Comparable(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return absl::AsciiStrToLower(ToAbsl(name));
}

void FindInHosts(std::string_view file, absl::flat_hash_map<std::string, Addresses>& wanted) {
  for (absl::string_view line : absl::StrSplit(ToAbsl(file), '\n')) {
    line = line.substr(0, line.find('#'));
    absl::StatusOr<SocketAddress> address = absl::InvalidArgumentError("an empty line");
    bool isFirst = true;
    for (const absl::string_view word : absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty())) {
      if (isFirst) {
        address = SocketAddress::Parse(ToStd(word), 0);
        if (!address.ok()) break;
        isFirst = false;
        continue;
      }
      const auto found = wanted.find(Comparable(ToStd(word)));
      if (found != wanted.end()) found->second.push_back(*address);
    }
  }
}

}  // namespace kveil::names
