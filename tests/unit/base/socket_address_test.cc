#include "base/socket_address.h"

#include <gtest/gtest.h>

namespace kveil {
namespace {

TEST(SocketAddress, printsWhatItParsed) {
  EXPECT_EQ(SocketAddress::Parse("10.1.2.3", 9092)->Text(), "10.1.2.3:9092");
  EXPECT_EQ(SocketAddress::Parse("fd00::1", 9092)->Text(), "[fd00::1]:9092");
  EXPECT_EQ(SocketAddress::Parse("fd00::1", 9092)->AddressText(), "fd00::1");
}

TEST(SocketAddress, refusesAName) {
  const auto parsed = SocketAddress::Parse("broker.example", 9092);
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.status().message().find("broker.example"), std::string::npos);
}

TEST(SocketAddress, changesItsPortOnly) {
  SocketAddress address = *SocketAddress::Parse("::1", 1);
  address.setPort(65535);
  EXPECT_EQ(address.Text(), "[::1]:65535");
}

}  // namespace
}  // namespace kveil
