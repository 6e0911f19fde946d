#include "keys/root/aws_signature.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/text.h"
#include "crypto/secret.h"

namespace kveil::keys {
namespace {

using crypto::SecretText;

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

// Of a step on the way to the signing key, or the signature. Wiped.
class Mac {
 public:
  Mac(std::string_view key, std::string_view text) {
    unsigned size = 0;
    // Fails only when there is no memory. Then the signature is one of zeros, which AWS refuses.
    (void)HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), AsBytes(text).data(), text.size(), bytes_.data(),
               &size);
  }
  Mac(const Mac&) = delete;
  Mac& operator=(const Mac&) = delete;
  ~Mac() { crypto::Wipe(absl::MakeSpan(bytes_)); }

  std::string_view text() const { return AsText(bytes_); }
  std::string Hex() const { return absl::BytesToHexString(ToAbsl(text())); }

 private:
  std::array<uint8_t, 32> bytes_{};
};

std::string HashOf(std::string_view text) {
  std::array<uint8_t, 32> hash{};
  (void)EVP_Digest(text.data(), text.size(), hash.data(), nullptr, EVP_sha256(), nullptr);
  return absl::BytesToHexString(ToAbsl(AsText(hash)));
}

SecretText Line(std::string_view name, std::string_view separator, std::string_view value) {
  SecretText line = crypto::MakeSecretText(name);
  crypto::Append(line, separator);
  crypto::Append(line, value);
  return line;
}

}  // namespace

std::vector<SecretText> SignAwsRequest(const AwsCredentials& credentials, std::string_view region,
                                       std::string_view service, absl::Time now,
                                       std::vector<std::pair<std::string, std::string>> headers,
                                       const SecretText& body) {
  const std::string time = absl::FormatTime("%Y%m%dT%H%M%SZ", now, absl::UTCTimeZone());
  const std::string date = time.substr(0, 8);
  constexpr std::string_view kDate = "x-amz-date", kToken = "x-amz-security-token";
  headers.emplace_back(kDate, time);
  if (!credentials.sessionToken.empty()) headers.emplace_back(kToken, "");
  std::sort(headers.begin(), headers.end());

  SecretText canonical = crypto::MakeSecretText("POST\n/\n\n");
  std::string names;
  std::vector<SecretText> lines;
  for (const auto& [name, text] : headers) {
    // The token stays out of memory that is not wiped.
    const std::string_view value = name == kToken ? crypto::AsText(credentials.sessionToken) : std::string_view(text);
    crypto::Append(canonical, crypto::AsText(Line(name, ":", value)));
    canonical.push_back('\n');
    StrAppend(&names, names.empty() ? "" : ";", name);
    if (name == kDate || name == kToken) lines.push_back(Line(name, ": ", value));
  }
  crypto::Append(canonical, StrCat("\n", names, "\n", HashOf(crypto::AsText(body))));

  const std::string scope = StrCat(date, "/", region, "/", service, "/aws4_request");
  const std::string toSign = StrCat(kAlgorithm, "\n", time, "\n", scope, "\n", HashOf(crypto::AsText(canonical)));
  const SecretText secret = Line("AWS4", "", crypto::AsText(credentials.secretAccessKey));
  const Mac ofDate(crypto::AsText(secret), date);
  const Mac ofRegion(ofDate.text(), region);
  const Mac ofService(ofRegion.text(), service);
  const Mac key(ofService.text(), "aws4_request");
  const Mac signature(key.text(), toSign);
  SecretText authorization = crypto::MakeSecretText(StrCat("authorization: ", kAlgorithm, " Credential="));
  crypto::Append(authorization, crypto::AsText(credentials.accessKeyId));
  crypto::Append(authorization, StrCat("/", scope, ", SignedHeaders=", names, ", Signature=", signature.Hex()));
  lines.push_back(std::move(authorization));
  return lines;
}

}  // namespace kveil::keys
