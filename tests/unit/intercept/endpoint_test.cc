// Addresses between agent and kernel half.
#include "intercept/kernel/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace kveil::intercept {
namespace {

SocketAddress AddressOf(const std::string& address, uint16_t port) { return *SocketAddress::Parse(address, port); }

TEST(EndpointTest, Ipv4IsInTheFirstFourBytesAndTheRestIsZero) {
  const kveil_endpoint endpoint = ToEndpoint(AddressOf("192.0.2.7", 9092));
  EXPECT_EQ(endpoint.family, KVEIL_FAMILY_V4);
  EXPECT_EQ(endpoint.port, 9092) << "in host order";
  EXPECT_EQ(ToBytes(endpoint), (AddressBytes{192, 0, 2, 7}));
}

TEST(EndpointTest, Ipv6IsInNetworkOrder) {
  const kveil_endpoint endpoint = ToEndpoint(AddressOf("2001:db8::7", 9092));
  EXPECT_EQ(endpoint.family, KVEIL_FAMILY_V6);
  EXPECT_EQ(ToBytes(endpoint), (AddressBytes{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}));
}

TEST(EndpointTest, MappedIpv6BecomesIpv4) {
  EXPECT_EQ(ToEndpoint(AddressOf("::ffff:192.0.2.7", 1)).family, KVEIL_FAMILY_V4);
  EXPECT_EQ(WithoutMapping(AddressOf("::ffff:192.0.2.7", 9092)).Text(), "192.0.2.7:9092");
  EXPECT_EQ(WithoutMapping(AddressOf("::192.0.2.7", 9092)).family(), AF_INET6) << "that is another kind of address";
}

TEST(EndpointTest, ThereAndBackIsTheSame) {
  for (const std::string text : {"192.0.2.7", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::7"}) {
    EXPECT_EQ(ToSocketAddress(ToEndpoint(AddressOf(text, 65535))).Text(), AddressOf(text, 65535).Text());
  }
}

// No packet to it may ever leave the machine.
TEST(EndpointTest, ProbeGoesToLoopback) { EXPECT_EQ(ProbeDestination().Text(), "127.255.255.254:9"); }

// Both halves and an earlier agent's pinned maps agree on these; another size is another map version.
TEST(EndpointTest, StructsOfPinnedMapsHaveTheirSizes) {
  EXPECT_EQ(sizeof(kveil_endpoint), 20u);
  EXPECT_EQ(sizeof(kveil_origin), 64u);
  EXPECT_EQ(sizeof(kveil_waiting), 72u);
  EXPECT_EQ(sizeof(kveil_share), 16u);
  EXPECT_EQ(sizeof(kveil_interim_key), 32u);
  EXPECT_EQ(sizeof(kveil_learned), 16u);
  EXPECT_EQ(sizeof(kveil_source_key), 16u);
  EXPECT_EQ(sizeof(kveil_source), 16u);
  EXPECT_EQ(sizeof(kveil_event), 64u);
  EXPECT_EQ(sizeof(kveil_port_ranges), 260u);
}

}  // namespace
}  // namespace kveil::intercept
