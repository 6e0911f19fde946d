// The command line itself: help, and what becomes of mistakes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "command_fixture.h"
#include "keys/root/root_key_file.h"
#include "keys/service/key_service.h"

namespace kveil::cli {
namespace {

class CommandLineTest : public CommandTest {};

constexpr char kSoftHsm[] = "/usr/lib/softhsm/libsofthsm2.so";

// SoftHSM reads where its tokens are once per process.
class SoftTokens {
 public:
  SoftTokens() {
    char path[] = "/tmp/softhsm-XXXXXX";
    folder_ = mkdtemp(path);
    std::ofstream(folder_ + "/conf") << "directories.tokendir = " << folder_ << "\nlog.level = ERROR\n";
    setenv("SOFTHSM2_CONF", (folder_ + "/conf").c_str(), 1);
  }
  ~SoftTokens() { std::filesystem::remove_all(folder_); }

 private:
  std::string folder_;
} softTokens;

TEST_F(CommandLineTest, HelpsWithEverySubcommand) {
  const CommandResult all = Run({"--help"});
  EXPECT_EQ(all.exitStatus, 0);
  EXPECT_EQ(all.err, "");
  for (const std::string command :
       {"agent", "status", "reload", "config", "erase", "policy", "audit", "subject", "keys", "inspect", "detach"}) {
    EXPECT_NE(all.out.find("\n  " + command), std::string::npos) << command << " in\n" << all.out;
    const CommandResult one = Run({command, "--help"});
    EXPECT_EQ(one.exitStatus, 0) << command;
    EXPECT_EQ(one.err, "");
    EXPECT_NE(one.out.find("Example: kveil " + command), std::string::npos) << one.out;
  }
  EXPECT_NE(Run({"keys", "create-root", "--help"}).out.find("Example: kveil keys create-root"), std::string::npos);
  EXPECT_NE(Run({"policy", "check", "--help"}).out.find("Example: kveil policy check"), std::string::npos);
  EXPECT_NE(Run({"config", "show", "--help"}).out.find("Example: kveil config show"), std::string::npos);
}

TEST_F(CommandLineTest, TellsItsVersion) {
  const CommandResult result = Run({"--version"});
  EXPECT_EQ(result.exitStatus, 0);
  EXPECT_TRUE(result.out.starts_with("kveil ")) << result.out;
}

TEST_F(CommandLineTest, RefusesWhatItDoesNotKnow) {
  ExpectFailure(Run({}), 2, "A subcommand is required");
  ExpectFailure(Run({"frobnicate"}), 2, "kveil: there is no \"frobnicate\"");
  ExpectFailure(Run({"--frobnicate", "status"}), 2, "--frobnicate");
  ExpectFailure(Run({"status", "--frobnicate"}), 2, "--frobnicate");
  ExpectFailure(Run({"keys", "frobnicate"}), 2, "kveil: there is no \"frobnicate\"");
  ExpectFailure(Run({"erase", "--frobnicate"}), 2, "kveil: there is no \"--frobnicate\"");
  ExpectFailure(Run({"status", "too", "many"}), 2, "too");
  ExpectFailure(Run({"policy"}), 2, "A subcommand is required");
  ExpectFailure(Run({"agent", "--json"}), 2, "--json");
}

TEST_F(CommandLineTest, AsksForWhatIsMissing) {
  ExpectFailure(Run({"erase"}), 2, "--user");
  ExpectFailure(Run({"erase", "38"}), 2, "--user");
  ExpectFailure(Run({"erase", "--user"}), 2, "--user");
  ExpectFailure(Run({"inspect"}), 2, "VALUE");
}

TEST_F(CommandLineTest, MakesARootKeyFileAndReplacesNone) {
  const std::string path = folder_ + "/root.key";
  EXPECT_EQ(Run({"keys", "create-root", path}).exitStatus, 0);
  const absl::StatusOr<keys::RootKeyGeneration> key = keys::ReadRootKeyFile(path);
  ASSERT_TRUE(key.ok()) << key.status();
  ExpectFailure(Run({"keys", "create-root", path}), 1, StrCat(path, " exists"));
  EXPECT_TRUE(key->key.Equals(keys::ReadRootKeyFile(path)->key));
  ExpectFailure(Run({"keys", "create-root", folder_ + "/missing/root.key"}), 1, "/missing/root.key");
  ExpectFailure(Run({"keys", "create-root"}), 2, "FILE");
}

TEST_F(CommandLineTest, MakesALaterRootKeyFileAndLeavesTheFormerOne) {
  const std::string path = folder_ + "/root.key";
  const std::string next = folder_ + "/root.key.3";
  const auto first = keys::CreateRootKeyFile(path);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto advance = [&](const std::string& from, const std::string& generation, const std::string& to) {
    return Run({"keys", "advance-root", from, "--generation", generation, "--to", to});
  };
  EXPECT_EQ(advance(path, "3", next).exitStatus, 0);
  const auto third = keys::ReadRootKeyFile(next);
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(third->generation, 3u);
  EXPECT_TRUE(third->key.Equals(keys::DeriveGeneration(*first, 3)));
  // A wrong number costs nothing: the former file is what it was, and no file is ever replaced.
  EXPECT_TRUE(keys::ReadRootKeyFile(path)->key.Equals(first->key));
  for (const std::string& there : {path, next}) ExpectFailure(advance(path, "30", there), 1, StrCat(there, " exists"));
  EXPECT_TRUE(keys::ReadRootKeyFile(next)->key.Equals(third->key));
  for (const char* generation : {"3", "0", "200000"}) {
    ExpectFailure(advance(next, generation, folder_ + "/other"), 1, "generation");
  }
  ExpectFailure(advance(folder_ + "/missing", "1", folder_ + "/other"), 1, "missing");
  ExpectFailure(Run({"keys", "advance-root", path, "--generation", "3"}), 2, "--to");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/other"));
}

// For a root key that comes from elsewhere: an agent alone would take it for the key of a registry that was lost.
TEST_F(CommandLineTest, MakesARegistryAndReplacesNone) {
  const std::string root = folder_ + "/root.key";
  const std::string registry = folder_ + "/registry.db";
  const std::string config = Write(
      "agent.json", StrCat(R"({"intercept":{"targets":[{"cluster":"main","cidr":"192.0.2.0/24","ports":"9092"}]},)",
                           R"("keys":{"root":{"file":")", root, R"("},"registry":{"sqlite":")", registry, R"("}}})"));
  const std::vector<std::string> command = {"keys", "create-registry", "--config", config};
  ExpectFailure(Run(command), 1, "kveil keys create-root");
  EXPECT_FALSE(std::filesystem::exists(registry));
  ASSERT_EQ(Run({"keys", "create-root", root}).exitStatus, 0);
  keys::KeyServiceOptions options;
  options.root.file = root;
  options.registry.sqlite = registry;
  EXPECT_NE(std::string(keys::KeyService::Open(options).status().message()).find("kveil keys create-registry"),
            std::string::npos);
  const CommandResult made = Run(command);
  EXPECT_EQ(made.exitStatus, 0) << made.err;
  EXPECT_NE(made.out.find(registry), std::string::npos) << made.out;
  EXPECT_TRUE(keys::KeyService::Open(options).ok());
  ExpectFailure(Run(command), 1, "is left as it is");
  ExpectFailure(Run({"keys", "create-registry", "--config", folder_ + "/missing.json"}), 1, "missing.json");
}

TEST_F(CommandLineTest, ATokenMakesTheNextVersionOfAKey) {
  const auto shell = [](const std::string& command) { EXPECT_EQ(system(command.c_str()), 0) << command; };
  shell("softhsm2-util --init-token --free --label t --so-pin 0000 --pin 4321 > /dev/null");
  const std::string bytes = Write("aes", std::string(32, 'k'));
  for (const char* label : {"root", "orders"}) {
    shell(StrCat("softhsm2-util --import ", bytes, " --aes --token t --pin 4321 --id 01 --label ", label,
                 " > /dev/null"));
  }
  const std::string token =
      StrCat(R"("pkcs11": {"module": ")", kSoftHsm, R"(", "token": "t", "pinFile": ")", Write("pin", "4321\n"), "\"");
  const std::string intercept =
      R"({"intercept":{"targets":[{"cluster":"main","cidr":"192.0.2.0/24","ports":"9092"}]}, "keys": )";
  const std::string config = Write(
      "agent.json", StrCat(intercept, R"({"root": {)", token, R"(, "key": "root"}}, "keks": )", R"({"hsm": {)", token,
                           R"(}}, "v": {"vault": )", R"({"address": "https://v:1", "tokenFile": "/t"}}}}})"));
  const std::vector<std::string> command = {"keys", "make-version", "--config", config};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), command.begin(), command.end());
    return Run(std::move(more));
  };
  const CommandResult made = Run(command);
  EXPECT_EQ(made.exitStatus, 0) << made.err;
  const auto expectMade = [](const std::string& out, const std::string& label, const std::string& after) {
    EXPECT_THAT(out, testing::MatchesRegex(StrCat("made PKCS#11 key ", label,
                                                  " in token t: CKA_ID [0-9a-f]+. Agents wrap by it from now on; next: "
                                                  "kveil keys rotate",
                                                  after, "\n")));
  };
  expectMade(made.out, "root", "");
  EXPECT_NE(Run(command).out, made.out);
  const CommandResult kek = with({"--kek", "hsm/orders"});
  EXPECT_EQ(kek.exitStatus, 0) << kek.err;
  expectMade(kek.out, "orders", " --kek hsm/orders");
  ExpectFailure(with({"--kek", "hsm/clicks"}), 1, "there is no such AES key");
  ExpectFailure(with({"--kek", "hsm"}), 1, "name a KEK by PROVIDER/KEY");
  ExpectFailure(with({"--kek", "w/orders"}), 1, "there is no provider w");
  ExpectFailure(with({"--kek", "v/orders"}), 1, "the key is in no PKCS#11 token");
  const std::string file = Write("file.json", StrCat(intercept, R"({"root": {"file": "/nowhere"}}})"));
  ExpectFailure(Run({"keys", "make-version", "--config", file}), 1, "the key is in no PKCS#11 token");
}

