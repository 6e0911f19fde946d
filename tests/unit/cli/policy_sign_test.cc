// `kveil policy keygen`, `sign` and `verify`.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "absl/strings/escaping.h"
#include "bundle/accepted_version.h"
#include "bundle/signature.h"
#include "command_fixture.h"
#include "evidence/signing_key.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

class PolicySignTest : public CommandTest {
 protected:
  PolicySignTest() {
    Write("policies/a.json", R"({"topics": [{"name": "clicks", "seal": {"scope": "user", "user": {"key": true}},
        "read": [{"any": true, "where": {"users": {"file": "users.txt"}}}]}]})");
    Write("policies/users.txt", "38\n");
  }
  CommandResult Sign(const std::string& version) {
    return Run({"policy", "sign", "--key", key_, "--version", version, policies_});
  }
  CommandResult Verify(const std::string& key) { return Run({"policy", "verify", "--key", key, policies_}); }

  std::string Config(const std::string& policies) {
    return Write("agent.json",
                 R"({"intercept": {"targets": [{"cluster": "a", "cidr": "192.0.2.0/24", "ports": "9092"}]},
        "keys": {"registry": {"sqlite": "registry.db"}}, "policies": )" +
                     policies + "}");
  }

  const std::string policies_ = folder_ + "/policies";
  const std::string key_ = folder_ + "/signing.key";
};

