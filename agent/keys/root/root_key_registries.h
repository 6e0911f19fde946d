// Which registries' keys hang on a root key file: what one of them does not need any more, another may.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kveil::keys {

// Notes in "<path>.registries", a line each, that this registry's keys hang on the root key file `path`; on disk when
// this returns. `registry` is its id in hexadecimal digits. OK when it is the only one. kFailedPrecondition, with the
// path, when there are others, or when that cannot be known or noted. OK too where nothing can be written in the
// folder.
absl::Status NoteOnlyRegistry(const std::string& path, std::string_view registry);

// No registry's keys hang on a file that was just made.
void ForgetRegistries(const std::string& path);

}  // namespace kveil::keys
