// What only a KMS that others wrote can show. tests/aws/run starts moto's, gives the agent docs/keys.md's policy, and
// says in the environment where it is; without it, there is none of these tests. Each request's signature is checked.
#include <gmock/gmock.h>
#include <stdlib.h>

#include <map>

#include "http/client.h"
#include "key_fixture.h"
#include "keys/root/aws_root_key.h"

namespace kveil::keys {
namespace {

using testing::HasSubstr;
using Code = absl::StatusCode;

std::vector<std::string> Servers() {
  std::vector<std::string> servers;
  if (const char* const address = getenv("KVEIL_TEST_AWS"); address != nullptr) servers.push_back(address);
  return servers;
}

class MotoTest : public KeyTest, public testing::WithParamInterface<std::string> {
 protected:
  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }
  static AwsOptions Options(const std::string& key) {
    return {.key = key, .region = "eu-central-1", .endpoint = GetParam(), .stsEndpoint = GetParam()};
  }
  static std::string Environment(const char* name) {
    const char* const value = getenv(name);
    EXPECT_NE(value, nullptr) << name;
    return value == nullptr ? "" : value;
  }
  static void ExpectWorks(RootKey& root) {
    EXPECT_TRUE(root.Check(Soon()).ok()) << root.Check(Soon());
    const auto made = root.GenerateDataKey(AsBytes("epoch 1"), Soon());
    ASSERT_TRUE(made.ok()) << made.status();
    const RootKey::WrappedKey keys[] = {{made->wrapped, AsBytes("epoch 1")}, {made->wrapped, AsBytes("epoch 2")}};
    auto unwrapped = root.Unwrap(keys, Soon());
    ASSERT_TRUE(unwrapped[0].ok()) << unwrapped[0].status();
    EXPECT_TRUE(unwrapped[0]->Equals(made->key));
    EXPECT_EQ(unwrapped[1].status().code(), Code::kDataLoss) << unwrapped[1].status();
  }
  // So many requests need no signature, which a login has none of.
  static void LetThrough(int requests) {
    http::Request request;
    request.method = "POST";
    request.url = GetParam() + "/moto-api/reset-auth";
    request.contentType = "text/plain";
    request.body = crypto::MakeSecretText(std::to_string(requests));
    const auto response = http::Client({}).Send(request, Soon());
    ASSERT_TRUE(response.ok()) << response.status();
    ASSERT_EQ(response->status, 200);
  }
};

TEST_P(MotoTest, WorksWithTheDocumentedPolicyByEachNameOfTheKey) {
  const std::string arn = Environment("KVEIL_TEST_AWS_KEY_1");
  for (const std::string& name : {arn, arn.substr(arn.find("key/") + 4), std::string("alias/kveil"),
                                  arn.substr(0, arn.find("key/")) + "alias/kveil"}) {
    AwsRootKey root(Options(name));
    ExpectWorks(root);
  }
}

TEST_P(MotoTest, TakesARoleByWebIdentity) {
  const std::map<std::string, std::string> variables = {
      {"AWS_ROLE_ARN", Environment("KVEIL_TEST_AWS_ROLE")},
      {"AWS_WEB_IDENTITY_TOKEN_FILE", Environment("KVEIL_TEST_AWS_JWT")}};
  AwsOptions options = Options(Environment("KVEIL_TEST_AWS_KEY_1"));
  options.environment = [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  AwsRootKey root(options);
  LetThrough(1);
  ExpectWorks(root);
  LetThrough(0);
}

TEST_P(MotoTest, SaysWhyAKeyCannotBeUsed) {
  const auto expect = [](const std::string& key, const std::string& text) {
    AwsRootKey root(Options(key));
    const absl::Status status = root.Check(Soon());
    EXPECT_EQ(status.code(), Code::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
  };
  expect(Environment("KVEIL_TEST_AWS_DELETED"), "is about to be deleted on 20");
  expect(Environment("KVEIL_TEST_AWS_DISABLED"), "is disabled");
  expect(Environment("KVEIL_TEST_AWS_SIGNING"), "has to be one for ENCRYPT_DECRYPT");
  expect("1234abcd-12ab-34cd-56ef-1234567890ab", "NotFoundException");
  expect("alias/absent", "NotFoundException");
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(MotoTest);
INSTANTIATE_TEST_SUITE_P(Moto, MotoTest, testing::ValuesIn(Servers()));

}  // namespace
}  // namespace kveil::keys
