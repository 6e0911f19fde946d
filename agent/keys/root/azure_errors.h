// What an error of Azure Key Vault or of a Managed HSM means for the agent.
#pragma once

#include "crypto/secret_text.h"
#include "keys/root/refusal.h"

namespace kveil::keys::azure {

// Of a response that is not 200. What is not known to be about the key or about rights is an outage: a refusal would
// stop the agent at once. Nothing is damage, which would send the operator to a backup: Azure's word for it stands for
// other things, too.
Refusal RefusalOf(int httpStatus, const crypto::SecretText& body);

}  // namespace kveil::keys::azure
