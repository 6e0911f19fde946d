// What every target shares: checks, and pieces taken off the front of the input.
//
// A target is one file: it defines Run, checks with Check what must hold for every input, and needs nothing else.
// libFuzzer finds crashes, undefined behaviour and memory above its limit by itself; fuzz.cc adds the time.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/bytes.h"

namespace kveil::fuzz {

// One input. Defined by the target.
void Run(Bytes input);

// Ends the program with the promise that was broken, which libFuzzer takes for a finding.
void Check(bool holds, std::string_view promise);

// Takes the input apart from the front. What is missing at its end counts as zero, so that every input means something.
class Input {
 public:
  explicit Input(Bytes bytes) : rest_(bytes) {}

  uint8_t Byte() {
    const Bytes byte = Take(1);
    return byte.empty() ? 0 : byte[0];
  }
  size_t Below(size_t limit) { return (size_t{Byte()} << 8 | Byte()) % limit; }
  bool Bit() { return (Byte() & 1) != 0; }
  Bytes Take(size_t size) {
    const Bytes bytes = rest_.first(std::min(size, rest_.size()));
    rest_.remove_prefix(bytes.size());
    return bytes;
  }
  // Up to the next line feed, which is taken too.
  std::string_view Line() {
    const std::string_view text = AsText(rest_);
    const std::string_view line = text.substr(0, text.find('\n'));
    Take(line.size() + 1);
    return line;
  }
  Bytes rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  Bytes rest_;
};

}  // namespace kveil::fuzz
