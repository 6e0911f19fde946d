// What tells that a file has changed.
#pragma once

#include <string>

namespace kveil::tls {

// Differs when the file was written, replaced, or made readable. A link is followed, as Kubernetes swaps links.
std::string StateOfFile(const std::string& path);

}  // namespace kveil::tls