TEST_F(CommandLineTest, FailsWithoutAConfiguration) {
  const std::string missing = folder_ + "/missing.json";
  ExpectFailure(Run({"config", "show", "--config", missing}), 1, "kveil config show: " + missing);
  for (const std::string command : {"agent", "status", "reload", "detach"}) {
    const CommandResult result = Run({command, "--config", missing});
    ExpectFailure(result, 1, missing);
    EXPECT_TRUE(result.err.starts_with("kveil " + command + ": ")) << result.err;
  }
  ExpectFailure(Run({"erase", "--user", "38", "--config", missing}), 1, missing);
  ExpectFailure(Run({"status", "--config", folder_ + "/two\nlines"}), 1, "/two lines");
  ExpectFailure(Run({"policy", "check", "--config", missing}), 1, missing);
}

TEST_F(CommandLineTest, SaysWhatIsWrongWithAConfiguration) {
  const std::string bad = Write("agent.json", R"({"intercept": {"targets": []}})");
  for (const std::string command : {"agent", "detach"}) {
    ExpectFailure(Run({command, "--config", bad}), 1, StrCat(bad, ": /intercept/targets"));
  }
}

TEST_F(CommandLineTest, ShowsAConfigurationThatIsOneItself) {
  const std::string config = Write("agent.json", R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8",
      "ports": "9092"}]}, "policies": "topics", "log": {"level": "debug"}})");
  const CommandResult shown = Run({"config", "show", "--config", config});
  EXPECT_EQ(shown.exitStatus, 0) << shown.err;
  EXPECT_NE(shown.out.find(StrCat("\"policies\": \"", folder_, "/topics\"")), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("\"drainTimeout\": \"10s\""), std::string::npos) << shown.out;
  EXPECT_EQ(Run({"config", "show", "--config", Write("again/agent.json", shown.out)}).out, shown.out);
  ExpectFailure(Run({"config", "show", "--config", Write("bad.json", "{")}), 1, "bad.json: line 1");
}