TEST_F(PolicySignTest, FolderIsSignedAndVerified) {
  const CommandResult made = Run({"policy", "keygen", key_});
  EXPECT_EQ(made.exitStatus, 0) << made.err;
  struct stat facts;
  ASSERT_EQ(::stat(key_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);

  const CommandResult sign = Sign("7");
  EXPECT_EQ(sign.exitStatus, 0) << sign.err;
  EXPECT_NE(sign.out.find(policies_ + ": version 7 of 20"), std::string::npos) << sign.out;
  EXPECT_NE(sign.out.find("\n  a.json\n  users.txt\n"), std::string::npos) << sign.out;
  const CommandResult verified = Verify(key_ + ".pub");
  EXPECT_EQ(verified.exitStatus, 0) << verified.err;
  EXPECT_EQ(verified.out, sign.out);
  const Json json = Json::parse(Run({"policy", "verify", "--json", "--key", key_ + ".pub", policies_}).out);
  EXPECT_EQ(json["version"], 7);
  EXPECT_NE(sign.out.find("SHA-256 " + json["digest"].get<std::string>() + "\n"), std::string::npos);

  Write("policies/users.txt", "39\n");
  ExpectFailure(Verify(key_ + ".pub"), 1, "users.txt: is not the file that was signed as version 7");
}

TEST_F(PolicySignTest, KeysAreNeverReplaced) {
  Write("signing.key", "mine");
  ExpectFailure(Run({"policy", "keygen", key_}), 1, "signing.key exists, and is left as it is");
  std::filesystem::remove(key_);
  Write("signing.key.pub", "mine");
  ExpectFailure(Run({"policy", "keygen", key_}), 1, "signing.key.pub exists, and is left as it is");
  EXPECT_FALSE(std::filesystem::exists(key_));
}

TEST_F(PolicySignTest, WhatCannotBeSignedIsNot) {
  ExpectFailure(Sign("7"), 1, "signing.key");
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  for (const char* version : {"0", "-1", "9007199254740992"}) ExpectFailure(Sign(version), 1, "a version is a number");
  std::filesystem::permissions(key_, std::filesystem::perms::owner_read | std::filesystem::perms::group_read);
  ExpectFailure(Sign("7"), 1, "chmod 600");
  std::filesystem::permissions(key_, std::filesystem::perms::owner_read);
  std::filesystem::create_symlink(key_, key_ + ".link");
  ExpectFailure(Run({"policy", "sign", "--key", key_ + ".link", "--version", "7", policies_}), 1,
                "name the file itself");
  Write("policies/\xff.json", R"({"topics": [{"name": "orders", "read": []}]})");
  ExpectFailure(Sign("7"), 1, "\"\\377.json\" is no name of a file");
  std::filesystem::remove(policies_ + "/\xff.json");
  Write("policies/b.json", "{");
  ExpectFailure(Sign("7"), 1, "b.json: ");
  EXPECT_FALSE(std::filesystem::exists(policies_ + "/policies.manifest"));
}

TEST_F(PolicySignTest, ConfigurationsKeysAndFolderAreTheDefault) {
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  const std::string trusting = Config(R"({"folder": "policies", "trustedKeys": ["signing.key.pub"]})");
  const auto check = [&] { return Run({"agent", "--check", "--config", trusting}); };
  ExpectFailure(Run({"policy", "verify", "--config", trusting}), 1, "policies.manifest: there is none");
  EXPECT_NE(check().err.find("policies.manifest: there is none"), std::string::npos) << "as an agent would not start";
  ASSERT_EQ(Sign("7").exitStatus, 0);
  EXPECT_EQ(Run({"policy", "verify", "--config", trusting}).exitStatus, 0);
  EXPECT_EQ(check().err.find("policies.manifest"), std::string::npos) << check().err;
  const auto explain = [&](const std::string& file) {
    return Run({"policy", "explain", "--config", file, "--workload", "unit=a.service", "--topic", "clicks"});
  };
  EXPECT_EQ(explain(trusting).exitStatus, 0) << explain(trusting).err;
  const CommandResult unverified = Run({"policy", "check", "--config", trusting});
  EXPECT_EQ(unverified.exitStatus, 0);
  EXPECT_NE(unverified.err.find("does not look at signatures"), std::string::npos) << unverified.err;
  Write("policies/b.json", R"({"topics": []})");
  ExpectFailure(explain(trusting), 1, "b.json: is not in policies.manifest");
  std::filesystem::remove(policies_ + "/b.json");

  ExpectFailure(Run({"policy", "verify", "--config", Config(R"("policies")")}), 1, "name a key with --key");
}

// So that a rollout does not find out on every node at once.
TEST_F(PolicySignTest, ChecksSayWhatAnAgentOfThisNodeWouldRefuse) {
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  ASSERT_EQ(Sign("7").exitStatus, 0);
  const auto refusals = [&](const std::string& more) {
    const std::string config = Config(R"({"folder": "policies", "trustedKeys": ["signing.key.pub"])" + more + "}");
    const std::vector<std::vector<std::string>> commands = {
        {"agent", "--check", "--config", config},
        {"policy", "verify", "--config", config},
        {"policy", "explain", "--config", config, "--workload", "unit=a.service", "--topic", "clicks"},
    };
    std::vector<std::string> said;
    for (const std::vector<std::string>& command : commands) said.push_back(Run(command).err);
    return said;
  };
  for (const std::string& said : refusals("")) EXPECT_EQ(said.find("version 7"), std::string::npos) << said;
  for (const std::string& said : refusals(R"(, "minimumVersion": 8)")) {
    EXPECT_NE(said.find("version 7, and the configuration accepts none below 8"), std::string::npos) << said;
  }
  ASSERT_TRUE(bundle::AcceptedVersion(folder_ + "/policies.accepted", 0).Remember(8, std::string(64, 'a')).ok());
  for (const std::string& said : refusals("")) {
    EXPECT_NE(said.find("version 7, and version 8 was accepted before"), std::string::npos) << said;
  }
  EXPECT_EQ(Verify(key_ + ".pub").exitStatus, 0) << "of no node";
}

TEST_F(PolicySignTest, VersionsThatDoNotGrowAreWarnedOf) {
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  for (const char* version : {"7", "7", "8"}) EXPECT_EQ(Sign(version).err, "");
  const CommandResult lower = Sign("7");
  EXPECT_EQ(lower.exitStatus, 0);
  EXPECT_NE(lower.err.find("warning: version 8 is in the folder already"), std::string::npos) << lower.err;
}

TEST_F(PolicySignTest, SignedFolderIsPacked) {
  const std::string bundle = folder_ + "/policies.bundle";
  const auto pack = [&] { return Run({"policy", "pack", policies_, bundle}); };
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  ExpectFailure(pack(), 1, "policies.manifest: cannot read");
  ASSERT_EQ(Sign("7").exitStatus, 0);
  const CommandResult packed = pack();
  EXPECT_EQ(packed.exitStatus, 0) << packed.err;
  EXPECT_EQ(packed.err, "");
  EXPECT_EQ(packed.out, "made " + bundle + " of " + policies_ + ", " +
                            std::to_string(std::filesystem::file_size(bundle)) + " bytes\n");
  const Json json = Json::parse(std::ifstream(bundle));
  std::string users;
  EXPECT_TRUE(absl::Base64Unescape(json["files"]["users.txt"].get<std::string>(), &users));
  EXPECT_EQ(users, "38\n");
  std::filesystem::remove(bundle);
  Write("policies/users.txt", "39\n");
  ExpectFailure(pack(), 1, "users.txt: is not the file that was signed as version 7");
  EXPECT_FALSE(std::filesystem::exists(bundle));
}

TEST_F(PolicySignTest, PoliciesThatAreNotPulledYetAreNoFault) {
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  const std::string config =
      Config(R"({"trustedKeys": ["signing.key.pub"], "pull": {"url": "https://policies.example/node.bundle"}})");
  const CommandResult none = Run({"agent", "--check", "--config", config});
  EXPECT_NE(none.out.find("policies.pulled, which the agent pulls when it starts\n"), std::string::npos) << none.err;
  std::filesystem::create_directory(folder_ + "/policies.pulled");
  const CommandResult unusable = Run({"agent", "--check", "--config", config});
  EXPECT_NE(unusable.out.find("policies.pulled, which the agent pulls when it starts\n"), std::string::npos);
  EXPECT_NE(unusable.err.find("policies.pulled/policies.manifest: there is none"), std::string::npos) << unusable.err;
}

// They are not pulled either.
TEST_F(PolicySignTest, FilesThatAPullNeedsAreChecked) {
  ASSERT_EQ(Run({"policy", "keygen", key_}).exitStatus, 0);
  const auto check = [&](const std::string& more) {
    return Run(
        {"agent", "--check", "--config",
         Config(R"({"trustedKeys": ["signing.key.pub"], "pull": {"url": "https://policies.example/b")" + more + "}}")});
  };
  ExpectFailure(check(R"(, "ca": "ca.pem")"), 1, "/ca.pem: ");
  ExpectFailure(check(R"(, "tokenFile": "token")"), 1, "/token ");
  Write("token", "two\nlines\n");
  ExpectFailure(check(R"(, "tokenFile": "token")"), 1, "/token ");
  Write("node.crt", "x");
  ExpectFailure(check(R"(, "certificate": "node.crt", "key": "node.key")"), 1, "/node.key cannot be opened");
  Write("policies.accepted", "7 x");
  ExpectFailure(check(""), 1, "policies.accepted: is damaged");
  Write("signing.key.pub", "no key");
  ExpectFailure(check(""), 1, "signing.key.pub: no public Ed25519 key in PEM");
}

// Of what nobody could pull with the configuration that most have.
TEST_F(PolicySignTest, LargeBundleIsWarnedOf) {
  const evidence::SigningKey key = *evidence::SigningKey::Make();
  const std::string text(7 << 19, 'x');
  bundle::Manifest manifest;
  manifest.version = 1;
  manifest.created = "2026-11-29T20:04:48Z";
  for (const char* name : {"a.json", "b.txt", "c.txt", "d.txt"}) {
    Write(StrCat("policies/", name), text);
    manifest.files[name] = evidence::Sha256Hex(text);
  }
  ASSERT_TRUE(bundle::Sign(policies_, manifest, key).ok());
  const CommandResult packed = Run({"policy", "pack", policies_, folder_ + "/policies.bundle"});
  EXPECT_EQ(packed.exitStatus, 0);
  EXPECT_NE(packed.err.find("warning: agents refuse a bundle of more than 16 MiB, unless policies.pull.maxSize"),
            std::string::npos)
      << packed.err;
}

TEST_F(PolicySignTest, HalfAPairIsNotLeft) {
  std::filesystem::create_directories(key_ + ".pub.new/in the way");
  ExpectFailure(Run({"policy", "keygen", key_}), 1, "signing.key.pub");
  EXPECT_FALSE(std::filesystem::exists(key_));
}

}  // namespace
}  // namespace kveil::cli
