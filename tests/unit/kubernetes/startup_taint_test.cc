#include "kubernetes/startup_taint.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <fstream>

#include "fake_api_server.h"

namespace kveil::kubernetes {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::IsEmpty;

const char kKey[] = "kveil.io/agent-not-ready";

class StartupTaintTest : public testing::Test {
 protected:
  StartupTaintTest() { std::ofstream(tokenFile()) << "token-1"; }
  ~StartupTaintTest() override {
    EXPECT_THAT(server_.complaints(), IsEmpty());
    unlink(tokenFile().c_str());
  }
  std::string tokenFile() const { return StrCat(testing::TempDir(), "kveil-taint-token-", getpid()); }
  std::unique_ptr<StartupTaint> Start() {
    StartupTaint::Options options;
    options.apiServer = {.address = server_.address(), .ca = "", .tokenFile = tokenFile()};
    options.node = "node1";
    options.key = kKey;
    options.isReady = [this] {
      ++looks_;
      return isReady_.load();
    };
    options.lookEvery = milliseconds(2);
    options.firstPause = milliseconds(2);
    options.longestPause = milliseconds(10);
    return std::make_unique<StartupTaint>(std::move(options));
  }
  template <typename Condition>
  static bool Becomes(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < end) usleep(1'000);
    return condition();
  }
  static nlohmann::json Taint(const std::string& key, const std::string& effect = "NoSchedule") {
    return {{"key", key}, {"effect", effect}};
  }

  FakeApiServer server_;
  std::atomic<bool> isReady_{true};
  std::atomic<int> looks_{0};
};

TEST_F(StartupTaintTest, GoesWhenTheAgentIsReadyAndNotBefore) {
  server_.SetTaints({Taint("a"), Taint(kKey), Taint("b"), Taint(kKey, "NoExecute")});
  isReady_ = false;
  const auto taint = Start();
  ASSERT_TRUE(Becomes([&] { return looks_ > 5; }));
  EXPECT_EQ(server_.taints().size(), 4u);
  isReady_ = true;
  EXPECT_TRUE(Becomes([&] {
    return server_.taints() == nlohmann::json::array({Taint("a"), Taint("b")});
  })) << server_.taints();
  EXPECT_EQ(server_.patches(), 1);
  EXPECT_TRUE(taint->Health().ok());
}

TEST_F(StartupTaintTest, OthersMayChangeTheTaintsMeanwhile) {
  server_.SetTaints(nlohmann::json::array({Taint(kKey)}));
  server_.BeforePatch([](nlohmann::json& taints) { taints.push_back({{"key", "node.kubernetes.io/unreachable"}}); });
  const auto taint = Start();
  EXPECT_TRUE(Becomes([&] { return server_.patches() == 2 && server_.taints().size() == 1; }));
  EXPECT_EQ(server_.taints()[0]["key"], "node.kubernetes.io/unreachable");
}

TEST_F(StartupTaintTest, NothingIsPatchedWhereThereIsNoTaint) {
  for (const nlohmann::json& taints :
       {nlohmann::json(), nlohmann::json::array(), nlohmann::json::array({Taint("a")})}) {
    server_.SetTaints(taints);
    const int before = server_.nodeReads();
    const auto taint = Start();
    ASSERT_TRUE(Becomes([&] { return server_.nodeReads() > before; }));
  }
  EXPECT_EQ(server_.patches(), 0);
}

TEST_F(StartupTaintTest, SaysWhyAndTriesAgain) {
  server_.SetTaints(nlohmann::json::array({Taint(kKey)}));
  server_.Stop();
  const auto taint = Start();
  ASSERT_TRUE(Becomes([&] { return !taint->Health().ok(); }));
  EXPECT_THAT(std::string(taint->Health().message()), HasSubstr("the Kubernetes API server http://127.0.0.1:"));
  server_.Start();
  EXPECT_TRUE(Becomes([&] { return server_.taints().empty() && taint->Health().ok(); }));
}

TEST_F(StartupTaintTest, EndsWhileItWaits) {
  isReady_ = false;
  const auto taint = Start();
}

}  // namespace
}  // namespace kveil::kubernetes
