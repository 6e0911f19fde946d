// The keys of a PKCS#11 token that have one label: the versions of a root key or of a KEK. PKCS#11 itself knows none.
// Their CKA_IDs tell them apart. Read as numbers, big endian, they count up: the greatest is the newest.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "keys/root/pkcs11_module.h"

namespace kveil::keys::pkcs11 {

struct Version {
  ck_object_handle_t key = 0;
  std::string id;  // its CKA_ID, as bytes; empty: it has none, which is less than any other
};

struct Choice {
  enum class Which { kNewest, kOldest, kNamed };
  Which which = Which::kNewest;
  std::string id = {};  // of kNamed
};

// The AES key with this label that is chosen. `value` is what the module returned last. kFailedPrecondition: there is
// none, several have its id, more than 64 have the label, or it can be read out of the token: a root key that can be
// protects nothing.
absl::StatusOr<Version> FindVersion(Module& module, ck_session_handle_t session, std::string label,
                                    const Choice& choice, ck_rv_t& value);

// The CKA_ID of the version after this one: one more.
std::string IdAfter(std::string id);

// For messages: "CKA_ID 02", "no CKA_ID".
std::string NameOfId(std::string_view id);

// Has the token make an AES key of 256 bits that never leaves it: to wrap and unwrap, or to encrypt and decrypt. The
// session has to be one that may write. If there are two with this id then, as somebody else was as quick, the new one
// is removed again. kFailedPrecondition: the reason. `value` is what the module returned last.
absl::Status MakeVersion(Module& module, ck_session_handle_t session, std::string label, std::string id, bool isToWrap,
                         ck_rv_t& value);

}  // namespace kveil::keys::pkcs11
