// What the application, the broker and the agent each see of a redirected connection.
#include "intercept/kernel/redirect.h"

#include <sys/socket.h>

#include "support/pinned_maps.h"
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
  const identity::Origin origin = agent->LastOrigin();
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
  EXPECT_EQ(CountElements(agent->redirect(), "interim"), 0u);
}

// A connect whose SYN is never answered: its listener's queue is full.
TEST_F(RedirectTest, NothingStaysInTheMapsOfAConnectThatNobodyAnswers) {
  const auto redirect = intercept::Redirect::Start(config);
  ASSERT_TRUE(redirect.ok()) << redirect.status();
  const intercept::Listeners listeners = ListenInPod(**redirect);
  ASSERT_EQ(::listen(listeners.v4.get(), 0), 0);
  Workload client(pod.cgroup, &pod.netns, [this] {
    for (int i = 0; i < 8; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      ::connect(fd, broker4.get(), broker4.size());
    }
    return PauseForEver();
  });
  ASSERT_TRUE(Eventually([&] { return CountElements(**redirect, "interim") > 0; }));
  client.Kill();
  EXPECT_TRUE(Eventually([&] { return CountElements(**redirect, "interim") == 0; }));
}

}  // namespace
}  // namespace kveil::nettest
