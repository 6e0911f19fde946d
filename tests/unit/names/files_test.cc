// What a workload's files say, and what is taken for a file.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/text.h"
#include "base/unique_fd.h"
#include "names/hosts_file.h"
#include "names/resolver_config.h"
#include "names/workload_files.h"

namespace kveil::names {
namespace {

using Texts = std::vector<std::string>;

Texts Find(std::string_view file, const std::string& name) {
  absl::flat_hash_map<std::string, Addresses> wanted;
  wanted[name];
  FindInHosts(file, wanted);
  Texts texts;
  for (const SocketAddress& address : wanted[name]) texts.push_back(address.AddressText());
  return texts;
}

TEST(HostsFileTest, HasEveryAddressOfAName) {
  constexpr std::string_view kFile =
      "# brokers\n"
      "10.0.0.1 b1.internal b1 # the first\r\n"
      "\t10.0.0.2\tB1\n"
      "fd00::1 b1\n"
      "10.0.0.3 b2 #b1\n"
      "no-address b1\n"
      "10.0.0.4\n"
      "10.0.0.5 b1";
  EXPECT_EQ(Find(kFile, "b1"), (Texts{"10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.5"}));
  EXPECT_EQ(Find(kFile, "b1.internal"), Texts{"10.0.0.1"});
  EXPECT_EQ(Find(kFile, "b3"), Texts());
  EXPECT_EQ(Find("", "b1"), Texts());
  EXPECT_EQ(Comparable("B1.Internal."), "b1.internal");
}

TEST(ResolverConfigTest, IsReadAsCLibrariesReadIt) {
  const ResolverConfig config = ParseResolverConfig(
      "; by hand\n"
      "domain old.example\n"
      "search a.example b.example. ..\n"
      "nameserver 10.96.0.10 # cluster\n"
      "nameserver what\n"
      "nameserver fd00::10\n"
      "nameserver 10.0.0.1\n"
      "nameserver 10.0.0.2\n"
      "options timeout:9 ndots:5 rotate\n");
  EXPECT_EQ(config.servers, (Texts{"10.96.0.10", "fd00::10", "10.0.0.1"})) << "three at most";
  EXPECT_EQ(config.domains, (Texts{"a.example", "b.example"})) << "the last line of them counts";
  EXPECT_EQ(config.dots, 5);
  EXPECT_EQ(ParseResolverConfig("options ndots:99").dots, ResolverConfig::kMostDots);
  EXPECT_EQ(ParseResolverConfig("").servers, Texts{"127.0.0.1"});
  EXPECT_EQ(ParseResolverConfig("").dots, 1);
}

TEST(NsswitchTest, SaysWhatComesFirst) {
  EXPECT_FALSE(AsksServersFirst(""));
  EXPECT_FALSE(AsksServersFirst("passwd: dns files\nhosts: files mdns4_minimal [NOTFOUND=return] dns\n"));
  EXPECT_FALSE(AsksServersFirst("hosts: files\n"));
  EXPECT_TRUE(AsksServersFirst("hosts: dns files\n"));
  EXPECT_TRUE(AsksServersFirst("hosts: resolve [!UNAVAIL=return] files dns\n"));
}

// A root directory as a workload may have made it.
class WorkloadFilesTest : public testing::Test {
 protected:
  WorkloadFilesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kveil-root-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
    std::filesystem::create_directory(root_ / "etc");
    fd_ = UniqueFd(::open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  ~WorkloadFilesTest() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, std::string_view text) { std::ofstream(root_ / path) << text; }
  void ExpectRefused(const std::string& why) {
    const absl::Status status = ReadFilesIn(fd_.get()).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(why));
  }

  std::filesystem::path root_;
  UniqueFd fd_;
};

TEST_F(WorkloadFilesTest, AreReadWhereTheyAre) {
  EXPECT_EQ(ReadFilesIn(fd_.get())->hosts, "");
  Write("etc/hosts", "10.0.0.1 b1\n");
  Write("etc/nsswitch.conf", "hosts: files\n");
  std::filesystem::create_directory(root_ / "run");
  Write("run/resolv.conf", "nameserver 10.0.0.9\n");
  std::filesystem::create_symlink("/run/resolv.conf", root_ / "etc/resolv.conf");
  const auto files = ReadFilesIn(fd_.get());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->hosts, "10.0.0.1 b1\n");
  EXPECT_EQ(files->nsswitch, "hosts: files\n");
  EXPECT_EQ(files->resolverConfig, "nameserver 10.0.0.9\n") << "its link counts from its root";
}

TEST_F(WorkloadFilesTest, AreNotWhatIsOutsideItsRoot) {
  Write("etc/hosts", "inside\n");
  std::filesystem::create_symlink("../../../../../../etc/hosts", root_ / "etc/resolv.conf");
  EXPECT_EQ(ReadFilesIn(fd_.get())->resolverConfig, "inside\n") << "a root has no parent";
}

TEST_F(WorkloadFilesTest, AreNoFifoNoDirectoryAndNothingEndless) {
  ASSERT_EQ(::mkfifo((root_ / "etc/hosts").c_str(), 0600), 0);
  ExpectRefused("/etc/hosts is no regular file");
  std::filesystem::remove(root_ / "etc/hosts");
  std::filesystem::create_directory(root_ / "etc/hosts");
  ExpectRefused("/etc/hosts is no regular file");
  std::filesystem::remove(root_ / "etc/hosts");
  std::filesystem::create_symlink("hosts", root_ / "etc/hosts");
  ExpectRefused("/etc/hosts cannot be looked at");
  std::filesystem::remove(root_ / "etc/hosts");
  Write("etc/hosts", "");
  std::filesystem::resize_file(root_ / "etc/hosts", 5 << 20);
  ExpectRefused("/etc/hosts is longer than");
}

// As if the workload had mounted it there.
TEST_F(WorkloadFilesTest, AreNothingOfTheKernels) {
  const UniqueFd proc(::open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(ReadFilesIn(proc.get())->hosts, "");
  std::filesystem::create_symlink("/proc/self/environ", root_ / "etc/hosts");
  EXPECT_EQ(ReadFilesIn(fd_.get())->hosts, "") << "there is no /proc in this root";
  const UniqueFd real(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  EXPECT_TRUE(ReadFilesIn(real.get()).ok());
}

TEST(WorkloadFilesOfProcessTest, AreOnlyThoseOfAProcessInThatNamespace) {
  struct stat own;
  ASSERT_EQ(::stat("/proc/self/ns/net", &own), 0);
  EXPECT_TRUE(ReadWorkloadFiles(::getpid(), own.st_ino).ok());
  EXPECT_TRUE(absl::IsNotFound(ReadWorkloadFiles(::getpid(), own.st_ino + 1).status()));
  EXPECT_TRUE(absl::IsNotFound(ReadWorkloadFiles(0x3FFFFFFF, own.st_ino).status()));
  EXPECT_NE(ViewOf(::getpid()), "");
  EXPECT_EQ(ViewOf(0x3FFFFFFF), "");
}

}  // namespace
}  // namespace kveil::names
