// A broker that is advertised becomes a target, once, unless it is one already.
#include "guard/learn/broker_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
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
    options_.lookUp = [this](const proxy::ConnectionInfo&, std::vector<std::string> names,
                             absl::AnyInvocable<void(BrokerDirectory::Answers)> done) {
      ++lookups_;
      BrokerDirectory::Answers answers;
      for (const std::string& name : names) answers.push_back(resolve_(name));
      done(std::move(answers));
    };
    options_.learn = [this](const SocketAddress& address, uint16_t, std::chrono::seconds lifetime) {
      learned_.push_back(StrCat(address.Text(), " for ", lifetime.count(), " s"));
      return learnStatus_;
    };
  }
  // Whether the client may hear of the broker.
  bool Learn(BrokerDirectory& directory, std::string_view host, int32_t port, uint16_t targetIndex = 0) {
    return LearnAll(directory, {{host, port}}, targetIndex).at(0);
  }
  std::vector<bool> LearnAll(BrokerDirectory& directory, std::vector<BrokerDirectory::Advertised> brokers,
                             uint16_t targetIndex = 0) {
    connection_.origin.targetIndex = targetIndex;
    return Await(directory.Learn(*loop_, connection_, std::move(brokers)));
  }
  static std::string Problem(const BrokerDirectory& directory) { return std::string(directory.Health().message()); }
  using Lines = std::vector<std::string>;

  BrokerDirectory::Options options_;
  std::function<absl::StatusOr<BrokerDirectory::Addresses>(const std::string&)> resolve_ = [](const std::string&) {
    return BrokerDirectory::Addresses{*SocketAddress::Parse("10.0.0.8", 0)};
  };
  int lookups_ = 0;
  std::string target_;  // by configuration
  uint16_t targetIndex_ = 0;
  std::set<uint16_t> withTls_;
};

// Names are of clusters with TLS; every name has the address 10.0.0.8.
class BrokerNamesTest : public BrokerDirectoryTest {
 protected:
  BrokerNamesTest() {
    withTls_ = {0, 1, 2};
    resolve_ = [this](const std::string& host) -> absl::StatusOr<std::vector<SocketAddress>> {
      resolved_.push_back(host);
      return std::vector<SocketAddress>{*SocketAddress::Parse("10.0.0.8", 0)};
    };
  }
  const SocketAddress address_ = *SocketAddress::Parse("10.0.0.8", 9092);
  Lines resolved_;
};

TEST_F(BrokerNamesTest, CountOnlyForTheClusterAndAddressThatWereAdvertised) {
  BrokerDirectory directory(options_);
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines());
  EXPECT_TRUE(Learn(directory, "b1.example", 9092, 1));
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines{"b1.example"});
  EXPECT_EQ(directory.NamesOf(address_, "other"), Lines()) << "another cluster must not name this one's brokers";
  EXPECT_EQ(directory.NamesOf(*SocketAddress::Parse("10.0.0.8", 9093), "main"), Lines());
  EXPECT_TRUE(Learn(directory, "b2.example", 9092, 2));
  EXPECT_EQ(directory.NamesOf(address_, "other"), Lines{"b2.example"});
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines{"b1.example"}) << "the other way round";
}

TEST_F(BrokerNamesTest, AreKeptOfClustersWithTlsOnlyThatOthersCannotFloodThem) {
  withTls_ = {2};
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines());
}

TEST_F(BrokerNamesTest, CountFromTheLatestForTheLifetime) {
  options_.lookAgain = std::chrono::seconds(0);
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_TRUE(Learn(directory, "b2.example", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), (Lines{"b2.example", "b1.example"}));
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), (Lines{"b1.example", "b2.example"}));
  options_.lifetime = std::chrono::seconds(1);
  BrokerDirectory forgetful(options_);
  EXPECT_TRUE(Learn(forgetful, "b1.example", 9092));
  for (int i = 0; i < 1000 && !forgetful.NamesOf(address_, "main").empty(); ++i) ::usleep(10'000);
  EXPECT_EQ(forgetful.NamesOf(address_, "main"), Lines());
}

