// The policies in force follow their folder, and stay when what is there is broken.
#include "policy/policy_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "config/kek_config.h"
#include "policy/policy_files.h"

namespace kveil::policy {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

// Waits for the store to have reloaded, up to a limit that only a failure meets.
class Reloads {
 public:
  std::function<void(const absl::Status&)> Counter() {
    return [this](const absl::Status& status) {
      std::lock_guard lock(mutex_);
      ++count_;
      last_ = status;
      changed_.notify_all();
    };
  }
  // Until `done` holds after some reload.
  template <typename Done>
  bool Await(Done done) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), done);
  }
  int count() {
    std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
  absl::Status last_;
};

class PolicyStoreTest : public ::testing::Test {
 protected:
  PolicyStoreTest() {
    fs::create_directories(folder_);
    Write("a.json", Topic("first"));
  }
  ~PolicyStoreTest() override {
    store_.reset();
    fs::remove_all(root_);
  }

  static std::string Topic(const std::string& name) {
    return R"({"topics": [{"name": ")" + name + R"(", "read": []}]})";
  }
  void Write(const std::string& name, const std::string& text) { WriteTo(folder_ + "/" + name, text); }
  static void WriteTo(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

  void Open(milliseconds look = std::chrono::hours(1)) {
    auto store = PolicyStore::Open(folder_, {.quiet = milliseconds(20), .look = look, .reloaded = reloads_.Counter()});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  bool Has(const std::string& topic) { return store_->Current()->Find(topic) != nullptr; }
  bool AwaitTopic(const std::string& topic) {
    return reloads_.Await([&] { return Has(topic); });
  }
  bool AwaitError() {
    return reloads_.Await([&] { return !store_->lastError().ok(); });
  }

  std::string root_ = ::testing::TempDir() + "policy-store-" + std::to_string(::getpid());
  std::string folder_ = root_ + "/policies";
  Reloads reloads_;
  std::unique_ptr<PolicyStore> store_;
};

TEST_F(PolicyStoreTest, AddedFileTakesForce) {
  Open();
  EXPECT_EQ(store_->generation(), 1u);
  Write("b.json", Topic("second"));
  EXPECT_TRUE(AwaitTopic("second"));
  EXPECT_TRUE(Has("first"));
  EXPECT_GE(store_->generation(), 2u);
}

TEST_F(PolicyStoreTest, PoliciesThatDoNotFitTheAgentAreRefused) {
  PolicyStore::Options options{.quiet = std::chrono::hours(1)};
  options.fits = [](const Policy& policy) {
    return CheckKekProviders(policy, std::vector<config::KekProviderConfig>{{"known", {}}});
  };
  const auto kek = [](const std::string& provider) {
    return R"({"topics": [{"name": "k", "seal": {"scope": "topic", "kek": {"key": "k", "provider": ")" + provider +
           "\"}}}]}";
  };
  Write("b.json", kek("known"));
  auto store = PolicyStore::Open(folder_, options);
  ASSERT_TRUE(store.ok()) << store.status();
  Write("b.json", kek("unknown"));
  Write("c.json", Topic("third"));
  EXPECT_EQ((*store)->Reload().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*store)->Current()->Find("third"), nullptr) << "the ones before stay in force, all of them";
  EXPECT_EQ((*store)->Current()->Find("k")->seal->kek->provider, "known");
}

// As the operator would compute it, from the same folder or a copy of it.
std::string DigestBySha256sum(const std::string& folder) {
  const std::string command = "cd '" + folder + "' && sha256sum *.json *.txt | LC_ALL=C sort -k 2 | sha256sum";
  FILE* const pipe = ::popen(command.c_str(), "r");
  char digits[65] = {};
  EXPECT_EQ(std::fread(digits, 1, 64, pipe), 64u);
  ::pclose(pipe);
  return digits;
}

TEST_F(PolicyStoreTest, DigestIsThatOfTheFilesThatWereRead) {
  Write("a.json", R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [
      {"any": true, "where": {"users": {"file": "users.txt"}}}]}]})");
  Write("users.txt", "38\n");
  Write("Z.json", Topic("second"));
  Open();
  const std::string first = store_->Current()->digest();
  EXPECT_EQ(first, DigestBySha256sum(folder_));

  Write("notes.txt", "nobody reads this");
  ASSERT_TRUE(store_->Reload().ok());
  EXPECT_EQ(store_->Current()->digest(), first);
  for (const auto& [name, text] :
       {std::pair("users.txt", "39\n"), std::pair("Z.json", R"({"topics": [{"name": "third", "read": []}]})")}) {
    const std::string before = store_->Current()->digest();
    Write(name, text);
    ASSERT_TRUE(store_->Reload().ok());
    EXPECT_NE(store_->Current()->digest(), before) << name;
  }
  const std::string before = store_->Current()->digest();
  fs::rename(folder_ + "/Z.json", folder_ + "/z.json");
  ASSERT_TRUE(store_->Reload().ok());
  EXPECT_NE(store_->Current()->digest(), before) << "of the names, too";
}

