// What went wrong during a run, which every run of the generator reports.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/text.h"

namespace kveil::load {

struct Errors {
  uint64_t count = 0;  // of requests, records or connections, as the run says
  std::string first;   // the message of the first; empty if there were none

  void Add(uint64_t more, std::string_view message) {
    if (count == 0 && more > 0) first = message;
    count += more;
  }
  void Add(uint64_t more, const absl::Status& status) { Add(more, ToStd(status.message())); }
};

}  // namespace kveil::load
