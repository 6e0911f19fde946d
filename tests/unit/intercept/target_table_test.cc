// The table of targets as the kernel half looks it up.
#include "intercept/kernel/target_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "intercept/kernel/target_coverage.h"

namespace kveil::intercept {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SocketAddress Address(const std::string& address, uint16_t port = 0) { return *SocketAddress::Parse(address, port); }

config::Target MakeTarget(const std::string& network, uint8_t length, std::vector<config::PortRange> ports) {
  return {.cluster = "main", .network = Address(network), .prefixLength = length, .ports = std::move(ports)};
}

TargetTable Compile(const std::vector<config::Target>& targets) {
  absl::StatusOr<TargetTable> table = TargetTable::Compile(targets);
  EXPECT_TRUE(table.ok()) << table.status();
  return *std::move(table);
}

// The targets of the ranges that a prefix has, in order; nothing when the table does not have it.
std::vector<int> TargetsOf(const TargetTable& table, const std::string& network, uint8_t length) {
  for (const TargetTable::Prefix& prefix : table.prefixes()) {
    if (prefix.length != length || prefix.address != ToBytes(ToEndpoint(Address(network)))) continue;
    std::vector<int> targets;
    for (uint32_t i = 0; i < prefix.ranges.count; ++i) targets.push_back(prefix.ranges.ranges[i].target);
    return targets;
  }
  return {};
}

TEST(TargetTableTest, RangeIncludesBothItsEnds) {
  const TargetTable table = Compile({MakeTarget("10.0.0.0", 8, {{9092, 9094}})});
  EXPECT_EQ(table.Find(Address("10.1.2.3", 9091)), std::nullopt);
  EXPECT_EQ(table.Find(Address("10.1.2.3", 9092)), 0);
  EXPECT_EQ(table.Find(Address("10.1.2.3", 9094)), 0);
  EXPECT_EQ(table.Find(Address("10.1.2.3", 9095)), std::nullopt);
}

TEST(TargetTableTest, PrefixThatIsNoMultipleOfEightEndsAtItsBit) {
  const TargetTable table =
      Compile({MakeTarget("10.0.32.0", 19, {{9092, 9092}}), MakeTarget("2001:db8:8000::", 33, {{9092, 9092}})});
  EXPECT_EQ(table.Find(Address("10.0.31.255", 9092)), std::nullopt);
  EXPECT_EQ(table.Find(Address("10.0.32.0", 9092)), 0);
  EXPECT_EQ(table.Find(Address("10.0.63.255", 9092)), 0);
  EXPECT_EQ(table.Find(Address("10.0.64.0", 9092)), std::nullopt);
  EXPECT_EQ(table.Find(Address("2001:db8:7fff::1", 9092)), std::nullopt);
  EXPECT_EQ(table.Find(Address("2001:db8:ffff::1", 9092)), 1);
}

TEST(TargetTableTest, LongerPrefixComesFirstWhereBothHaveThePort) {
  const TargetTable table =
      Compile({MakeTarget("10.0.0.0", 8, {{9092, 9094}}), MakeTarget("10.0.0.7", 32, {{9093, 9093}})});
  EXPECT_EQ(table.Find(Address("10.0.0.7", 9092)), 0);
  EXPECT_EQ(table.Find(Address("10.0.0.7", 9093)), 1);
  EXPECT_EQ(table.Find(Address("10.0.0.8", 9093)), 0);
}

// A trie answers with its longest match only, so that one has to know of all the shorter ones.
TEST(TargetTableTest, PrefixHasTheRangesOfEveryShorterOneThatCoversItTheLongestFirst) {
  const TargetTable table =
      Compile({MakeTarget("10.0.0.0", 8, {{1, 10}}), MakeTarget("10.1.0.0", 16, {{1, 20}, {30, 40}}),
               MakeTarget("10.1.2.0", 24, {{1, 5}}), MakeTarget("10.2.0.0", 16, {{1, 5}})});
  EXPECT_THAT(TargetsOf(table, "10.1.2.0", 24), ElementsAre(2, 1, 1, 0));
  EXPECT_THAT(TargetsOf(table, "10.1.0.0", 16), ElementsAre(1, 1, 0));
  EXPECT_THAT(TargetsOf(table, "10.2.0.0", 16), ElementsAre(3, 0));
  EXPECT_THAT(TargetsOf(table, "10.0.0.0", 8), ElementsAre(0));
}

TEST(TargetTableTest, SamePrefixTwiceIsOneInTheOrderOfTheConfiguration) {
  const TargetTable table =
      Compile({MakeTarget("10.0.0.0", 8, {{9092, 9092}}), MakeTarget("10.0.0.0", 8, {{9090, 9095}})});
  EXPECT_THAT(TargetsOf(table, "10.0.0.0", 8), ElementsAre(0, 1));
  EXPECT_EQ(table.Find(Address("10.0.0.1", 9092)), 0);
  EXPECT_EQ(table.Find(Address("10.0.0.1", 9095)), 1);
}

TEST(TargetTableTest, LengthZeroCoversItsFamilyAlone) {
  const TargetTable table = Compile({MakeTarget("0.0.0.0", 0, {{9092, 9092}})});
  EXPECT_EQ(table.Find(Address("203.0.113.7", 9092)), 0);
  EXPECT_EQ(table.Find(Address("2001:db8::1", 9092)), std::nullopt);
}

// ::ffff:10.0.0.1 and 10.0.0.1 are the same destination; 0a00:: begins with the same bytes and is not.
TEST(TargetTableTest, EveryAddressIsCoveredByATargetOfEachFamily) {
  const config::Target v4 = MakeTarget("0.0.0.0", 0, {{9092, 9094}}), v6 = MakeTarget("::", 0, {{9093, 9093}});
  EXPECT_TRUE(CoversAll({v4, v6}, 9093));
  EXPECT_FALSE(CoversAll({v4, v6}, 9092)) << "not over IPv6";
  EXPECT_FALSE(CoversAll({v4}, 9093));
  EXPECT_FALSE(CoversAll({MakeTarget("0.0.0.0", 1, {{9093, 9093}}), v6}, 9093));
  EXPECT_FALSE(CoversAll({}, 9093));
}

TEST(TargetTableTest, MappedAddressIsIpv4AndSameBytesOfTheOtherFamilyAreNot) {
  const TargetTable table = Compile({MakeTarget("10.0.0.0", 8, {{9092, 9092}})});
  EXPECT_EQ(table.Find(Address("::ffff:10.0.0.1", 9092)), 0);
  EXPECT_EQ(table.Find(Address("a00:1::", 9092)), std::nullopt);
}

TEST(TargetTableTest, ProbeIsATargetOfEveryTable) {
  EXPECT_EQ(Compile({}).Find(ProbeDestination()), uint16_t{KVEIL_PROBE_TARGET});
  const TargetTable everything = Compile({MakeTarget("0.0.0.0", 0, {{1, 65535}})});
  EXPECT_EQ(everything.Find(ProbeDestination()), uint16_t{KVEIL_PROBE_TARGET});
}

TEST(TargetTableTest, MoreRangesThanAPrefixCanHaveAreRefusedByName) {
  std::vector<config::PortRange> ranges;
  for (uint16_t i = 0; i < KVEIL_MAX_RANGES; ++i) {
    const auto first = static_cast<uint16_t>(10 * i + 1);
    ranges.push_back({.first = first, .last = first});
  }
  EXPECT_TRUE(TargetTable::Compile(std::vector{MakeTarget("10.0.0.0", 8, ranges)}).ok());
  ranges.push_back({60000, 60001});
  const auto own = TargetTable::Compile(std::vector{MakeTarget("10.0.0.0", 8, ranges)});
  EXPECT_TRUE(absl::IsInvalidArgument(own.status()));
  EXPECT_THAT(std::string(own.status().message()), HasSubstr("more than 32 port ranges apply to 10.0.0.0/8"));
  ranges.pop_back();
  const auto inherited =
      TargetTable::Compile(std::vector{MakeTarget("10.0.0.0", 8, ranges), MakeTarget("10.9.0.0", 16, {{9092, 9092}})});
  EXPECT_TRUE(absl::IsInvalidArgument(inherited.status()));
  EXPECT_THAT(std::string(inherited.status().message()), HasSubstr("10.9.0.0/16"));
}

TEST(TargetTableTest, MoreNetworksThanATrieCanHoldAreRefused) {
  std::vector<config::Target> targets;
  for (int i = 0; i < KVEIL_MAX_PREFIXES; ++i) {
    const uint32_t address = htonl(0x0a000000u + static_cast<uint32_t>(i));
    targets.push_back({.cluster = "main",
                       .network = SocketAddress::V4(address, 0),
                       .prefixLength = 32,
                       .ports = {{.first = 9092, .last = 9092}}});
  }
  const auto table = TargetTable::Compile(targets);  // the probe's is one more
  EXPECT_TRUE(absl::IsInvalidArgument(table.status()));
  EXPECT_THAT(std::string(table.status().message()), HasSubstr("more than 4096 networks"));
  targets.pop_back();
  EXPECT_TRUE(TargetTable::Compile(targets).ok());
}

TEST(TargetTableTest, HashOfAClusterIsWhatEarlierVersionsWrote) {
  EXPECT_EQ(ClusterHash(""), 0x811c9dc5u);
  EXPECT_EQ(ClusterHash("a"), 0xe40c292cu);
  EXPECT_EQ(ClusterHash("foobar"), 0xbf9cf968u);
}

}  // namespace
}  // namespace kveil::intercept
