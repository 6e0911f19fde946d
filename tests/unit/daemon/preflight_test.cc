// What an agent makes of the files that an earlier one may have left.
#include "daemon/preflight.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace kveil::daemon {
namespace {

class NeverUsedTest : public testing::Test {
 protected:
  NeverUsedTest() {
    char path[] = "/tmp/kveil-preflight-XXXXXX";
    folder_ = mkdtemp(path);
    keys_.rootKeyFile = folder_ + "/root.key";
    keys_.registryPath = folder_ + "/volume/registry.db";
  }
  ~NeverUsedTest() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  config::KeysConfig keys_;
};

TEST_F(NeverUsedTest, OneOfTheTwoFilesIsEnoughToHaveBeenProtected) {
  std::filesystem::create_directory(folder_ + "/volume");
  EXPECT_TRUE(WasNeverUsed(keys_));
  keys_.registryPostgres.emplace();
  EXPECT_FALSE(WasNeverUsed(keys_)) << "the database may hold keys of this node";
  keys_.registryPostgres.reset();
  std::ofstream(keys_.rootKeyFile) << "x";
  EXPECT_FALSE(WasNeverUsed(keys_)) << "the registry's volume is not mounted";
  std::ofstream(keys_.registryPath) << "x";
  EXPECT_FALSE(WasNeverUsed(keys_));
  std::filesystem::remove(keys_.rootKeyFile);
  EXPECT_FALSE(WasNeverUsed(keys_)) << "the root key is gone";
}

TEST_F(NeverUsedTest, WithARootKeyElsewhereTheRegistryIsWhatTells) {
  std::filesystem::create_directory(folder_ + "/volume");
  keys_.rootKeyFile.clear();
  keys_.rootKey.vault.emplace();
  EXPECT_TRUE(WasNeverUsed(keys_));
  std::ofstream(keys_.registryPath) << "x";
  EXPECT_FALSE(WasNeverUsed(keys_));
  std::filesystem::remove(keys_.registryPath);
  std::ofstream(keys_.registryPath + ".moved") << "elsewhere\n";
  EXPECT_FALSE(WasNeverUsed(keys_)) << "the registry was moved";
}

TEST_F(NeverUsedTest, WhatCannotBeLookedAtCountsAsThere) {
  std::ofstream(folder_ + "/volume") << "x";  // ENOTDIR
  EXPECT_FALSE(WasNeverUsed(keys_));
  keys_.registryPath = folder_ + "/" + std::string(300, 'r');  // ENAMETOOLONG
  EXPECT_FALSE(WasNeverUsed(keys_));
  keys_.registryPath = folder_ + "/registry.db";
  std::filesystem::create_symlink(folder_ + "/nowhere", keys_.registryPath);
  EXPECT_FALSE(WasNeverUsed(keys_)) << "a link to a volume that is not mounted";
}

}  // namespace
}  // namespace kveil::daemon
