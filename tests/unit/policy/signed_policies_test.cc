// With trusted keys, nothing takes force but what one of them has signed, and nothing older.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>

#include "base/text.h"
#include "bundle/signature.h"
#include "config/folder_watch.h"
#include "evidence/signing_key.h"
#include "evidence/small_file.h"
#include "policy/policy_store.h"

namespace kveil::policy {
namespace {

namespace fs = std::filesystem;
using evidence::SigningKey;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

class SignedPoliciesTest : public ::testing::Test {
 protected:
  // The outcomes of reloads, in their order.
  class Reloads {
   public:
    std::function<void(const absl::Status&)> Teller() {
      return [this](const absl::Status& status) {
        const std::lock_guard lock(mutex_);
        outcomes_.emplace_back(status.message());
        changed_.notify_all();
      };
    }
    // The next one that says so, of those that were not awaited yet. "": one that was accepted.
    bool Await(const std::string& part) {
      std::unique_lock lock(mutex_);
      return changed_.wait_for(lock, std::chrono::seconds(60), [&] {
        while (seen_ < outcomes_.size()) {
          const std::string& outcome = outcomes_[seen_++];
          if (part.empty() ? outcome.empty() : outcome.find(part) != std::string::npos) return true;
        }
        return false;
      });
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> outcomes_;
    size_t seen_ = 0;
  };

  SignedPoliciesTest() {
    Trust(key_);
    Restore();
  }
  ~SignedPoliciesTest() override {
    store_.reset();
    fs::remove_all(root_);
  }

  static std::string NewFolder() {
    std::string path = ::testing::TempDir() + "kveil-signed-XXXXXX";
    return ::mkdtemp(path.data());
  }
  // As a new file: two of one length within one tick of the clock look alike, if they are one file.
  static void WriteTo(const std::string& path, const std::string& text) {
    std::ofstream(path + "~") << text;
    fs::rename(path + "~", path);
  }
  void Write(const std::string& name, const std::string& text) { WriteTo(folder_ + "/" + name, text); }
  void Remove(const std::string& name) { fs::remove(folder_ + "/" + name); }
  void Trust(const SigningKey& key) { WriteTo(root_ + "/key.pub", key.PublicPem()); }

  // What is in force after Restore, with another entry for a reader of the users' file.
  static std::string Text(const std::string& reader) {
    return R"({"topics": [{"name": "clicks", "seal": {"scope": "user", "user": {"key": true}}, "read": [
        {"workload": {"unit": ")" +
           reader + R"("}, "where": {"users": {"file": "users.txt"}}}]}]})";
  }
  static absl::Status SignAs(const std::string& folder, int64_t version, const SigningKey& key) {
    const auto policies = Policy::Load({folder});
    bundle::Manifest manifest;
    manifest.version = version;
    manifest.created = "2026-11-29T20:04:48Z";
    if (policies.ok()) manifest.files = (*policies)->hashes();
    return bundle::Sign(folder, manifest, key);
  }
  void SignAs(int64_t version) { ASSERT_TRUE(SignAs(folder_, version, key_).ok()); }

  // The folder of version 7, as it was signed.
  void Restore() {
    fs::remove_all(folder_);
    fs::create_directory(folder_);
    Write("a.json", Text("analytics.service"));
    Write("b.json", R"({"topics": [{"name": "orders", "seal": {"scope": "topic"}, "read": []}]})");
    Write("users.txt", "38\n39\n");
    SignAs(7);
  }

  PolicyStore::Options Options() {
    PolicyStore::Options options;
    options.trust = {{root_ + "/key.pub"}, 0, accepted_};
    options.quiet = milliseconds(1);
    options.look = std::chrono::hours(1);
    return options;
  }
  absl::Status Open(PolicyStore::Options options) {
    store_.reset();
    auto store = PolicyStore::Open(folder_, std::move(options));
    if (!store.ok()) return store.status();
    store_ = *std::move(store);
    return absl::OkStatus();
  }
  absl::Status Open() { return Open(Options()); }
  bool Has(const std::string& topic) const { return store_->Current()->Find(topic) != nullptr; }

  const std::string root_ = NewFolder();
  const std::string folder_ = root_ + "/policies";
  const std::string accepted_ = root_ + "/policies.accepted";
  const SigningKey key_ = *SigningKey::Make();
  const SigningKey stranger_ = *SigningKey::Make();
  std::unique_ptr<PolicyStore> store_;
};

TEST_F(SignedPoliciesTest, TakeForceWithTheirVersion) {
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(store_->Current()->version(), 7);
  EXPECT_TRUE(Has("clicks"));
  const std::string before = store_->Current()->digest();
  Write("b.json", R"({"topics": [{"name": "bills", "seal": {"scope": "topic"}, "read": []}]})");
  SignAs(8);
  EXPECT_TRUE(store_->Reload().ok()) << store_->lastError();
  EXPECT_EQ(store_->Current()->version(), 8);
  EXPECT_TRUE(Has("bills"));
  EXPECT_NE(store_->Current()->digest(), before);
}