TEST_F(CommandLineTest, ReadsWhatAnAgentWouldReadAndChangesNothing) {
  const auto config = [&](const std::string& more) {
    return Write("agent.json", StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports":
        "9092"}]}, "policies": ")",
                                      folder_, "/policies\"", more, "}"));
  };
  const auto filesAreGood = [](const CommandResult& result) {
    return result.out.find("agent.json: good, with 1 policy file ") != std::string::npos;
  };
  const std::string missing = folder_ + "/ca.pem";
  const std::string tls = StrCat(R"(, "clusters": {"main": {"tls": {"ca": ")", missing, "\"}}}");
  ExpectFailure(Run({"agent", "--check", "--config", config("")}), 1, folder_ + "/policies");
  std::filesystem::create_directory(folder_ + "/policies");
  Write("policies/good.json", R"({"topics": [{"name": "clicks", "seal": {"scope": "topic"}}]})");
  const CommandResult good = Run({"agent", "--check", "--config", config("")});
  EXPECT_TRUE(filesAreGood(good)) << good.out << good.err;
  const CommandResult without = Run({"agent", "--check", "--config", config(tls)});  // and a line of the log
  EXPECT_EQ(without.exitStatus, 1);
  EXPECT_NE(without.err.find("TLS of cluster main: " + missing + ": cannot be read"), std::string::npos);
  const auto pkcs11 = [&](const std::string& module, const std::string& pinFile) {
    return StrCat(R"(, "keys": {"root": {"pkcs11": {"module": ")", module,
                  R"(", "token": "t", "key": "k", "pinFile": ")", pinFile, "\"}}}");
  };
  ExpectFailure(Run({"agent", "--check", "--config", config(pkcs11("/nowhere.so", "/nowhere.pin"))}), 1,
                "PKCS#11 module /nowhere.so");
  const std::string module = kSoftHsm;
  ExpectFailure(Run({"agent", "--check", "--config", config(pkcs11(module, "/nowhere.pin"))}), 1, "/nowhere.pin");
  const CommandResult token = Run({"agent", "--check", "--config", config(pkcs11(module, Write("pin", "4321\n")))});
  EXPECT_TRUE(filesAreGood(token)) << token.out << token.err;
  Write("policies/broken.json", "{");
  ExpectFailure(Run({"agent", "--check", "--config", config("")}), 1, "broken.json");
}

// Makes io_uring_setup fail in this process and those that it starts, as kernel.io_uring_disabled=2 does.
void ForbidIoUring() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = std::size(filter), .filter = filter};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

TEST_F(CommandLineTest, SaysWhatOfTheMachineKeepsAnAgentFromRunning) {
  std::filesystem::create_directory(folder_ + "/policies");
  Write("policies/good.json", R"({"topics": [{"name": "clicks", "seal": {"scope": "topic"}}]})");
  const std::string config =
      Write("agent.json", StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8",
      "ports": "9092"}]}, "policies": ")",
                                 folder_, "/policies\"}"));
  CommandResult result;
  std::thread([&] {  // a filter is the thread's own
    ForbidIoUring();
    result = Run({"agent", "--check", "--config", config});
  })
      .join();
  if (::geteuid() != 0) {  // who could not run an agent anyhow
    EXPECT_NE(result.out.find("was not checked"), std::string::npos) << result.out;
    return;
  }
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_NE(result.err.find("no agent can run on this machine: "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("io_uring"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace kveil::cli
