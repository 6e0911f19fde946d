#pragma once

namespace kveil::guard {

// Which hidden records are kept, without their value; the others are left out.
struct Masking {
  bool erased = false;     // of erased users
  bool plaintext = false;  // plaintext that the policy drops
};

}  // namespace kveil::guard
