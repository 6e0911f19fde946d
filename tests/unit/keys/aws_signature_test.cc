// Signature Version 4, compared with others: AWS's own test suite, and botocore.
#include "keys/root/aws_signature.h"

#include <gmock/gmock.h>

#include "absl/time/time.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;
using testing::Not;
using Headers = std::vector<std::pair<std::string, std::string>>;

AwsCredentials Credentials(const std::string& id, const std::string& secret, const std::string& token = "") {
  return {crypto::MakeSecretText(id), crypto::MakeSecretText(secret), crypto::MakeSecretText(token), std::nullopt};
}
const char kExample[] = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";  // of AWS's documentation

std::string Authorization(const std::vector<crypto::SecretText>& lines) {
  return std::string(crypto::AsText(lines.back()));
}

// The cases of AWS's Signature Version 4 test suite that are a POST to "/" without a query.
// https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html
TEST(AwsSignatureTest, SignsAsAwsTestSuiteSays) {
  const std::string token =
      "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwt"
      "hAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVX"
      "AkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/"
      "oLxBA==";
  const struct {
    std::string name;
    Headers headers;
    std::string body;
    std::string token;
    std::string signedHeaders;
    std::string signature;
  } cases[] = {
      {"post-vanilla",
       {},
       "",
       "",
       "host;x-amz-date",
       "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
      {"post-header-key-sort",
       {{"my-header1", "value1"}},
       "",
       "",
       "host;my-header1;x-amz-date",
       "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
      {"post-header-value-case",
       {{"my-header1", "VALUE1"}},
       "",
       "",
       "host;my-header1;x-amz-date",
       "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
      {"post-x-www-form-urlencoded",
       {{"content-type", "application/x-www-form-urlencoded"}},
       "Param1=value1",
       "",
       "content-type;host;x-amz-date",
       "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
      {"post-sts-header-before",
       {},
       "",
       token,
       "host;x-amz-date;x-amz-security-token",
       "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
  };
  const absl::Time time = absl::FromCivil(absl::CivilSecond(2015, 8, 30, 12, 36, 0), absl::UTCTimeZone());
  for (const auto& test : cases) {
    Headers headers = test.headers;
    headers.emplace_back("host", "example.amazonaws.com");
    const auto lines = SignAwsRequest(Credentials("AKIDEXAMPLE", kExample, test.token), "us-east-1", "service", time,
                                      headers, crypto::MakeSecretText(test.body));
    EXPECT_EQ(Authorization(lines),
              StrCat("authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
                     "SignedHeaders=",
                     test.signedHeaders, ", Signature=", test.signature))
        << test.name;
  }
}

// Recorded from botocore 1.43.11: botocore.auth.SigV4Auth(Credentials(...), "kms", region).add_auth(AWSRequest("POST",
// url, headers, body)), with its clock set to 2026-11-29T05:06:07Z. tests/aws/run has it check live requests.
TEST(AwsSignatureTest, SignsRequestsToKmsAsBotocoreDoes) {
  std::string token;
  for (int i = 0; i < 30; ++i) token += "IQoJb3JpZ2luX2VjE//+=";
  const struct {
    AwsCredentials credentials;
    std::string region, host, operation, body, signature;
  } cases[] = {
      {Credentials("AKIDEXAMPLE", kExample), "eu-central-1", "kms.eu-central-1.amazonaws.com", "GenerateDataKey",
       R"({"KeyId":"alias/kveil","KeySpec":"AES_256"})",
       "28722f145fb33eb19341a307aff40fa1badff22128b5d59cb5e98586595c410d"},
      // A secret that is longer than HMAC's block, and a session token.
      {Credentials("ASIAEXAMPLE", std::string(80, 'x'), token), "us-gov-west-1", "kms.us-gov-west-1.amazonaws.com",
       "Decrypt", "{}", "ea57433f7b2b438133049b7e459ef5451560537bf3dd1b136f4186b19f23cb97"},
      // A host with a port.
      {Credentials("AKIDEXAMPLE", kExample), "us-east-1", "127.0.0.1:5555", "DescribeKey", "",
       "2d7c5c32037749ccb4df7c9b714c5ae49f886a85c0b2f1c81b9553937bc6df71"},
  };
  const absl::Time time = absl::FromCivil(absl::CivilSecond(2026, 11, 29, 5, 6, 7), absl::UTCTimeZone());
  for (const auto& test : cases) {
    const auto lines = SignAwsRequest(test.credentials, test.region, "kms", time,
                                      {{"x-amz-target", "TrentService." + test.operation},
                                       {"host", test.host},
                                       {"content-type", "application/x-amz-json-1.1"}},
                                      crypto::MakeSecretText(test.body));
    EXPECT_THAT(Authorization(lines), HasSubstr("Signature=" + test.signature)) << test.operation;
    for (const crypto::SecretText& line : lines) {
      EXPECT_THAT(std::string(crypto::AsText(line)), Not(HasSubstr("wJalrX")));
    }
  }
}

}  // namespace
}  // namespace kveil::keys
