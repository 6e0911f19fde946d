#pragma once

#include <string_view>

#include "observe/metrics.h"

namespace kveil::guard {

// Why a record goes no further. A produced one is refused; before a fetched one the partition's records end.
struct Problem {
  observe::RefuseReason reason = observe::RefuseReason::kOther;
  std::string_view message;  // never holds anything of the record
};

}  // namespace kveil::guard
