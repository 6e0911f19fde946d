// Which names a key can have at each provider. Configurations name keys, and policies do, in part by what a client
// calls a topic: so nothing else gets into a path of a request, and no key that is meant for something else is asked
// for.
#pragma once

#include <string_view>

namespace kveil::keys {

// A key of Vault's Transit engine: at most 128 letters, digits, '.', '_' and '-', of which a letter, a digit or '_' is
// the first.
bool IsVaultKeyName(std::string_view text);

// "eu-central-1", "us-gov-west-1".
bool IsAwsRegion(std::string_view text);
// "arn:PARTITION:kms:REGION:ACCOUNT:key/ID", or with "alias/NAME" at its end.
bool IsAwsKeyArn(std::string_view text);
// An ARN as above, an id (a UUID, or a multi-Region key's "mrk-" and 32 digits), or "alias/NAME". AWS's own aliases,
// "alias/aws/...", are none. https://docs.aws.amazon.com/kms/latest/APIReference/API_CreateAlias.html
bool IsAwsKeyName(std::string_view text);

// At most 127 letters, digits and '-', without a version.
bool IsAzureKeyName(std::string_view text);

// "projects/P/locations/L/keyRings/R/cryptoKeys/K", without a version.
bool IsGcpKeyName(std::string_view text);

// The label of a key in a token: at most 128 bytes.
bool IsPkcs11KeyName(std::string_view text);

// Whether a key of the provider can have this name. Of its optional members `vault`, `aws`, `azure`, `gcp` and
// `pkcs11`, one is set.
template <typename Provider>
bool CanBeKeyOf(const Provider& provider, std::string_view key) {
  if (provider.aws.has_value()) return IsAwsKeyName(key);
  if (provider.azure.has_value()) return IsAzureKeyName(key);
  if (provider.gcp.has_value()) return IsGcpKeyName(key);
  return provider.pkcs11.has_value() ? IsPkcs11KeyName(key) : IsVaultKeyName(key);
}

}  // namespace kveil::keys
