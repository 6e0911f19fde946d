// The interceptors of a connection together: each API belongs to one of them at most.
#include "guard/chain.h"

#include <gtest/gtest.h>

#include <set>

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
  for (const ApiKey api :
       {ApiKey::kProduce, ApiKey::kFetch, ApiKey::kShareFetch, ApiKey::kMetadata, ApiKey::kFindCoordinator,
        ApiKey::kDescribeCluster, ApiKey::kApiVersions, ApiKey::kSaslHandshake, ApiKey::kSaslAuthenticate}) {
    EXPECT_TRUE(wanted.contains(api)) << kafka::ApiName(api);
  }
}

}  // namespace
}  // namespace kveil::guard
