// One hash for the files of a folder.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace kveil::bundle {

// The SHA-256 of what `sha256sum` prints about these files, in the order of their names, in lower-case hexadecimal
// digits. Of a control character, a quote or a backslash in a name, it has the escape in C. `files`: names within their
// folder, and the SHA-256 of each in the same digits.
std::string DigestOf(std::vector<std::pair<std::string, std::string>> files);

}  // namespace kveil::bundle
