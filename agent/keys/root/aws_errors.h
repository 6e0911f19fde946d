// What an error of AWS KMS means for the agent.
#pragma once

#include "crypto/secret_text.h"
#include "keys/root/refusal.h"

namespace kveil::keys::aws {

// Of a response that is not 200. What is not known to be about a key or about rights is an outage: damage would send
// the operator to a backup, and a refusal would stop the agent at once.
Refusal RefusalOf(int httpStatus, const crypto::SecretText& body);

}  // namespace kveil::keys::aws