// What was parsed and what the digest is of would not be the same.
TEST_F(PolicyStoreTest, FileThatIsReadTwiceHasTheSameBytes) {
  PolicyFiles files;
  EXPECT_TRUE(files.Add("/p/users.txt", "38\n").ok());
  EXPECT_TRUE(files.Add("/p/users.txt", "38\n").ok());
  EXPECT_THAT(std::string(files.Add("/p/users.txt", "39\n").message()),
              HasSubstr("/p/users.txt: it changed while the policies were read"));
}

TEST_F(PolicyStoreTest, RemovedFileEndsItsTopics) {
  Write("b.json", Topic("second"));
  Open();
  fs::remove(folder_ + "/b.json");
  EXPECT_TRUE(reloads_.Await([&] { return !Has("second"); }));
  EXPECT_TRUE(Has("first"));
}

TEST_F(PolicyStoreTest, EditorThatRenamesOverTheFileIsSeen) {
  Open();
  Write(".a.json.swp", Topic("edited"));
  fs::rename(folder_ + "/a.json", folder_ + "/a.json~");
  fs::rename(folder_ + "/.a.json.swp", folder_ + "/a.json");
  EXPECT_TRUE(AwaitTopic("edited"));
  EXPECT_FALSE(Has("first"));
}

TEST_F(PolicyStoreTest, ConfigMapSwapOfItsDataLinkIsSeen) {
  fs::remove(folder_ + "/a.json");
  fs::create_directory(folder_ + "/..one");
  fs::create_directory(folder_ + "/..two");
  WriteTo(folder_ + "/..one/a.json", Topic("one"));
  WriteTo(folder_ + "/..two/a.json", Topic("two"));
  fs::create_directory_symlink("..one", folder_ + "/..data");
  fs::create_symlink("..data/a.json", folder_ + "/a.json");
  Open();
  EXPECT_TRUE(Has("one"));
  fs::create_directory_symlink("..two", folder_ + "/..data_tmp");
  fs::rename(folder_ + "/..data_tmp", folder_ + "/..data");
  EXPECT_TRUE(AwaitTopic("two"));
  EXPECT_FALSE(Has("one"));
}

TEST_F(PolicyStoreTest, FolderThatIsExchangedIsSeenAndFollowed) {
  Open();
  fs::create_directory(root_ + "/next");
  WriteTo(root_ + "/next/a.json", Topic("next"));
  fs::rename(folder_, root_ + "/old");
  fs::rename(root_ + "/next", folder_);
  EXPECT_TRUE(AwaitTopic("next"));
  Write("b.json", Topic("later"));
  EXPECT_TRUE(AwaitTopic("later"));
}

TEST_F(PolicyStoreTest, BrokenFileLeavesTheOldOnesInForce) {
  Open();
  Write("b.json", R"({"topics": [{"name": "second", "raed": []}]})");
  ASSERT_TRUE(AwaitError());
  EXPECT_TRUE(Has("first"));
  EXPECT_FALSE(Has("second"));
  EXPECT_EQ(store_->generation(), 1u);
  EXPECT_THAT(std::string(store_->lastError().message()), HasSubstr("/b.json: /topics/0/raed: unknown key"));

  Write("b.json", Topic("second"));
  EXPECT_TRUE(AwaitTopic("second"));
  EXPECT_TRUE(store_->lastError().ok());
  EXPECT_EQ(store_->generation(), 2u);
}

TEST_F(PolicyStoreTest, PoliciesBeyondTheirBoundsLeaveTheOldOnesInForce) {
  Open();
  std::string many;
  for (int i = 0; i < 1001; ++i) {
    many += (i == 0 ? "" : ",") + (R"({"pattern": "second-)" + std::to_string(i)) + R"(", "read": []})";
  }
  Write("b.json", R"({"topics": [)" + many + "]}");
  ASSERT_TRUE(AwaitError());
  EXPECT_TRUE(Has("first"));
  EXPECT_FALSE(Has("second-1"));
  EXPECT_EQ(store_->generation(), 1u);
  EXPECT_THAT(std::string(store_->lastError().message()), HasSubstr("have 1001 entries with a \"pattern\""));
}

TEST_F(PolicyStoreTest, EmptiedAndRemovedFoldersLeaveTheOldOnesInForce) {
  Open();
  fs::remove(folder_ + "/a.json");
  ASSERT_TRUE(AwaitError());
  EXPECT_TRUE(Has("first"));
  fs::remove_all(folder_);
  fs::create_directory(folder_);
  Write("a.json", Topic("again"));
  EXPECT_TRUE(AwaitTopic("again"));
}

TEST_F(PolicyStoreTest, ManyStepsOfOneChangeAreReadOnce) {
  Open();
  const std::string staging = root_ + "/staging.json";
  for (int i = 0; i < 200; ++i) {
    WriteTo(staging, Topic("many" + std::to_string(i)));
    fs::rename(staging, folder_ + "/many" + std::to_string(i) + ".json");
  }
  ASSERT_TRUE(AwaitTopic("many199"));
  EXPECT_LT(reloads_.count(), 20);
}

TEST_F(PolicyStoreTest, WhatInotifyCannotSeeIsFoundByLooking) {
  WriteTo(root_ + "/elsewhere.json", Topic("before"));
  fs::create_symlink(root_ + "/elsewhere.json", folder_ + "/link.json");
  Open(milliseconds(20));
  ASSERT_TRUE(Has("before"));
  WriteTo(root_ + "/elsewhere.json", Topic("behind-the-link"));
  EXPECT_TRUE(AwaitTopic("behind-the-link"));
}

class UserListStoreTest : public PolicyStoreTest {
 protected:
  UserListStoreTest() {
    Write("a.json", R"({"topics": [{"name": "t", "seal": {"scope": "user", "user": {"key": true}}, "read": [
        {"any": true, "where": {"users": {"file": "users.txt"}}}]}]})");
    Write("users.txt", "38\n");
  }
  bool Lists(const std::string& user) { return store_->Current()->Find("t")->rules->NumberOf(user).has_value(); }
};

