// What a key service's error means for the agent.
#pragma once

#include "absl/status/status.h"

namespace kveil::keys {

struct Refusal {
  // As RootKey has them: kUnavailable, kFailedPrecondition, kPermissionDenied, or kDataLoss for a ciphertext that is
  // damaged or was wrapped for another context. The message begins with "answers ...".
  absl::Status status;
  // Other credentials might not be refused: these have ended, were revoked, or are not known.
  bool isOfCredentials = false;
  // A policy denies, whoever's credentials are good.
  bool isDenied = false;
};

}  // namespace kveil::keys
