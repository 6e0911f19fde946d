// What no guard can read: the connection is closed, and it is counted where records would have been in it.
#include "guard/apis/decoded.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "guard/apis/guarded_apis.h"
#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

using kafka::ApiKey;
using testing::HasSubstr;
using testing::Not;

class DecodedTest : public InterceptorTest {
 protected:
  DecodedTest() { UseTopics(R"({"name": "clicks", "read": []})"); }

  std::string Counted(std::string_view reason) const {
    return StrCat("kveil_records_refused_total{reason=\"", reason, "\"} ");
  }
};

TEST_F(DecodedTest, ARequestInAVersionThatIsNotReadIsCountedWhereItCarriesRecords) {
  int counted = 0;
  for (const GuardedApi& api : GuardedApis()) {
    if (api.Has(Use::kOffer)) continue;  // the broker says what it thinks of it
    const int16_t version = static_cast<int16_t>(api.versions.max + 1);
    const RequestResult result = RequestBytes(*api.make(Context()), api.key, version, AsBytes("0123456789"));
    ASSERT_TRUE(result.closed()) << kafka::ApiName(api.key);
    EXPECT_EQ(result.verdict.reason,
              StrCat(kafka::ApiName(api.key), " version ", version, ", which the agent cannot read"));
    if (api.Has(Use::kRecords)) ++counted;
    if (counted > 0) {
      EXPECT_THAT(metrics_.Text(), HasSubstr(StrCat(Counted("unsupported_version"), counted, "\n")));
    }
  }
  EXPECT_EQ(counted, 3);
}

TEST_F(DecodedTest, ARequestThatDoesNotParseIsCountedWhereItCarriesRecords) {
  int counted = 0;
  for (const ApiKey api : {ApiKey::kSaslHandshake, ApiKey::kProduce, ApiKey::kFetch, ApiKey::kShareFetch}) {
    const GuardedApi& guarded = *FindGuardedApi(api);
    const int16_t version = guarded.versions.max;
    const RequestResult result = RequestBytes(*guarded.make(Context()), api, version, AsBytes("\x7f\x7f\x7f secret"));
    ASSERT_TRUE(result.closed()) << kafka::ApiName(api);
    EXPECT_THAT(result.verdict.reason, HasSubstr(StrCat(kafka::ApiName(api), "Request version ", version, ", ")));
    EXPECT_THAT(result.verdict.reason, Not(HasSubstr("secret")));
    if (guarded.Has(Use::kRecords)) ++counted;
    if (counted > 0) {
      EXPECT_THAT(metrics_.Text(), HasSubstr(StrCat(Counted("malformed"), counted, "\n")));
    }
  }
  EXPECT_EQ(counted, 3);
  EXPECT_EQ(budget_.used(), 0u) << "nothing of it is kept";
}

}  // namespace
}  // namespace kveil::guard
