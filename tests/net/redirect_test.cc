// What the application, the broker and the agent each see of a redirected connection.
#include "intercept/redirect.h"

#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::ElementsAre;

using RedirectTest = Stage;

TEST_F(RedirectTest, ApplicationSeesTheBrokerAndBrokerSeesTheApplication) {
  StartBroker({broker4});
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_THAT(broker->Clients(), ElementsAre("192.0.2.2"));
}

TEST_F(RedirectTest, AgentLearnsWhereAConnectionWasGoingAndWhoOpenedIt) {
  StartBroker({broker4});
  StartAgent();
  EXPECT_EQ(DialInPod(broker4, 1234), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  ASSERT_EQ(agent->Origins().size(), 1u);
  const intercept::Origin origin = agent->LastOrigin();
  EXPECT_EQ(origin.destination.Text(), "192.0.2.1:9092");
  EXPECT_EQ(origin.source.AddressText(), "127.0.0.1");
  EXPECT_EQ(origin.cgroupId, pod.cgroup.id());
  EXPECT_EQ(origin.netnsCookie, pod.netns.cookie());
  EXPECT_EQ(origin.uid, 1234u);
  EXPECT_GT(origin.pid, 1u);
  EXPECT_EQ(origin.boundDevice, 0u);
  EXPECT_EQ(origin.targetIndex, 0);
  EXPECT_FALSE(origin.isProbe);
}

TEST_F(RedirectTest, NothingStaysInTheMapsOnceAConnectionIsAccepted) {
  StartBroker({broker4});
  StartAgent();
  EXPECT_EQ(DialInPod(broker4), "echoed by 192.0.2.1:9092 as 192.0.2.2");
  EXPECT_EQ(agent->redirect().CountMapElements().interim, 0u);
}

}  // namespace
}  // namespace kveil::nettest
