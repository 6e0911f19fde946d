// Remembers, beside a root key file, since when this machine knows that an epoch is the only one.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace kveil::keys {

// The file is the root key file's name and ".settled", a line of text: the epoch's number, the machine's boot id, and
// milliseconds of CLOCK_BOOTTIME, which no one sets. It holds no secret, and whatever is wrong with it counts as if it
// was not there.
class SettledNote {
 public:
  explicit SettledNote(const std::string& rootKeyFile) : path_(rootKeyFile + ".settled") {}
  // See RootKey.
  std::chrono::milliseconds SettledFor(int64_t epoch) const;

 private:
  const std::string path_;
};

}  // namespace kveil::keys
