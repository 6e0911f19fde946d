// What an error of Google Cloud KMS means for the agent.
#pragma once

#include "crypto/secret_text.h"
#include "keys/root/refusal.h"

namespace kveil::keys::gcp {

// Of a response that is not 200; `isDecrypt` when a key was to be unwrapped. What is not known to be about the key or
// about rights is an outage: damage would send the operator to a backup, and a refusal would stop the agent at once.
Refusal RefusalOf(int httpStatus, const crypto::SecretText& body, bool isDecrypt);

}  // namespace kveil::keys::gcp
