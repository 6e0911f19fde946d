#include "config/credentials.h"

#include <cstdlib>

#include "base/text.h"

namespace kveil::config {

std::string ExpandCredentials(const std::string& path) {
  if (!path.starts_with(kCredentials)) return path;
  const char* const folder = ::getenv("CREDENTIALS_DIRECTORY");
  const std::string_view name = std::string_view(path).substr(kCredentials.size());
  return StrCat(folder == nullptr ? "/run/credentials/kveil.service" : folder, "/", name);
}

}  // namespace kveil::config