// Each does something to a folder in force, as who can write into it would. The old policies stay in force, and it is
// refused with these words.
TEST_F(SignedPoliciesTest, NoAttackChangesWhatIsInForce) {
  struct Attack {
    const char* name;
    std::function<void()> act;
    const char* refusal;
  };
  const Attack attacks[] = {
      {"another reader", [&] { Write("a.json", Text("mallory.service")); }, "a.json: is not the file that was signed"},
      {"another user", [&] { Write("users.txt", "40\n"); }, "users.txt: is not the file that was signed"},
      {"a file more", [&] { Write("c.json", R"({"topics": [{"name": "clicks2", "read": [{"any": true}]}]})"); },
       "c.json: is not in policies.manifest"},
      {"a file that is too large", [&] { Write("c.json", std::string(5 << 20, ' ')); },
       "c.json: is not in policies.manifest"},
      {"a name that forges lines", [&] { Write("c\n  policies  all is well\x1b[1A.json", "{}"); },
       "/c\\n  policies  all is well\\033[1A.json: is not in policies.manifest"},
      {"a key of its own, in the folder",
       [&] {
         Write("key.pub", stranger_.PublicPem());
         ASSERT_TRUE(SignAs(folder_, 8, stranger_).ok());
         fs::remove(root_ + "/key.pub");
         fs::create_symlink(folder_ + "/key.pub", root_ + "/key.pub");
       },
       "so who can write the policies could replace it"},
      {"a file that is no policy", [&] { Write("c.json", "{"); }, "c.json: is not in policies.manifest"},
      {"a file that is changed to no policy", [&] { Write("a.json", "{"); }, "a.json: is not the file that was signed"},
      {"a file less", [&] { Remove("b.json"); }, "b.json: is in policies.manifest (version 7), and is not there"},
      {"the list of users away", [&] { Remove("users.txt"); }, "users.txt: cannot read"},
      {"another name", [&] { fs::rename(folder_ + "/b.json", folder_ + "/c.json"); },
       "c.json: is not in policies.manifest"},
      {"one file's bytes in another",
       [&] { fs::copy_file(folder_ + "/a.json", folder_ + "/b.json", fs::copy_options::overwrite_existing); },
       "b.json: is not the file that was signed"},
      {"no manifest", [&] { Remove(bundle::kManifestName); }, "policies.manifest: there is none"},
      {"no signature", [&] { Remove(bundle::kSignatureName); }, "policies.manifest.sig: there is none"},
      {"no file at all",
       [&] {
         fs::remove_all(folder_);
         fs::create_directory(folder_);
       },
       "policies.manifest: there is none"},
      {"a stranger's signature",
       [&] {
         Write("a.json", Text("mallory.service"));
         ASSERT_TRUE(SignAs(folder_, 8, stranger_).ok());
       },
       "is no signature of policies.manifest by any of 1 trusted key(s)"},
      {"an older version, signed",
       [&] {
         Write("a.json", Text("formerly.service"));
         SignAs(6);
       },
       "the policies are version 6, and version 7 "},
      {"the same version with other files, signed",
       [&] {
         Write("a.json", Text("formerly.service"));
         SignAs(7);
       },
       "version 7 of the policies "},
      {"a key that is not trusted any more", [&] { Trust(stranger_); }, "is no signature of policies.manifest"},
      {"a key that is lost", [&] { fs::remove(root_ + "/key.pub"); }, "the trusted key " /* FILE: cannot read */},
      {"what was accepted is damaged", [&] { WriteTo(accepted_, "7 x"); }, "policies.accepted: is damaged"},
  };
  ASSERT_TRUE(Open().ok());
  const std::shared_ptr<const Policy> inForce = store_->Current();
  const std::string accepted = *evidence::ReadFile(accepted_);
  for (const Attack& attack : attacks) {
    attack.act();
    EXPECT_THAT(std::string(store_->Reload().message()), HasSubstr(attack.refusal)) << attack.name;
    EXPECT_FALSE(store_->lastError().ok()) << attack.name;
    EXPECT_EQ(store_->Current()->version(), 7) << attack.name;
    EXPECT_EQ(store_->Current()->digest(), inForce->digest()) << attack.name;
    // Nor does an agent start with it.
    const auto restarted = PolicyStore::Open(folder_, Options());
    EXPECT_THAT(std::string(restarted.status().message()), HasSubstr(attack.refusal)) << attack.name;

    Trust(key_);
    WriteTo(accepted_, accepted);
    Restore();
    EXPECT_TRUE(store_->Reload().ok()) << attack.name << store_->lastError();
  }
}