TEST_F(BrokerNamesTest, EndWhenTheAddressItselfIsAdvertised) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "10.0.0.8", 9092));
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_TRUE(Learn(directory, "b1.example", 9093));
  EXPECT_TRUE(Learn(directory, "10.0.0.8", 9092)) << "though it was learned a moment ago";
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines());
  EXPECT_EQ(directory.NamesOf(*SocketAddress::Parse("10.0.0.8", 9093), "main"), Lines{"b1.example"});
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines{"b1.example"}) << "it is advertised once more";
}

TEST_F(BrokerNamesTest, AreNotThoseOfAnAddressThatIsRefused) {
  learnStatus_ = absl::AlreadyExistsError("that of cluster other");
  BrokerDirectory directory(options_);
  EXPECT_FALSE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines());
}

TEST_F(BrokerNamesTest, AreBoundedForAnAddress) {
  BrokerDirectory directory(options_);
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(Learn(directory, StrCat("b", i, ".example"), 9092));
  const Lines names = directory.NamesOf(address_, "main");
  EXPECT_EQ(names.size(), 16u);
  EXPECT_EQ(names.front(), "b99.example");
}

TEST_F(BrokerNamesTest, AreThoseThatACertificateMayHold) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "B1.Example.", 9092));
  EXPECT_EQ(directory.NamesOf(address_, "main"), Lines{"b1.example"}) << "a dot at the end is no part of the name";
  EXPECT_EQ(resolved_, Lines{"B1.Example."});
  for (const std::string_view wrong :
       {std::string_view(".example"), std::string_view("*.example"), std::string_view("b1.example\0.other", 17),
        std::string_view("b\xc3\xbc.example"), std::string_view("127.1"), std::string_view("."),
        std::string_view("b1..example")}) {
    EXPECT_FALSE(Learn(directory, wrong, 9092)) << wrong;
    EXPECT_THAT(Problem(directory), testing::HasSubstr("neither an address nor a host name"));
  }
  EXPECT_EQ(resolved_.size(), 1u) << "nor are they looked up";
}

TEST_F(BrokerDirectoryTest, LearnsABrokerOnceInHalfItsLifetime) {
  BrokerDirectory directory(options_);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092));
  EXPECT_EQ(learned_, (Lines{"127.0.0.8:9092 for 1800 s"}));
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9093));
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092, 2)) << "the same address as a broker of another cluster";
  EXPECT_EQ(learned_.size(), 3u);
}

TEST_F(BrokerDirectoryTest, LearnsAgainWhatHasGrownOld) {
  options_.lifetime = std::chrono::seconds(0);
  BrokerDirectory directory(options_);
  for (int i = 0; i < 2; ++i) EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092));
  EXPECT_EQ(learned_.size(), 2u);
}

TEST_F(BrokerDirectoryTest, LeavesConfiguredTargetsAlone) {
  target_ = "127.0.0.8:9092";
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092));
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, OnlyReportsWhereSoConfigured) {
  options_.reportOnly = true;
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092));
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, PassesBrokersWithoutAnAddress) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "", 9092));
  for (const int32_t port : {-1, 0, 65536}) EXPECT_TRUE(Learn(directory, "127.0.0.8", port));
  EXPECT_TRUE(learned_.empty());
}

TEST_F(BrokerDirectoryTest, SaysWhatDidNotResolve) {
  resolve_ = [](const std::string&) { return absl::UnavailableError("no name server knows b1.example"); };
  BrokerDirectory directory(options_);
  EXPECT_EQ(Problem(directory), "");
  EXPECT_FALSE(Learn(directory, "b1.example", 9092));
  EXPECT_THAT(Problem(directory), testing::HasSubstr("broker b1.example:9092 of cluster main is left out"));
  EXPECT_THAT(Problem(directory), testing::HasSubstr("no name server knows b1.example"));
}

