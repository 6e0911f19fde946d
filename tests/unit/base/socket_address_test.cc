#include "base/socket_address.h"

#include <gtest/gtest.h>

namespace kveil {
namespace {

TEST(SocketAddressTest, PrintsWhatItParsed) {
  EXPECT_EQ(SocketAddress::Parse("10.1.2.3", 9092)->Text(), "10.1.2.3:9092");
  EXPECT_EQ(SocketAddress::Parse("fd00::1", 9092)->Text(), "[fd00::1]:9092");
  EXPECT_EQ(SocketAddress::Parse("fd00::1", 9092)->AddressText(), "fd00::1");
}

TEST(SocketAddressTest, RefusesAName) {
  const auto parsed = SocketAddress::Parse("broker.example", 9092);
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find("broker.example"), std::string::npos);
}

TEST(SocketAddressTest, KnowsLoopback) {
  for (const char* address : {"127.0.0.1", "127.255.0.9", "::1"}) {
    EXPECT_TRUE(SocketAddress::Parse(address, 1)->IsLoopback()) << address;
  }
  for (const char* address : {"128.0.0.1", "10.0.0.1", "::2", "fe80::1"}) {
    EXPECT_FALSE(SocketAddress::Parse(address, 1)->IsLoopback()) << address;
  }
}

TEST(SocketAddressTest, ChangesItsPortOnly) {
  SocketAddress address = *SocketAddress::Parse("::1", 1);
  address.setPort(65535);
  EXPECT_EQ(address.Text(), "[::1]:65535");
}

}  // namespace
}  // namespace kveil