TEST_F(SignedPoliciesTest, FilesThatAreNotReadMayBeThere) {
  Write("README.txt", "nobody reads this");
  fs::create_directory(folder_ + "/old");
  EXPECT_TRUE(Open().ok());
}

TEST_F(SignedPoliciesTest, AnyOfTheKeysSigns) {
  WriteTo(root_ + "/other.pub", stranger_.PublicPem());
  PolicyStore::Options options = Options();
  options.trust->keys.push_back(root_ + "/other.pub");
  ASSERT_TRUE(Open(options).ok());
  ASSERT_TRUE(SignAs(folder_, 8, stranger_).ok());
  EXPECT_TRUE(store_->Reload().ok()) << store_->lastError();
  EXPECT_EQ(store_->Current()->version(), 8);
}

TEST_F(SignedPoliciesTest, ConfigurationsLeastVersionCountsOnANewNode) {
  PolicyStore::Options options = Options();
  options.trust->minimumVersion = 8;
  EXPECT_THAT(std::string(Open(options).message()), HasSubstr("version 7, and the configuration accepts none below 8"));
  EXPECT_FALSE(fs::exists(accepted_));
}

// What cannot be remembered could be taken back after a restart.
TEST_F(SignedPoliciesTest, NothingTakesForceThatCannotBeRemembered) {
  ASSERT_TRUE(Open().ok());
  const std::string text = *evidence::ReadFile(accepted_);
  fs::create_directories(accepted_ + ".new/in the way");
  SignAs(8);
  EXPECT_THAT(std::string(store_->Reload().message()),
              HasSubstr("the accepted version of the policies cannot be kept"));
  EXPECT_EQ(store_->Current()->version(), 7);
  fs::remove_all(accepted_ + ".new");
  EXPECT_TRUE(store_->Reload().ok());
  EXPECT_NE(*evidence::ReadFile(accepted_), text);
}

// The disk is in order again, and nothing in the folder tells.
TEST_F(SignedPoliciesTest, WhatCouldNotBeRememberedIsTriedAgain) {
  Reloads reloads;
  PolicyStore::Options options = Options();
  options.look = milliseconds(5);
  options.reloaded = reloads.Teller();
  ASSERT_TRUE(Open(options).ok());
  fs::create_directories(accepted_ + ".new/in the way");
  Write("b.json", R"({"topics": [{"name": "bills", "seal": {"scope": "topic"}, "read": []}]})");
  SignAs(8);
  // More often than what SignAs has done to the folder is seen.
  for (int time = 0; time < 10; ++time) ASSERT_TRUE(reloads.Await("cannot be kept"));
  EXPECT_FALSE(Has("bills"));
  fs::remove_all(accepted_ + ".new");
  EXPECT_TRUE(reloads.Await(""));
  EXPECT_TRUE(Has("bills"));
  store_.reset();  // before what it calls
}

// The agent that runs them knows their version, whatever becomes of the file.
TEST_F(SignedPoliciesTest, NothingReplacesWhatIsNewerWhereTheFileIsLost) {
  ASSERT_TRUE(Open().ok());
  SignAs(9);
  ASSERT_TRUE(store_->Reload().ok()) << store_->lastError();
  for (const char* file : {"", "9 damaged"}) {
    fs::remove(accepted_);
    if (*file != '\0') WriteTo(accepted_, file);
    SignAs(8);
    EXPECT_THAT(std::string(store_->Reload().message()), HasSubstr("are version 8, and version 9 is in force"));
    EXPECT_EQ(store_->Current()->version(), 9);
  }
  fs::remove(accepted_);
  Write("a.json", Text("formerly.service"));
  SignAs(9);
  EXPECT_THAT(std::string(store_->Reload().message()), HasSubstr("version 9 of the policies is in force with other"));
  SignAs(10);
  EXPECT_TRUE(store_->Reload().ok()) << store_->lastError();
}

// Who can touch the files would have all connections judge their topics again, as often as they like.
TEST_F(SignedPoliciesTest, TheSameAgainChangesNothing) {
  ASSERT_TRUE(Open().ok());
  const std::shared_ptr<const Policy> before = store_->Current();
  Restore();
  EXPECT_TRUE(store_->Reload().ok());
  EXPECT_EQ(store_->generation(), 1u);
  EXPECT_EQ(store_->Current(), before);
  Write("c.json", "{");
  EXPECT_FALSE(store_->Reload().ok());
  Remove("c.json");
  EXPECT_TRUE(store_->Reload().ok());
  EXPECT_TRUE(store_->lastError().ok());
  EXPECT_EQ(store_->generation(), 1u);
  SignAs(8);
  EXPECT_TRUE(store_->Reload().ok());
  EXPECT_EQ(store_->generation(), 2u) << "the same files as a later version";
}

