// Connects to the unspecified address, which the kernel takes as the socket's own address or as loopback.
#include <net/if.h>

#include <ostream>

#include "support/stage.h"

namespace kveil::nettest {
namespace {

using testing::ElementsAre;

struct Form {
  const char* name;
  const char* address;  // that the application connects to
  const char* bound;    // where it has bound its socket before, or nullptr
  const char* reached;  // where that is
};

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

constexpr Form kForms[] = {
    {"V4", "0.0.0.0", nullptr, "127.0.0.1:9092"},
    {"V6", "::", nullptr, "[::1]:9092"},
    {"V4Mapped", "::ffff:0.0.0.0", nullptr, "127.0.0.1:9092"},
    {"V4FromItsOwnAddress", "0.0.0.0", "192.0.2.2", "192.0.2.2:9092"},
    {"V4MappedFromItsOwnAddress", "::ffff:0.0.0.0", "::ffff:192.0.2.2", "192.0.2.2:9092"},
    {"V6FromAV4MappedAddress", "::", "::ffff:192.0.2.2", "127.0.0.1:9092"},
    {"V6FromItsOwnAddress", "::", "2001:db8:77::2", "[::1]:9092"},
};

// A broker in the pod's own namespace, at every address.
class UnspecifiedAddressTest : public Stage, public testing::WithParamInterface<Form> {
 protected:
  UnspecifiedAddressTest() {
    config.targets = {MakeTarget("127.0.0.0", 8, 9092, 9092), MakeTarget("::1", 128, 9092, 9092),
                      MakeTarget("192.0.2.0", 24, 9092, 9092)};
    std::vector<UniqueFd> listeners;
    for (const char* address : {"127.0.0.1", "::1", "192.0.2.2"}) {
      listeners.push_back(ListenIn(pod.netns, Address(address, 9092)));
    }
    local.emplace(std::move(listeners));
  }
  std::optional<EchoBroker> local;
};

std::string DialFrom(const SocketAddress& destination, const char* bound) {
  const UniqueFd fd(::socket(destination.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bound != nullptr) {
    const SocketAddress own = Address(bound, 0);
    Require(::bind(fd.get(), own.get(), own.size()) == 0, "bind");
  }
  if (::connect(fd.get(), destination.get(), destination.size()) != 0) return ErrnoName(errno);
  return Exchange(fd.get());
}

TEST_P(UnspecifiedAddressTest, IsRedirectedWhereTheAddressThatItReachesIsATarget) {
  StartAgent();
  EXPECT_EQ(pod.Run([] { return DialFrom(Address(GetParam().address, 9092), GetParam().bound); }), "echoed");
  ASSERT_EQ(agent->Origins().size(), 1u);
  EXPECT_EQ(agent->LastOrigin().destination.Text(), GetParam().reached);
}

TEST_P(UnspecifiedAddressTest, IsUntouchedWhereNoAddressIsATarget) {
  config.targets = {MakeTarget("198.51.100.0", 24, 9092, 9092)};
  StartAgent();
  EXPECT_EQ(pod.Run([] { return DialFrom(Address(GetParam().address, 9092), GetParam().bound); }), "echoed");
  EXPECT_THAT(agent->Origins(), ElementsAre());
}

INSTANTIATE_TEST_SUITE_P(Every, UnspecifiedAddressTest, testing::ValuesIn(kForms),
                         [](const testing::TestParamInfo<Form>& info) { return std::string(info.param.name); });

// The kernel would go to the device's address; which that is, nobody can say beforehand.
TEST_F(UnspecifiedAddressTest, SocketThatIsBoundToADeviceDoesNotReachTheBrokerDirectly) {
  config.targets = {MakeTarget("192.0.2.0", 24, 9092, 9092)};
  StartAgent();
  (void)pod.Run([]() -> std::string {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    Require(::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "eth0", sizeof("eth0")) == 0, "SO_BINDTODEVICE");
    const SocketAddress any = Address("0.0.0.0", 9092);
    ::connect(fd.get(), any.get(), any.size());
    return Exchange(fd.get());
  });
  EXPECT_EQ(local->Clients().size(), agent->Origins().size());
}

}  // namespace
}  // namespace kveil::nettest
