// A PKCS#11 module: a library that comes with a token, loaded into this process.
// https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/os/pkcs11-base-v2.40-os.html
#pragma once

#include <string>

#define CRYPTOKI_GNU 1
#include <p11-kit/pkcs11.h>

#include "absl/status/statusor.h"

namespace kveil::keys::pkcs11 {

using Module = const struct ck_function_list;

// The functions of the module at `path`, which is loaded and initialised once and stays: several root keys may be in
// it. It is told to lock by the system's own means, as any thread may call. kFailedPrecondition: it cannot be used.
absl::StatusOr<Module*> Load(const std::string& path);

// The name of a return value, as the standard has it: "CKR_PIN_INCORRECT", "CKR 0x80000001".
std::string NameOf(ck_rv_t value);

}  // namespace kveil::keys::pkcs11
