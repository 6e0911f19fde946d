// What both sides of TLS do with PEM files and with names in certificates.
#pragma once

#include <openssl/x509v3.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::io {

// Opens a file to read it. kInvalidArgument, with its name.
absl::StatusOr<UniqueFd> OpenPem(const std::string& path);

// kInvalidArgument: why the file cannot be used, where OpenSSL would say no more than that it could not.
absl::Status WrongPem(const std::string& path, std::string_view what);

// A certificate's subject, as its distinguished name is written (RFC 2253), or "nobody" if it is empty. Two different
// subjects have different texts.
std::string SubjectText(X509* certificate);

// For OpenSSL: nobody is there to type a passphrase.
int NoPassphrase(char*, int, int, void*);

// Only alternative names count. The common name is what an authority lets stand there, and nobody checks it.
inline constexpr unsigned kTlsNameRules = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;

}  // namespace kveil::io
