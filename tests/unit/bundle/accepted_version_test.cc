// What was accepted is remembered on disk, and nothing older takes its place.
#include "bundle/accepted_version.h"

#include <sys/stat.h>

#include "bundle_fixture.h"
#include "evidence/folder_lock.h"

namespace kveil::bundle {
namespace {

using ::testing::HasSubstr;

class AcceptedVersionTest : public BundleTest {
 protected:
  std::string Refusal(const Manifest& manifest, int64_t least = 0) {
    return std::string(AcceptedVersion(path_, least).Check(manifest.version, manifest.Digest()).message());
  }
  absl::Status Remember(const Manifest& manifest) {
    return AcceptedVersion(path_, 0).Remember(manifest.version, manifest.Digest()).status();
  }
  ino_t Inode() {
    struct stat facts = {};
    EXPECT_EQ(::stat(path_.c_str(), &facts), 0);
    return facts.st_ino;
  }

  const std::string path_ = root_ + "/policies.accepted";
};

TEST_F(AcceptedVersionTest, TheFirstIsAnyFromTheConfigurationsLeastOn) {
  EXPECT_EQ(Refusal(Of(1)), "");
  EXPECT_EQ(Refusal(Of(7), 7), "");
  EXPECT_THAT(Refusal(Of(6), 7), HasSubstr("version 6, and the configuration accepts none below 7"));
}

TEST_F(AcceptedVersionTest, NothingOlderIsAcceptedEverAfter) {
  ASSERT_TRUE(Remember(Of(7)).ok());
  EXPECT_EQ(Refusal(Of(7)), "") << "the same again";
  EXPECT_TRUE(AcceptedVersion(path_, 0).CheckFile().ok());
  EXPECT_EQ(Refusal(Of(8, "other")), "");
  EXPECT_EQ(Refusal(Of(9), 8), "");
  EXPECT_THAT(Refusal(Of(6)), HasSubstr("are version 6, and version 7 was accepted before"));
  EXPECT_THAT(Refusal(Of(6)), HasSubstr("sign the old files with a higher version"));
  EXPECT_THAT(Refusal(Of(7, "other")), HasSubstr("version 7 of the policies was accepted before with other files"));
  EXPECT_THAT(Refusal(Of(7), 8), HasSubstr("accepts none below 8"));
  ASSERT_TRUE(Remember(Of(8)).ok());
  EXPECT_THAT(Refusal(Of(7)), HasSubstr("version 8 was accepted before"));
}

// Signed again, with the same files: another time and another signature, and nothing changes.
TEST_F(AcceptedVersionTest, SameFilesAreTheSameVersionWheneverTheyWereSigned) {
  ASSERT_TRUE(Remember(Of(7)).ok());
  Manifest later = Of(7);
  later.created = "2027-01-01T00:00:00Z";
  EXPECT_EQ(Refusal(later), "");
}

TEST_F(AcceptedVersionTest, DamagedFileIsNoFirstTime) {
  ASSERT_TRUE(Remember(Of(7)).ok());
  const std::string good = *evidence::ReadFile(path_);
  std::vector<std::string> damaged = {"",
                                      "\n",
                                      "7",
                                      "x y z",
                                      good + good,
                                      good.substr(0, good.size() - 1),
                                      "6" + good.substr(1),
                                      "0" + good,
                                      std::string(4096, '\0')};
  for (size_t i = 0; i < good.size(); i += 13) {
    damaged.push_back(good);
    damaged.back()[i] ^= 1;
    damaged.push_back(good.substr(0, i));
  }
  for (const std::string& text : damaged) {
    WriteTo(path_, text);
    EXPECT_THAT(Refusal(Of(9)), HasSubstr("policies.accepted: is damaged")) << text;
    EXPECT_THAT(Refusal(Of(9)), HasSubstr("when you are sure that version 9 is the newest, remove it")) << text;
    EXPECT_FALSE(AcceptedVersion(path_, 0).CheckFile().ok()) << text;
  }
  std::filesystem::remove(path_);
  EXPECT_EQ(Refusal(Of(1)), "");
}

TEST_F(AcceptedVersionTest, FileThatCannotBeReadOrWrittenRefuses) {
  std::filesystem::create_directory(path_);
  EXPECT_THAT(Refusal(Of(9)), HasSubstr("which version of the policies was accepted before is not known"));
  std::filesystem::remove(path_);
  std::filesystem::create_directories(path_ + ".new/in the way");
  EXPECT_THAT(std::string(Remember(Of(9)).message()), HasSubstr("the accepted version of the policies cannot be kept"));
  AcceptedVersion nowhere(root_ + "/none/policies.accepted", 0);
  EXPECT_THAT(std::string(nowhere.Remember(9, Of(9).Digest()).status().message()),
              HasSubstr("cannot be kept: " + root_ + "/none/lock"));
}

// Two agents with one state folder: what one has checked, the other may have outdated before it is remembered.
TEST_F(AcceptedVersionTest, RememberingNeverLowersIt) {
  AcceptedVersion one(path_, 0), other(path_, 0);
  ASSERT_TRUE(one.Check(8, Of(8).Digest()).ok());
  ASSERT_TRUE(other.Remember(9, Of(9).Digest()).ok());
  EXPECT_THAT(std::string(one.Remember(8, Of(8).Digest()).status().message()), HasSubstr("version 9 was accepted"));
  EXPECT_EQ(Refusal(Of(9)), "");
  const auto lock = evidence::LockFolder(root_, std::chrono::milliseconds(0));
  ASSERT_TRUE(lock.ok());
  EXPECT_THAT(std::string(one.Remember(10, Of(10).Digest()).status().message()), HasSubstr("/lock: is held by"));
}

TEST_F(AcceptedVersionTest, TellsTheFirstOfAll) {
  AcceptedVersion accepted(path_, 0);
  EXPECT_TRUE(accepted.Remember(7, Of(7).Digest()).value());
  EXPECT_FALSE(accepted.Remember(7, Of(7).Digest()).value());
  EXPECT_FALSE(accepted.Remember(8, Of(8).Digest()).value());
  std::filesystem::remove(path_);
  EXPECT_TRUE(accepted.Remember(8, Of(8).Digest()).value());
}

// What somebody else has written may be in memory alone, as after an error of the disk.
TEST_F(AcceptedVersionTest, OnlyWhatItHasWrittenItselfIsOnDisk) {
  ASSERT_TRUE(Remember(Of(7)).ok());
  const std::filesystem::path kept = root_ + "/kept";
  std::filesystem::create_hard_link(path_, kept);  // its inode is not used again
  const ino_t before = Inode();
  AcceptedVersion accepted(path_, 0);
  ASSERT_TRUE(accepted.Remember(7, Of(7).Digest()).ok());
  const ino_t written = Inode();
  EXPECT_NE(written, before);
  ASSERT_TRUE(accepted.Remember(7, Of(7).Digest()).ok());
  EXPECT_EQ(Inode(), written) << "nothing is written twice";
}

TEST_F(AcceptedVersionTest, OnlyItsOwnerReadsIt) {
  ASSERT_TRUE(Remember(Of(7)).ok());
  struct stat facts;
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

}  // namespace
}  // namespace kveil::bundle
