// The texts of the files in page/, which CMake puts into the program.
#pragma once

namespace kveil::observe {

extern const char kPageHtml[];
extern const char kPageScript[];
extern const char kPageStyle[];

}  // namespace kveil::observe