TEST_F(UserListStoreTest, AListIsReadAgainWhenItChanges) {
  Open();
  WriteTo(root_ + "/next.txt", "39\n");
  fs::rename(root_ + "/next.txt", folder_ + "/users.txt");
  EXPECT_TRUE(reloads_.Await([&] { return Lists("39"); }));
  EXPECT_FALSE(Lists("38"));
}

TEST_F(UserListStoreTest, AChangeOfAListThatInotifyCannotSeeIsFoundByLooking) {
  fs::remove(folder_ + "/users.txt");
  WriteTo(root_ + "/elsewhere.txt", "38\n");
  fs::create_symlink(root_ + "/elsewhere.txt", folder_ + "/users.txt");
  Open(milliseconds(20));
  WriteTo(root_ + "/elsewhere.txt", "39\n40\n");
  EXPECT_TRUE(reloads_.Await([&] { return Lists("40"); }));
}

TEST_F(UserListStoreTest, ALostOrBrokenListLeavesTheOldOneInForce) {
  Open();
  fs::remove(folder_ + "/users.txt");
  ASSERT_TRUE(AwaitError());
  EXPECT_TRUE(Lists("38"));
  EXPECT_THAT(std::string(store_->lastError().message()), HasSubstr("/users.txt: cannot read"));
  Write("users.txt", "39\n");
  EXPECT_TRUE(reloads_.Await([&] { return store_->lastError().ok() && Lists("39"); }));
  Write("users.txt", " 40\n");
  ASSERT_TRUE(AwaitError());
  EXPECT_TRUE(Lists("39"));
}

// Kubernetes exchanges all files of a ConfigMap at once: between two reads, as well as at any other time.
TEST_F(PolicyStoreTest, ReadsAgainWhatHasChangedWhileItWasRead) {
  int reads = 0;
  const auto change = [&] {
    if (++reads == 2) Write("a.json", Topic("changed-meanwhile"));
  };
  auto store = PolicyStore::Open(folder_, {.quiet = std::chrono::hours(1), .read = change});
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Reload().ok());
  EXPECT_EQ(reads, 3);
  EXPECT_EQ((*store)->Current()->Find("first"), nullptr);
  EXPECT_NE((*store)->Current()->Find("changed-meanwhile"), nullptr);
}

TEST_F(PolicyStoreTest, KeepsTheOldOnesWhileTheFolderDoesNotSettle) {
  int reads = 0;
  const auto change = [&] {
    if (++reads > 1) Write("a.json", Topic(std::string(static_cast<size_t>(reads), 'x')));
  };
  auto store = PolicyStore::Open(folder_, {.quiet = std::chrono::hours(1), .read = change});
  ASSERT_TRUE(store.ok()) << store.status();
  const absl::Status status = (*store)->Reload();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("changes again and again while it is read"));
  EXPECT_LT(reads, 10);
  EXPECT_NE((*store)->Current()->Find("first"), nullptr);
}

TEST_F(PolicyStoreTest, MissingEmptyAndBrokenFoldersDoNotOpen) {
  EXPECT_EQ(PolicyStore::Open(root_ + "/none", {}).status().code(), absl::StatusCode::kNotFound);
  fs::create_directory(root_ + "/empty");
  EXPECT_EQ(PolicyStore::Open(root_ + "/empty", {}).status().code(), absl::StatusCode::kNotFound);
  Write("a.json", "{");
  EXPECT_EQ(PolicyStore::Open(folder_, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(PolicyStoreTest, HeldPolicySurvivesItsSuccessor) {
  Open();
  const std::shared_ptr<const Policy> held = store_->Current();
  Write("a.json", Topic("successor"));
  ASSERT_TRUE(store_->Reload().ok());
  EXPECT_NE(held->Find("first"), nullptr);
  EXPECT_EQ(store_->Current()->Find("first"), nullptr);
}

}  // namespace
}  // namespace kveil::policy
