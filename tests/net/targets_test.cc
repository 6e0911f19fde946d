// Which destinations are targets: port ranges, and networks inside of networks.
#include "support/stage.h"

namespace kveil::nettest {
namespace {

class TargetsTest : public Stage {
 protected:
  // The index of the target that a connect was redirected for, "direct", or the error's name.
  std::string TargetOf(const SocketAddress& address) {
    const size_t before = agent->Origins().size();
    const std::string outcome = DialInPod(address);
    if (outcome.find("echoed") != 0) return outcome;
    if (agent->Origins().size() == before) return "direct";
    return std::to_string(agent->LastOrigin().targetIndex);
  }
};

TEST_F(TargetsTest, RangesIncludeBothTheirEndsAndNothingBeyond) {
  for (const std::string host : {"192.0.2.1", "2001:db8:77::1"}) {
    StartBroker({Address(host, 9091), Address(host, 9092), Address(host, 9094), Address(host, 9095)});
    if (!agent) StartAgent();
    const std::string index = host == "192.0.2.1" ? "0" : "1";
    EXPECT_EQ(TargetOf(Address(host, 9091)), "direct");
    EXPECT_EQ(TargetOf(Address(host, 9092)), index);
    EXPECT_EQ(TargetOf(Address(host, 9094)), index);
    EXPECT_EQ(TargetOf(Address(host, 9095)), "direct");
  }
}

TEST_F(TargetsTest, OneTargetMayHaveSeveralRanges) {
  config.targets = {MakeTarget("192.0.2.0", 24, 9092, 9092)};
  config.targets[0].ports.push_back({.first = 9095, .last = 9095});
  StartBroker({broker4, Address("192.0.2.1", 9093), Address("192.0.2.1", 9095)});
  StartAgent();
  EXPECT_EQ(TargetOf(broker4), "0");
  EXPECT_EQ(TargetOf(Address("192.0.2.1", 9093)), "direct");
  EXPECT_EQ(TargetOf(Address("192.0.2.1", 9095)), "0");
}

TEST_F(TargetsTest, LongerPrefixDecidesWhereBothHaveThePortAndTheShorterOneElsewhere) {
  config.targets = {MakeTarget("192.0.0.0", 16, 9092, 9094, "wide"), MakeTarget("192.0.2.1", 32, 9093, 9093, "exact"),
                    MakeTarget("2001:db8::", 32, 9092, 9094, "wide six"),
                    MakeTarget("2001:db8:77::", 64, 9093, 9093, "near six")};
  for (const std::string host : {"192.0.2.1", "2001:db8:77::1"}) {
    const int wide = host == "192.0.2.1" ? 0 : 2;
    StartBroker({Address(host, 9092), Address(host, 9093)});
    if (!agent) StartAgent();
    EXPECT_EQ(TargetOf(Address(host, 9092)), std::to_string(wide));
    EXPECT_EQ(TargetOf(Address(host, 9093)), std::to_string(wide + 1));
  }
}

TEST_F(TargetsTest, PrefixOfLengthZeroIsEveryAddress) {
  config.targets = {MakeTarget("0.0.0.0", 0, 9092, 9092), MakeTarget("::", 0, 9092, 9092)};
  StartBroker({broker4, broker6});
  StartAgent();
  EXPECT_EQ(TargetOf(broker4), "0");
  EXPECT_EQ(TargetOf(broker6), "1");
}

// Programs and targets change in one step: those of the running agent are what counts.
TEST_F(TargetsTest, RestartWithOtherTargetsInterceptsTheNewOnesAlone) {
  StartBroker({broker4, Address("192.0.2.1", 9095)});
  StartAgent();
  EXPECT_EQ(TargetOf(broker4), "0");
  agent.reset();
  config.targets = {MakeTarget("192.0.2.0", 24, 9095, 9095)};
  StartAgent();
  EXPECT_EQ(TargetOf(broker4), "direct");
  EXPECT_EQ(TargetOf(Address("192.0.2.1", 9095)), "0");
}

}  // namespace
}  // namespace kveil::nettest
