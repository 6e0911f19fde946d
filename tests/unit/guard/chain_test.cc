// The interceptors of a connection together: each API belongs to one of them at most, and what would go past them is
// closed.
#include "guard/chain.h"

#include <gtest/gtest.h>

#include <set>

#include "guard/unsupported_guard.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;

class ChainTest : public InterceptorTest {
 protected:
  ChainTest() { UseTopics(R"({"name": "clicks", "read": []})"); }
};

TEST_F(ChainTest, givesEachApiToOneInterceptor) {
  std::set<ApiKey> wanted;
  for (const auto& interceptor : BuildChain(*shared_, *scratch_, *loop_, connection_)) {
    for (const ApiKey api : interceptor->Wants()) EXPECT_TRUE(wanted.insert(api).second) << kafka::ApiName(api);
  }
  for (const ApiKey api : {ApiKey::kProduce, ApiKey::kFetch, ApiKey::kShareFetch, ApiKey::kMetadata,
                           ApiKey::kFindCoordinator, ApiKey::kDescribeCluster, ApiKey::kApiVersions}) {
    EXPECT_TRUE(wanted.contains(api)) << kafka::ApiName(api);
  }
}

TEST_F(ChainTest, closesShareGroups) {
  UnsupportedGuard guard;
  for (const ApiKey api : {ApiKey::kShareFetch, ApiKey::kShareAcknowledge, ApiKey::kShareGroupHeartbeat}) {
    const RequestResult result = RequestBytes(guard, api, 1, AsBytes("any body"));
    ASSERT_TRUE(result.closed());
    EXPECT_NE(result.verdict.reason.find(kafka::ApiName(api)), std::string::npos) << result.verdict.reason;
  }
}

// After SaslHandshake version 0 come bare tokens, which no longer look like Kafka requests.
TEST_F(ChainTest, closesTheOldSaslHandshakeOnly) {
  UnsupportedGuard guard;
  const ByteBuffer body = {0, 5, 'P', 'L', 'A', 'I', 'N'};
  EXPECT_TRUE(RequestBytes(guard, ApiKey::kSaslHandshake, 0, body).closed());
  const RequestResult newer = RequestBytes(guard, ApiKey::kSaslHandshake, 1, body);
  EXPECT_TRUE(newer.forwarded());
  EXPECT_FALSE(newer.verdict.wantResponse);
}

}  // namespace
}  // namespace kveil::guard