TEST_F(BrokerDirectoryTest, OneNameThatDoesNotResolveCostsNoOther) {
  resolve_ = [](const std::string& name) -> absl::StatusOr<BrokerDirectory::Addresses> {
    if (name == "b2.example") return absl::NotFoundError("no such name");
    return BrokerDirectory::Addresses{*SocketAddress::Parse("10.0.0.8", 0)};
  };
  BrokerDirectory directory(options_);
  const std::vector<bool> heard = LearnAll(directory, {{"b1.example", 9092},
                                                       {"b2.example", 9092},
                                                       {"b3.example", 9093},
                                                       {"b2.example", 9092},
                                                       {"10.0.0.4", 9092},
                                                       {"", -1}});
  EXPECT_EQ(heard, (std::vector<bool>{true, false, true, false, true, true}));
  EXPECT_EQ(lookups_, 1) << "all of a response at once";
  EXPECT_EQ(learned_, (Lines{"10.0.0.4:9092 for 1800 s", "10.0.0.8:9092 for 1800 s", "10.0.0.8:9093 for 1800 s"}));
}

// The same name may be another broker there.
TEST_F(BrokerDirectoryTest, LooksANameUpForEachViewOfNames) {
  options_.viewOf = [](const proxy::ConnectionInfo& connection) { return StrCat(connection.origin.netnsCookie); };
  BrokerDirectory directory(options_);
  connection_.origin.netnsCookie = 1;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(lookups_, 1);
  connection_.origin.netnsCookie = 2;
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_EQ(lookups_, 2);
}

// Wherever the name leads, the connection is redirected.
TEST_F(BrokerDirectoryTest, NeedsNoAddressesWhereTargetsCoverThemAll) {
  options_.coversAll = [](uint16_t port, uint16_t) { return port == 9092; };
  resolve_ = [](const std::string&) { return absl::NotFoundError("no such name"); };
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.internal", 9092));
  EXPECT_EQ(lookups_, 0);
  EXPECT_FALSE(Learn(directory, "b1.internal", 9093));
  withTls_ = {0};
  EXPECT_TRUE(Learn(directory, "b1.internal", 9092)) << "its certificate will not be compared with this name";
  EXPECT_EQ(lookups_, 2) << "but it would be, had the name an address";
}

TEST_F(BrokerDirectoryTest, LeavesOutWhatIsMoreThanAClusterHasBrokers) {
  BrokerDirectory directory(options_);
  Lines hosts;
  std::vector<BrokerDirectory::Advertised> brokers;
  for (int i = 0; i < 3'000; ++i) {
    hosts.push_back(i % 2 == 0 ? StrCat("b", i, ".example") : StrCat("10.0.", i / 250, ".", i % 250));
  }
  for (const std::string& host : hosts) brokers.push_back({host, 9092});
  brokers.push_back(brokers[1]);
  const std::vector<bool> heard = LearnAll(directory, brokers);
  EXPECT_EQ(std::count(heard.begin(), heard.end(), true), 1001);
  EXPECT_TRUE(heard.back()) << "it is one of the first";
  EXPECT_EQ(lookups_, 1);
  EXPECT_EQ(learned_.size(), 1000u) << "the others are not judged";
  EXPECT_THAT(Problem(directory), testing::HasSubstr("b1000.example:9092"));
  EXPECT_THAT(Problem(directory), testing::HasSubstr("more than 1000 brokers"));
}

// Each takes node-wide locks and a system call.
TEST_F(BrokerDirectoryTest, LetsOthersHaveTheirTurnBetweenBrokers) {
  std::atomic<size_t> turns = 0;
  options_.learn = [&](const SocketAddress&, uint16_t, std::chrono::seconds) {
    if (learned_.empty()) loop_->Post([&] { ++turns; });
    learned_.push_back(StrCat(turns.load()));
    ::usleep(200);
    return absl::OkStatus();
  };
  BrokerDirectory directory(options_);
  Lines hosts;
  std::vector<BrokerDirectory::Advertised> brokers;
  for (int i = 0; i < 200; ++i) hosts.push_back(StrCat("10.0.0.", i));
  for (const std::string& host : hosts) brokers.push_back({host, 9092});
  LearnAll(directory, brokers);
  EXPECT_EQ(learned_.back(), "1") << "nobody else had a turn";
}

