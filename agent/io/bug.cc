#include "io/bug.h"

#include <cstdlib>

#include "base/log.h"

namespace kveil::io::internal {

void Bug(std::string_view what) {
  log::Error("bug", {{"what", what}});
  log::Flush();
  std::abort();
}

}  // namespace kveil::io::internal
