// What comes of a configuration file that was changed while the agent runs.
#include "daemon/reloader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/text.h"

namespace kveil::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class ReloaderTest : public ::testing::Test {
 protected:
  ~ReloaderTest() override { ::unlink(path_.c_str()); }
  void Write(const std::string& members, const std::string& targets = kOneTarget) {
    std::ofstream(path_) << R"({"intercept": {"targets": [)" << targets << "]}" << members << "}";
  }
  config::AgentConfig Load() { return *config::LoadConfig(path_); }

  static constexpr char kOneTarget[] = R"({"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"})";
  const std::string path_ = StrCat(::testing::TempDir(), "reloader_", ::getpid(), ".json");
};

TEST_F(ReloaderTest, SaysWhatIsInForceAndWhatNeedsARestart) {
  Write("");
  Reloader reloader(path_, Load());
  Write(
      R"(, "log": {"level": "warning", "format": "json"}, "limits": {"connections": 5, "drainTimeout": "10s"}, "policies": "/p")",
      StrCat(kOneTarget, R"(, {"cluster": "main", "cidr": "10.1.0.0/16", "ports": "9093"})"));
  const absl::StatusOr<Reloader::Outcome> outcome = reloader.Reload();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(outcome->applied, ElementsAre("/log/level", "/log/format"));
  EXPECT_THAT(outcome->needRestart, ElementsAre("/intercept/targets", "/limits/connections", "/policies"));
  // Until there was one, it needs it.
  const absl::StatusOr<Reloader::Outcome> again = reloader.Reload();
  EXPECT_THAT(again->applied, IsEmpty());
  EXPECT_EQ(again->needRestart, outcome->needRestart);
  Write(R"(, "log": {"level": "info"})");
  const absl::StatusOr<Reloader::Outcome> back = reloader.Reload();
  EXPECT_THAT(back->applied, ElementsAre("/log/level", "/log/format"));
  EXPECT_THAT(back->needRestart, IsEmpty());
}

TEST_F(ReloaderTest, SpellingADefaultOutChangesNothing) {
  Write("");
  Reloader reloader(path_, Load());
  Write(R"(, "limits": {"drainTimeout": "10000ms"}, "clusters": {"main": {}}, "admin": {"metrics": "127.0.0.1:9464"})");
  const absl::StatusOr<Reloader::Outcome> outcome = reloader.Reload();
  EXPECT_THAT(outcome->applied, IsEmpty());
  EXPECT_THAT(outcome->needRestart, IsEmpty());
}

TEST_F(ReloaderTest, WhatIsAddedOrTakenAwayIsNamed) {
  Write(R"(, "admin": {"group": "ops"})");
  Reloader reloader(path_, Load());
  Write(R"(, "clusters": {"main": {"tls": {}}})");
  EXPECT_THAT(reloader.Reload()->needRestart, ElementsAre("/admin/group", "/clusters/main/tls"));
}

TEST_F(ReloaderTest, AnInvalidFileChangesNothing) {
  Write("");
  Reloader reloader(path_, Load());
  Write(R"(, "log": {"level": "loud"})");
  EXPECT_EQ(reloader.Reload().status().code(), absl::StatusCode::kInvalidArgument);
  ::unlink(path_.c_str());
  EXPECT_EQ(reloader.Reload().status().code(), absl::StatusCode::kNotFound);
  Write("");
  EXPECT_THAT(reloader.Reload()->applied, IsEmpty());
}

}  // namespace
}  // namespace kveil::daemon
