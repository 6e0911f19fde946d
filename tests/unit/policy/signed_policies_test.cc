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
  static void WriteTo(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
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
       "the policies are version 6, and version 7 was accepted before"},
      {"the same version with other files, signed",
       [&] {
         Write("a.json", Text("formerly.service"));
         SignAs(7);
       },
       "version 7 of the policies was accepted before with other files"},
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
  std::mutex mutex;
  std::condition_variable changed;
  absl::Status last;
  PolicyStore::Options options = Options();
  options.look = milliseconds(5);
  options.reloaded = [&](const absl::Status& status) {
    const std::lock_guard lock(mutex);
    last = status;
    changed.notify_all();
  };
  ASSERT_TRUE(Open(options).ok());
  const auto awaitOutcome = [&](const std::string& part) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(60), [&] {
      return part.empty() ? last.ok() : StrCat(last.message()).find(part) != std::string::npos;
    });
  };
  Trust(stranger_);
  EXPECT_TRUE(awaitOutcome("is no signature of"));
  Trust(key_);
  EXPECT_TRUE(awaitOutcome(""));
  WriteTo(accepted_, "damaged");
  EXPECT_TRUE(awaitOutcome("is damaged"));
  fs::remove(accepted_);
  EXPECT_TRUE(awaitOutcome(""));
  EXPECT_TRUE(fs::exists(accepted_));
  store_.reset();  // before what it calls
}

}  // namespace
}  // namespace kveil::policy
