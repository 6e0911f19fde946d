// The root key file: made once, for its owner only, and refused when anything about it is wrong.
#include "keys/root/root_key_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "absl/strings/escaping.h"
#include "base/unique_fd.h"
#include "key_fixture.h"
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"

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
  EXPECT_TRUE(read->key.Equals(made->key));
  // Nothing else is left in the folder.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(RootKeyFileTest, IsNeverReplaced) {
  auto first = CreateRootKeyFile(keyFile());
  auto second = CreateRootKeyFile(keyFile());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_TRUE(second->key.Equals(first->key));
}

TEST_F(RootKeyFileTest, IsTheSameForAllWhoMakeItAtOnce) {
  std::vector<absl::StatusOr<RootKeyGeneration>> keys(8);
  std::vector<std::thread> threads;
  for (auto& key : keys) threads.emplace_back([&] { key = CreateRootKeyFile(keyFile()); });
  for (std::thread& thread : threads) thread.join();
  for (auto& key : keys) {
    ASSERT_TRUE(key.ok()) << key.status();
    EXPECT_TRUE(key->key.Equals(keys[0]->key));
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

class DamagedRootKeyFileTest : public RootKeyFileTest, public testing::WithParamInterface<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Generations, DamagedRootKeyFileTest, testing::Values(0, 1, 12345678));

TEST_P(DamagedRootKeyFileTest, IsRefusedWhateverByteIsDamaged) {
  ASSERT_TRUE(WriteRootKeyFile(keyFile(), {crypto::SecretKey::Random(), GetParam()}).ok());
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

TEST_F(RootKeyFileTest, MovesOnToALaterGenerationAndNeverBack) {
  const auto first = CreateRootKeyFile(keyFile());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string before = ReadFile(keyFile());
  std::filesystem::create_hard_link(keyFile(), folder_ + "/kept");
  const RootKeyGeneration third{DeriveGeneration(*first, 3), 3};
  ASSERT_TRUE(AdvanceRootKeyFile(keyFile(), third).ok()) << AdvanceRootKeyFile(keyFile(), third);
  const auto read = ReadRootKeyFile(keyFile());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->generation, 3u);
  EXPECT_TRUE(read->key.Equals(third.key));
  EXPECT_EQ(ReadFile(folder_ + "/kept"), std::string(before.size(), '\0')) << "the former bytes are overwritten";
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 2) << "nothing else is left";
  struct stat info;
  ASSERT_EQ(stat(keyFile().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  // One step at a time or several: the same key. Another one for each generation.
  const RootKeyGeneration second{DeriveGeneration(*first, 2), 2};
  EXPECT_TRUE(DeriveGeneration(second, 3).Equals(third.key));
  EXPECT_TRUE(DeriveGeneration(*first, 0).Equals(first->key));
  EXPECT_FALSE(second.key.Equals(third.key));
}

// Computed by Python's hmac.
TEST_F(RootKeyFileTest, DerivesWhatIsWrittenDown) {
  RootKeyGeneration zero;  // 32 bytes of zeros
  const crypto::SecretKey one = DeriveGeneration(zero, 1);
  EXPECT_EQ(absl::BytesToHexString({reinterpret_cast<const char*>(one.bytes().data()), 32}),
            "4cdeff2ce364e263b2b9df95435e218771a94247740681ece48f2242c54e42c5");
}

// What is wrapped by a root key file that moves on.
class RatchetTest : public RootKeyFileTest {
 protected:
  static RootKey::Deadline Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(10); }
  static std::unique_ptr<RootKey> OpenRoot(const std::string& path) {
    auto root = OpenRootKey({.file = path}, /*mayCreate=*/true, Soon());
    EXPECT_TRUE(root.ok()) << root.status();
    return *std::move(root);
  }
  static RootKey::WrappedKey Secret(Bytes wrapped) { return {wrapped, AsBytes("secret")}; }
  static RootKey::WrappedKey Epoch(Bytes wrapped) { return {wrapped, AsBytes("epoch 2")}; }
  static absl::StatusOr<crypto::SecretKey> Unwrap(RootKey& root, const RootKey::WrappedKey& key) {
    return std::move(root.Unwrap({&key, 1}, Soon()).front());
  }

  std::unique_ptr<RootKey> root_ = OpenRoot(keyFile());
  const std::string firstFile_ = ReadFile(keyFile());
  const RootKey::DataKey secret_ = *root_->GenerateDataKey(AsBytes("secret"), Soon());
  const RootKey::Turned turned_ = *root_->Turn(Secret(secret_.wrapped), AsBytes("epoch 2"), Soon());
};

TEST_F(RatchetTest, ATurnIsOpenedByEveryCopyOfTheFileAndForgottenOnce) {
  const std::string otherFile = folder_ + "/other.key";
  std::filesystem::copy(keyFile(), otherFile);
  auto other = OpenRoot(otherFile);
  for (RootKey* root : {root_.get(), other.get()}) {
    EXPECT_TRUE(Unwrap(*root, Secret(secret_.wrapped))->Equals(secret_.key));
    EXPECT_TRUE(Unwrap(*root, Secret(turned_.secret))->Equals(secret_.key));
    EXPECT_TRUE(Unwrap(*root, Epoch(turned_.epoch.wrapped))->Equals(turned_.epoch.key));
    EXPECT_TRUE(absl::IsDataLoss(Unwrap(*root, Secret(turned_.epoch.wrapped)).status())) << "another's place";
  }
  auto beside = OpenRoot(keyFile());  // another process
  // Not while anything needs what is to be forgotten.
  EXPECT_FALSE(*root_->ForgetOlder({Secret(secret_.wrapped), Epoch(turned_.epoch.wrapped)}, Soon()));
  EXPECT_EQ(ReadFile(keyFile()), firstFile_);
  for (int time = 0; time < 2; ++time) {
    EXPECT_TRUE(*root_->ForgetOlder({Secret(turned_.secret), Epoch(turned_.epoch.wrapped)}, Soon()));
    EXPECT_TRUE(ReadFile(keyFile()).starts_with("kveil root key 2 00000001\n"));
  }
  auto restarted = OpenRoot(keyFile());
  for (RootKey* root : {root_.get(), restarted.get()}) {
    EXPECT_TRUE(absl::IsNotFound(Unwrap(*root, Secret(secret_.wrapped)).status()));
    EXPECT_TRUE(Unwrap(*root, Secret(turned_.secret))->Equals(secret_.key));
  }
  for (RootKey* root : {root_.get(), beside.get(), other.get()}) EXPECT_TRUE(root->Check(Soon()).ok());
  // The next turn goes on from there, also on a node whose file was left behind.
  const auto again = other->Turn(Secret(turned_.secret), AsBytes("epoch 3"), Soon());
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(Unwrap(*root_, Secret(again->secret))->Equals(secret_.key));
  EXPECT_TRUE(*beside->ForgetOlder({Secret(again->secret)}, Soon())) << "though its file is ahead of it";
  EXPECT_TRUE(ReadFile(keyFile()).starts_with("kveil root key 2 00000002\n"));
}

// What one registry does not need any more, another one may.
TEST_F(RatchetTest, StaysWhileAnotherRegistryUsesTheSameFile) {
  const std::string list = keyFile() + ".registries";
  auto beside = OpenRoot(keyFile());
  root_->NoteRegistry("aa");
  beside->NoteRegistry("bb");
  root_->NoteRegistry("aa");
  EXPECT_EQ(ReadFile(list), "aa\nbb\n");
  const auto forgotten = root_->ForgetOlder({Secret(turned_.secret)}, Soon());
  EXPECT_TRUE(absl::IsFailedPrecondition(forgotten.status())) << forgotten.status();
  EXPECT_THAT(forgotten.status().message(), testing::HasSubstr("also opens another registry"));
  EXPECT_EQ(ReadFile(keyFile()), firstFile_);
  WriteFile(list, "aa\n");
  EXPECT_TRUE(*root_->ForgetOlder({Secret(turned_.secret)}, Soon()));
  EXPECT_NE(ReadFile(keyFile()), firstFile_);
}

TEST_F(RatchetTest, EachRegistryIsNotedAndAFileThatIsMadeAnewHasNone) {
  const std::string path = folder_ + "/noted.key";
  WriteFile(path + ".registries", "of a key that is gone\n");
  const auto keys = KeyService::Open({.root = {.file = path}, .registry = {.sqlite = folder_ + "/noted.db"}});
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_EQ(ReadFile(path + ".registries"), (*keys)->registryId() + "\n");
}

TEST_F(RatchetTest, GoesNowhereForANumberThatAnybodyCouldHaveWritten) {
  for (const size_t byte : {13u, 16u, 19u, 20u}) {  // of the generation
    ByteBuffer forged = turned_.secret;
    forged[byte] ^= 2;
    EXPECT_TRUE(absl::IsDataLoss(Unwrap(*root_, Secret(forged)).status())) << byte;
    EXPECT_TRUE(absl::IsDataLoss(root_->ForgetOlder({Secret(forged)}, Soon()).status())) << byte;
    EXPECT_EQ(ReadFile(keyFile()), firstFile_) << byte;
  }
}

TEST_F(RatchetTest, ReplacesNoFileThatHoldsAnotherKey) {
  std::filesystem::remove(keyFile());
  const auto another = CreateRootKeyFile(keyFile());
  ASSERT_TRUE(another.ok()) << another.status();
  EXPECT_FALSE(root_->ForgetOlder({Secret(turned_.secret)}, Soon()).ok());
  EXPECT_TRUE(ReadRootKeyFile(keyFile())->key.Equals(another->key));
  EXPECT_FALSE(root_->Check(Soon()).ok());
}

TEST_F(RatchetTest, AnOldCopyOfTheFileServesAndIsMovedOnAgain) {
  ASSERT_TRUE(*root_->ForgetOlder({Secret(turned_.secret)}, Soon()));
  WriteFile(keyFile(), firstFile_);
  EXPECT_TRUE(root_->Check(Soon()).ok());
  ASSERT_TRUE(*root_->ForgetOlder({Secret(turned_.secret)}, Soon()));
  EXPECT_NE(ReadFile(keyFile()), firstFile_);
}

// What a process that ended in the middle of an advance leaves: the next generation or the former one, beside the file.
class InterruptedAdvanceTest : public RatchetTest {
 protected:
  std::string aside() const { return keyFile() + ".replacing"; }
  std::string witness() const { return folder_ + "/witness"; }  // the same bytes by another name
  void Leave() {
    WriteFile(aside(), firstFile_);
    std::filesystem::create_hard_link(aside(), witness());
  }
  void ExpectWiped(std::string_view when) {
    EXPECT_FALSE(std::filesystem::exists(aside())) << when;
    EXPECT_EQ(ReadFile(witness()), std::string(firstFile_.size(), '\0')) << when;
    std::filesystem::remove(witness());
  }
  absl::StatusOr<bool> Forget() { return root_->ForgetOlder({Secret(turned_.secret)}, Soon()); }
};

TEST_F(InterruptedAdvanceTest, IsFinishedByTheNextOneAndAtTheStart) {
  Leave();
  EXPECT_TRUE(*Forget());
  ExpectWiped("before the next");
  const std::string advanced = ReadFile(keyFile());
  EXPECT_NE(advanced, firstFile_);
  Leave();
  EXPECT_TRUE(*Forget());
  ExpectWiped("when the file had been replaced already");
  Leave();
  OpenRoot(keyFile());
  ExpectWiped("at the start");
  EXPECT_EQ(ReadFile(keyFile()), advanced);
}

TEST_F(InterruptedAdvanceTest, IsNoSuccessAsLongAsItCannotBeFinished) {
  ASSERT_TRUE(*Forget());
  // Another process that replaces the file.
  Leave();
  UniqueFd lock(open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(lock.get(), LOCK_EX), 0);
  EXPECT_THAT(std::string(Forget().status().message()), HasSubstr("is being replaced by another process"));
  EXPECT_EQ(ReadFile(aside()), firstFile_);
  lock.Reset();
  EXPECT_TRUE(*Forget());
  ExpectWiped("after that");
  // What kveil has not made is not overwritten.
  const std::string advanced = ReadFile(keyFile());
  WriteFile(aside(), std::string(1000, 'x'));
  EXPECT_THAT(std::string(Forget().status().message()), HasSubstr("is not what kveil left there"));
  EXPECT_EQ(ReadFile(aside()), std::string(1000, 'x'));
  std::filesystem::remove(aside());
  std::filesystem::create_hard_link(keyFile(), aside());
  EXPECT_FALSE(Forget().ok());
  EXPECT_EQ(ReadFile(keyFile()), advanced);
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
