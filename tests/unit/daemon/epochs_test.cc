// What the agent does when it is asked about epochs.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

TEST(EpochsCommandTest, TurnsAndTellsOfEachEpoch) {
  char path[] = "/tmp/kveil-epochs-XXXXXX";
  const std::string folder = mkdtemp(path);
  keys::KeyServiceOptions options;
  options.root.file = folder + "/root.key";
  options.registry.sqlite = folder + "/registry.db";
  auto keys = *keys::KeyService::Open(std::move(options));
  const auto first = ListEpochs(*keys);
  ASSERT_TRUE(first.ok()) << first.status();
  ASSERT_EQ(first->epochs.size(), 1u);
  EXPECT_EQ(first->epochs[0].number, 1u);
  EXPECT_EQ(first->epochs[0].state, "inUse");
  EXPECT_FALSE(first->epochs[0].destroyed.has_value());
  const auto begun = TurnEpochs(*keys, {.uid = 1000});
  ASSERT_TRUE(begun.ok()) << begun.status();
  EXPECT_EQ(begun->ending, 1u);
  absl::StatusOr<admin::ListEpochsCommand::Response> after;
  for (int i = 0; i < 3000; ++i) {
    after = ListEpochs(*keys);
    ASSERT_TRUE(after.ok()) << after.status();
    if (after->epochs.front().state == "destroyed") break;
    usleep(10'000);
  }
  ASSERT_EQ(after->epochs.size(), 2u);
  EXPECT_EQ(after->epochs[0].state, "destroyed");
  EXPECT_EQ(after->epochs[0].destroyed.value_or("").size(), std::string("2026-11-29T06:10:31Z").size());
  EXPECT_EQ(after->epochs[1].state, "inUse");
  keys.reset();
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace kveil::daemon
