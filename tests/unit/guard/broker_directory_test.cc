// A broker that is advertised becomes a target, once, unless it is one already.
#include "guard/broker_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <set>

#include "interceptor_fixture.h"

namespace kveil::guard {
namespace {

class BrokerDirectoryTest : public InterceptorTest {
 protected:
  BrokerDirectoryTest() {
    options_.clusterOf = [](uint16_t targetIndex) { return targetIndex < 2 ? "main" : "other"; };
    options_.hasTls = [this](uint16_t targetIndex) { return withTls_.contains(targetIndex); };
    options_.targetOf = [this](const SocketAddress& address) {
      return address.Text() == target_ ? std::optional<uint16_t>(targetIndex_) : std::nullopt;
    };
    options_.learn = [this](const SocketAddress& address, uint16_t, std::chrono::seconds lifetime) {
      learned_.push_back(StrCat(address.Text(), " for ", lifetime.count(), " s"));
      return learnStatus_;
    };
  }
  absl::Status Learn(BrokerDirectory& directory, std::string_view host, int32_t port, uint16_t targetIndex = 0) {
    return Await(directory.Learn(*loop_, host, port, targetIndex));
  }
  using Lines = std::vector<std::string>;

  BrokerDirectory::Options options_;
  std::string target_;  // by configuration
  uint16_t targetIndex_ = 0;
  std::set<uint16_t> withTls_;
};

TEST_F(BrokerDirectoryTest, knowsTheNameThatAnAddressWasAdvertisedUnderByTheSameCluster) {
  BrokerDirectory directory(options_);
  const SocketAddress address = *SocketAddress::Parse("127.0.0.1", 9092);
  EXPECT_EQ(directory.NameOf(address, "main"), "");
  EXPECT_TRUE(Learn(directory, "127.0.0.1", 9092).ok());
  EXPECT_EQ(directory.NameOf(address, "main"), "") << "an address is no name";
  EXPECT_TRUE(Learn(directory, "localhost", 9092, 1).ok());
  EXPECT_EQ(directory.NameOf(address, "main"), "localhost");
  EXPECT_EQ(directory.NameOf(address, "other"), "") << "another cluster must not name this one's brokers";
  const SocketAddress theirs = *SocketAddress::Parse("127.0.0.1", 9093);
  EXPECT_TRUE(Learn(directory, "localhost", 9093, 2).ok());
  EXPECT_EQ(directory.NameOf(theirs, "other"), "localhost");
  EXPECT_EQ(directory.NameOf(theirs, "main"), "") << "the other way round";
}

TEST_F(BrokerDirectoryTest, learnsABrokerOnceInHalfItsLifetime) {
  BrokerDirectory directory(options_);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok());
  EXPECT_EQ(learned_, (Lines{"127.0.0.8:9092 for 1800 s"}));
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9093).ok());
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092, 1).ok()) << "the same address as a broker of another cluster";
  EXPECT_EQ(learned_.size(), 3u);
}

TEST_F(BrokerDirectoryTest, learnsAgainWhatHasGrownOld) {
  options_.lifetime = std::chrono::seconds(0);
  BrokerDirectory directory(options_);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok());
  EXPECT_EQ(learned_.size(), 2u);
}

TEST_F(BrokerDirectoryTest, leavesConfiguredTargetsAlone) {
  target_ = "127.0.0.8:9092";
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok());
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, onlyReportsWhereSoConfigured) {
  options_.reportOnly = true;
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok());
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, passesBrokersWithoutAnAddress) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "", 9092).ok());
  for (const int32_t port : {-1, 0, 65536}) EXPECT_TRUE(Learn(directory, "127.0.0.8", port).ok());
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, saysWhatDidNotResolve) {
  BrokerDirectory directory(options_);
  const std::string name(64, 'x');  // too long for a label, so no name server is asked
  const absl::Status status = Learn(directory, name, 9092);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(name), absl::string_view::npos) << status;
}

TEST_F(BrokerDirectoryTest, triesAgainWhatFailed) {
  BrokerDirectory directory(options_);
  learnStatus_ = absl::UnavailableError("no");
  EXPECT_FALSE(Learn(directory, "127.0.0.8", 9092).ok());
  learnStatus_ = absl::OkStatus();
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok());
  EXPECT_EQ(learned_.size(), 2u);
}

TEST_F(BrokerDirectoryTest, aNameThatWasLearnedIsNoExcuseForAnAddressThatIsRefused) {
  options_.lookAgain = std::chrono::seconds(0);
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "localhost", 9092).ok());
  for (const absl::Status& refused :
       {absl::AlreadyExistsError("that of cluster other"), absl::ResourceExhaustedError("full")}) {
    learnStatus_ = refused;
    EXPECT_EQ(Learn(directory, "localhost", 9092), refused) << "the client would connect to it in the clear";
  }
}

TEST_F(BrokerDirectoryTest, aNameServerThatIsAwayEndsNothingForANameThatWasLearned) {
  options_.lookAgain = std::chrono::seconds(0);
  absl::Status away;
  options_.resolve = [&](const std::string&) -> absl::StatusOr<std::vector<SocketAddress>> {
    if (!away.ok()) return away;
    return std::vector<SocketAddress>{*SocketAddress::Parse("127.0.0.8", 0)};
  };
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092).ok());
  away = absl::UnavailableError("no name server");
  EXPECT_TRUE(Learn(directory, "b1.example", 9092).ok());
  EXPECT_FALSE(Learn(directory, "b2.example", 9092).ok());
}

TEST_F(BrokerDirectoryTest, aBrokerOfAClusterWithTlsIsNoTargetOfOneWithout) {
  withTls_ = {0, 1};
  target_ = "127.0.0.8:9092";
  targetIndex_ = 2;
  BrokerDirectory directory(options_);
  const absl::Status refused = Learn(directory, "127.0.0.8", 9092);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  for (const char* part : {"127.0.0.8:9092", "cluster main", "cluster other", "/intercept/targets"}) {
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr(part));
  }
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092, 2).ok()) << "its own cluster";
  withTls_ = {};
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok()) << "neither has TLS";
  withTls_ = {0, 1, 2};
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok()) << "both have";
  targetIndex_ = 1;
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092).ok()) << "another target of the same cluster";
}

TEST_F(BrokerDirectoryTest, takesAnIpv6Address) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "::1", 9092).ok());
  EXPECT_EQ(learned_, (Lines{"[::1]:9092 for 1800 s"}));
}

}  // namespace
}  // namespace kveil::guard
