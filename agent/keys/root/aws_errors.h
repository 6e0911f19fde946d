// What an error of AWS KMS means for the agent.
#pragma once

#include "absl/status/status.h"
#include "crypto/secret_text.h"

namespace kveil::keys::aws {

struct Refusal {
  // As RootKey has them: kUnavailable, kFailedPrecondition, kPermissionDenied, or kDataLoss for a ciphertext that is
  // damaged or was wrapped for another context. The message begins with "answers ...".
  absl::Status status;
  // Other credentials might not be refused: these have ended, were revoked, or are not known.
  bool isOfCredentials = false;
  // A policy denies, whoever's credentials are good.
  bool isDenied = false;
};

// Of a response that is not 200. What is not known to be about a key or about rights is an outage: damage would send
// the operator to a backup, and a refusal would stop the agent at once.
Refusal RefusalOf(int httpStatus, const crypto::SecretText& body);

}  // namespace kveil::keys::aws