// Before the reading has ended that found it damaged.
TEST_F(SignedPoliciesTest, WhatIsMendedWhileItIsReadIsSeen) {
  Reloads reloads;
  PolicyStore::Options options = Options();
  options.look = milliseconds(5);
  options.reloaded = reloads.Teller();
  std::atomic<bool> isMended = false;
  options.read = [&] {
    const auto text = evidence::ReadFile(accepted_);
    if (text.ok() && *text == "damaged") isMended = fs::remove(accepted_);
  };
  ASSERT_TRUE(Open(options).ok());
  WriteTo(accepted_, "damaged");
  EXPECT_TRUE(reloads.Await("is damaged"));
  EXPECT_TRUE(reloads.Await(""));
  EXPECT_TRUE(isMended);
  store_.reset();  // before what it calls
}

// So that it can be mended under the same number.
TEST_F(SignedPoliciesTest, VersionThatNeverTookForceIsNotRemembered) {
  ASSERT_TRUE(Open().ok());
  const std::string text = *evidence::ReadFile(accepted_);
  bundle::Manifest manifest;
  manifest.version = 8;
  manifest.created = "now";
  Write("a.json", R"({"topics": [{"nam": "clicks"}]})");
  for (const char* name : {"a.json", "b.json"}) {
    manifest.files[name] = evidence::Sha256Hex(*evidence::ReadFile(folder_ + "/" + name));
  }
  ASSERT_TRUE(bundle::Sign(folder_, manifest, key_).ok());
  EXPECT_THAT(std::string(store_->Reload().message()), HasSubstr("did you mean \"name\"?"));
  EXPECT_EQ(*evidence::ReadFile(accepted_), text);
  Write("a.json", Text("mended.service"));
  SignAs(8);
  EXPECT_TRUE(store_->Reload().ok()) << store_->lastError();
}

// As a kubelet does, in the middle of a reading.
TEST_F(SignedPoliciesTest, ConfigMapThatChangesWhileItIsReadIsReadAgain) {
  const std::string one = folder_ + "/..one", two = folder_ + "/..two";
  const auto move = [&](const std::string& to) {
    fs::create_directory(to);
    for (const char* name : {"a.json", "b.json", "users.txt", bundle::kManifestName, bundle::kSignatureName}) {
      fs::copy(folder_ + "/" + name, to + "/" + name);
    }
  };
  move(one);
  Write("users.txt", "40\n");
  SignAs(8);
  move(two);
  for (const char* name : {"a.json", "b.json", "users.txt", bundle::kManifestName, bundle::kSignatureName}) {
    Remove(name);
    fs::create_symlink(StrCat("..data/", name), folder_ + "/" + name);
  }
  fs::create_directory_symlink("..one", folder_ + "/..data");
  const auto swap = [&] {
    fs::create_directory_symlink("..two", folder_ + "/..data_tmp");
    fs::rename(folder_ + "/..data_tmp", folder_ + "/..data");
  };
  PolicyStore::Options options = Options();
  std::atomic<int> reads = 0;
  options.read = [&] {
    if (++reads == 1) swap();
  };
  ASSERT_TRUE(Open(options).ok());
  EXPECT_EQ(reads, 2);
  EXPECT_EQ(store_->Current()->version(), 8);
}

// Where inotify says nothing, as on a network file system.
TEST_F(SignedPoliciesTest, ChangesOfTheManifestAloneAreSeen) {
  for (const char* name : {bundle::kManifestName, bundle::kSignatureName}) {
    const std::string before = config::FolderFingerprint(folder_);
    Write(name, "changed");
    EXPECT_NE(config::FolderFingerprint(folder_), before) << name;
  }
}

// Neither is in the folder, whose changes inotify reports.
TEST_F(SignedPoliciesTest, ChangesOfKeysAndOfWhatWasAcceptedAreSeen) {
  Reloads reloads;
  PolicyStore::Options options = Options();
  options.look = milliseconds(5);
  options.reloaded = reloads.Teller();
  ASSERT_TRUE(Open(options).ok());
  Trust(stranger_);
  EXPECT_TRUE(reloads.Await("is no signature of"));
  Trust(key_);
  EXPECT_TRUE(reloads.Await(""));
  WriteTo(accepted_, "damaged");
  EXPECT_TRUE(reloads.Await("is damaged"));
  fs::remove(accepted_);
  EXPECT_TRUE(reloads.Await(""));
  EXPECT_TRUE(fs::exists(accepted_));
  store_.reset();  // before what it calls
}

}  // namespace
}  // namespace kveil::policy