// What one cluster's brokers make up takes nothing from the others.
TEST_F(BrokerDirectoryTest, CountsWhatItKeepsForEachCluster) {
  options_.reportOnly = true;
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092, 2));
  const int before = lookups_;
  for (int i = 0; i < 11; ++i) {
    Lines names;
    std::vector<BrokerDirectory::Advertised> brokers;
    for (int j = 0; j < 1000; ++j) names.push_back(StrCat("b", i, "-", j, ".example"));
    for (const std::string& name : names) brokers.push_back({name, 9092});
    LearnAll(directory, brokers);
  }
  EXPECT_EQ(lookups_, before + 11);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092, 2));
  EXPECT_EQ(lookups_, before + 11) << "it is still known";
}

TEST_F(BrokerDirectoryTest, TriesAgainWhatFailed) {
  BrokerDirectory directory(options_);
  learnStatus_ = absl::UnavailableError("no");
  EXPECT_FALSE(Learn(directory, "127.0.0.8", 9092));
  learnStatus_ = absl::OkStatus();
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092));
  EXPECT_EQ(learned_.size(), 2u);
}

TEST_F(BrokerDirectoryTest, ANameThatWasLearnedIsNoExcuseForAnAddressThatIsRefused) {
  options_.lookAgain = std::chrono::seconds(0);
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "localhost", 9092));
  for (const absl::Status& refused :
       {absl::AlreadyExistsError("that of cluster other"), absl::ResourceExhaustedError("full")}) {
    learnStatus_ = refused;
    EXPECT_FALSE(Learn(directory, "localhost", 9092)) << "the client would connect to it in the clear";
    EXPECT_THAT(Problem(directory), testing::HasSubstr(std::string(refused.message())));
  }
}

TEST_F(BrokerDirectoryTest, ANameServerThatIsAwayEndsNothingForANameThatWasLearned) {
  options_.lookAgain = std::chrono::seconds(0);
  absl::Status away;
  resolve_ = [&](const std::string&) -> absl::StatusOr<std::vector<SocketAddress>> {
    if (!away.ok()) return away;
    return std::vector<SocketAddress>{*SocketAddress::Parse("127.0.0.8", 0)};
  };
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  away = absl::UnavailableError("no name server");
  EXPECT_TRUE(Learn(directory, "b1.example", 9092));
  EXPECT_FALSE(Learn(directory, "b2.example", 9092));
}

TEST_F(BrokerDirectoryTest, ABrokerOfAClusterWithTlsIsNoTargetOfOneWithout) {
  withTls_ = {0, 1};
  target_ = "127.0.0.8:9092";
  targetIndex_ = 2;
  BrokerDirectory directory(options_);
  EXPECT_FALSE(Learn(directory, "127.0.0.8", 9092));
  for (const char* part : {"127.0.0.8:9092", "cluster main", "cluster other", "/intercept/targets"}) {
    EXPECT_THAT(Problem(directory), testing::HasSubstr(part));
  }
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092, 2)) << "its own cluster";
  withTls_ = {};
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092)) << "neither has TLS";
  withTls_ = {0, 1, 2};
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092)) << "both have";
  targetIndex_ = 1;
  EXPECT_TRUE(Learn(directory, "127.0.0.8", 9092)) << "another target of the same cluster";
}

TEST_F(BrokerDirectoryTest, TakesAnIpv6Address) {
  BrokerDirectory directory(options_);
  EXPECT_TRUE(Learn(directory, "::1", 9092));
  EXPECT_EQ(learned_, (Lines{"[::1]:9092 for 1800 s"}));
}

}  // namespace
}  // namespace kveil::guard
