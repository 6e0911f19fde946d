// The root key file: made once, for its owner only, and refused when anything about it is wrong.
#include "keys/root/root_key_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "key_fixture.h"

namespace kveil::keys {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class RootKeyFileTest : public KeyTest {
 protected:
  std::string Refusal() {
    absl::Status status = ReadRootKeyFile(keyFile()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(status.message());
  }
};

TEST_F(RootKeyFileTest, IsMadeForItsOwnerOnlyAndReadsBack) {
  const mode_t before = umask(0);
  auto made = CreateRootKeyFile(keyFile());
  umask(before);
  ASSERT_TRUE(made.ok()) << made.status();
  struct stat info;
  ASSERT_EQ(stat(keyFile().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  EXPECT_EQ(info.st_nlink, 1u);
  auto read = ReadRootKeyFile(keyFile());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->Equals(*made));
  // Nothing else is left in the folder.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(RootKeyFileTest, IsNeverReplaced) {
  auto first = CreateRootKeyFile(keyFile());
  auto second = CreateRootKeyFile(keyFile());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->Equals(*first));
}

TEST_F(RootKeyFileTest, IsTheSameForAllWhoMakeItAtOnce) {
  std::vector<absl::StatusOr<crypto::SecretKey>> keys(8);
  std::vector<std::thread> threads;
  for (auto& key : keys) threads.emplace_back([&] { key = CreateRootKeyFile(keyFile()); });
  for (std::thread& thread : threads) thread.join();
  for (auto& key : keys) {
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_TRUE(key->Equals(*keys[0]));
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(RootKeyFileTest, IsNotFoundWhenMissing) {
  absl::Status status = ReadRootKeyFile(keyFile()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr(keyFile()));
}

TEST_F(RootKeyFileTest, IsRefusedWhenOthersMayUseIt) {
  ASSERT_TRUE(CreateRootKeyFile(keyFile()).ok());
  for (mode_t mode : {0640, 0604, 0620, 0601, 0660, 0666}) {
    chmod(keyFile().c_str(), mode);
    EXPECT_THAT(Refusal(), AllOf(HasSubstr(keyFile()), HasSubstr("600"))) << mode;
  }
  chmod(keyFile().c_str(), 0400);
  EXPECT_TRUE(ReadRootKeyFile(keyFile()).ok());
}

TEST_F(RootKeyFileTest, IsRefusedWhenItBelongsToAnotherUser) {
  if (geteuid() != 0) GTEST_FAIL() << "needs root to give a file away";
  ASSERT_TRUE(CreateRootKeyFile(keyFile()).ok());
  ASSERT_EQ(chown(keyFile().c_str(), 12345, 12345), 0);
  EXPECT_THAT(Refusal(), HasSubstr("belongs to neither"));
}

TEST_F(RootKeyFileTest, IsRefusedWhenItIsNoRegularFile) {
  const std::string elsewhere = folder_ + "/elsewhere";
  ASSERT_TRUE(CreateRootKeyFile(elsewhere).ok());
  ASSERT_EQ(symlink(elsewhere.c_str(), keyFile().c_str()), 0);
  EXPECT_THAT(Refusal(), HasSubstr("symbolic link"));
  unlink(keyFile().c_str());
  ASSERT_EQ(mkfifo(keyFile().c_str(), 0600), 0);
  EXPECT_THAT(Refusal(), HasSubstr("not a regular file"));
  unlink(keyFile().c_str());
  ASSERT_EQ(mkdir(keyFile().c_str(), 0700), 0);
  EXPECT_THAT(Refusal(), HasSubstr("not a regular file"));
}

TEST_F(RootKeyFileTest, IsRefusedWhenAnyByteIsDamaged) {
  ASSERT_TRUE(CreateRootKeyFile(keyFile()).ok());
  const std::string whole = ReadFile(keyFile());
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = damaged[i] == '0' ? '1' : '0';
    WriteFile(keyFile(), damaged);
    EXPECT_THAT(Refusal(), HasSubstr("damaged")) << i;
  }
  for (size_t size = 0; size < whole.size(); ++size) {
    WriteFile(keyFile(), whole.substr(0, size));
    EXPECT_THAT(Refusal(), HasSubstr("damaged")) << size;
  }
  WriteFile(keyFile(), whole + "\n");
  EXPECT_THAT(Refusal(), HasSubstr("damaged"));
  WriteFile(keyFile(), whole);
  EXPECT_TRUE(ReadRootKeyFile(keyFile()).ok());
}

TEST_F(RootKeyFileTest, ErrorsNeverHoldTheKey) {
  ASSERT_TRUE(CreateRootKeyFile(keyFile()).ok());
  std::string text = ReadFile(keyFile());
  const std::string key = text.substr(text.find('\n') + 1, 64);
  text.back() = 'x';
  WriteFile(keyFile(), text);
  EXPECT_THAT(Refusal(), testing::Not(HasSubstr(key.substr(0, 8))));
}

}  // namespace
}  // namespace kveil::keys
