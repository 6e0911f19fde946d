// A 256-bit secret key in memory: wiped when it is destroyed, never copied by accident, never printed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace kveil::crypto {

// Overwrites memory. The compiler cannot optimise it away.
void Wipe(MutableBytes memory);

// Fills `out` from getrandom(2), never from a generator in user space: its state could repeat after a fork or a
// restored snapshot of the machine. Ends the process when the kernel has no random numbers, as nothing can be sealed
// then.
void FillRandom(MutableBytes out);

class SecretKey {
 public:
  static constexpr size_t kSize = 32;

  // 32 fresh random bytes.
  static SecretKey Random();
  // kInvalidArgument when `bytes` is not 32 bytes long. The caller wipes `bytes`.
  static absl::StatusOr<SecretKey> FromBytes(Bytes bytes);

  // All zeros: a place to move a key into.
  SecretKey() = default;
  SecretKey(SecretKey&& other) noexcept;
  SecretKey& operator=(SecretKey&& other) noexcept;
  SecretKey(const SecretKey&) = delete;
  SecretKey& operator=(const SecretKey&) = delete;
  ~SecretKey() { Wipe(absl::MakeSpan(bytes_)); }

  SecretKey Copy() const;

  Bytes bytes() const { return bytes_; }
  // For code that writes the key in place.
  MutableBytes writable() { return absl::MakeSpan(bytes_); }

  // In constant time.
  bool Equals(const SecretKey& other) const;

 private:
  std::array<uint8_t, kSize> bytes_{};
};

}  // namespace kveil::crypto
