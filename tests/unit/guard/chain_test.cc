// The interceptors of a connection together: one for each API that is guarded.
#include "guard/apis/chain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "guard/apis/guarded_apis.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;

class ChainTest : public InterceptorTest {
 protected:
  ChainTest() { UseTopics(R"({"name": "clicks", "read": []})"); }
};

TEST_F(ChainTest, GivesEachApiToOneInterceptor) {
  std::set<ApiKey> wanted;
  for (const auto& interceptor : BuildChain(*shared_, *scratch_, *loop_, connection_)) {
    for (const ApiKey api : interceptor->Wants()) EXPECT_TRUE(wanted.insert(api).second) << kafka::ApiName(api);
  }
  for (const GuardedApi& api : GuardedApis()) {
    EXPECT_TRUE(wanted.contains(api.key)) << kafka::ApiName(api.key);
    EXPECT_THAT(api.make(Context())->Wants(), testing::ElementsAre(api.key));
  }
  EXPECT_EQ(wanted.size(), GuardedApis().size());
}

}  // namespace
}  // namespace kveil::guard
