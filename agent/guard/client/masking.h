#pragma once

namespace kveil::guard {

// Which hidden records a reader gets without their value, in the form that the policy chooses (policy::OnHidden). The
// others are left out.
struct Masking {
  bool erased = false;     // of erased users
  bool plaintext = false;  // plaintext that the policy drops
  bool denied = false;     // that no entry of `read` lets the reader have
  // The reader cannot go past a batch of which nothing is left, or loses what is left out.
  bool needed = false;
};

}  // namespace kveil::guard
