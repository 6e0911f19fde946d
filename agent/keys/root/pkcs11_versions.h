// The keys of a PKCS#11 token that have one label: the versions of a root key or of a KEK. PKCS#11 itself knows none.
// Their CKA_IDs tell them apart. Read as numbers, big endian, they count up: the greatest is the newest.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "keys/root/pkcs11_module.h"

namespace kveil::keys::pkcs11 {

struct Version {
  ck_object_handle_t key = 0;
  std::string id;  // its CKA_ID, as bytes; empty: it has none, which is less than any other
};

using Choice = std::optional<std::string>;  // the CKA_ID; nullopt: the newest

// The AES key with this label that is chosen. `value` is what the module returned last. kFailedPrecondition: there is
// none, several have its id, more than 64 have the label, or it can be read out of the token: a root key that can be
// protects nothing.
absl::StatusOr<Version> FindVersion(Module& module, ck_session_handle_t session, std::string label,
                                    const Choice& choice, ck_rv_t& value);

// The CKA_IDs of the keys with this label, each once, from the oldest to the newest. kFailedPrecondition: there is
// none, or there are more than 64.
absl::StatusOr<std::vector<std::string>> FindIds(Module& module, ck_session_handle_t session, std::string label,
                                                 ck_rv_t& value);

// The CKA_ID of the newest, if there is room for one more version. kFailedPrecondition: there is none, or as of
// FindVersion.
absl::StatusOr<std::string> FindLastId(Module& module, ck_session_handle_t session, std::string label, ck_rv_t& value);

// A CKA_ID for the version after this one: 1 to 2^32 more, by chance. Whoever makes one at the same time makes another.
std::string IdAfter(std::string id);

// For messages: "CKA_ID 02", "no CKA_ID".
std::string NameOfId(std::string_view id);

// Has the token make an AES key of 256 bits that never leaves it: to wrap and unwrap, or to encrypt and decrypt. The
// session has to be one that may write. Agents may wrap by it before this returns, so it is left in the token, unless
// it can be read out: then no agent takes it. kFailedPrecondition: the reason that there is none. kUnknown: it is
// there, and the token does not say whether it can be read out. `value` is what the module returned when it made the
// key.
absl::Status MakeVersion(Module& module, ck_session_handle_t session, std::string label, std::string id, bool isToWrap,
                         ck_rv_t& value);

}  // namespace kveil::keys::pkcs11
