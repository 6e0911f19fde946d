// `kveil registry copy`: which files it takes. What it does with them is in keys/registry_copy_test.cc.
#include <chrono>

#include "command_fixture.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"

namespace kveil::cli {
namespace {

// Another file with the same registry would go on being used beside the one that has moved.
TEST_F(CommandTest, RegistryCopyBeginsWithTheFileThatTheAgentUses) {
  const std::string own = folder_ + "/registry.db", copy = folder_ + "/copy.db";
  const std::string config = Write(
      "agent.json", StrCat(R"({"intercept": {"targets": [{"cluster": "main", "cidr": "10.0.0.0/8", "ports": "9092"}]},
                               "keys": {"root": {"file": ")",
                           folder_, R"(/root.key"}, "registry": {"sqlite": ")", own, R"("}}})"));
  {
    const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    auto registry = keys::OpenRegistry({.sqlite = own}, /*mustExist=*/false, soon);
    ASSERT_TRUE(registry.ok()) << registry.status();
    (*registry)->SetDeadline(soon);
    ASSERT_TRUE((*registry)->Initialise({{}, ByteBuffer(60, 1)}, {1, ByteBuffer(60, 7)}, absl::Now()).ok());
  }
  for (const std::string suffix : {"", "-wal"}) {
    if (std::filesystem::exists(own + suffix)) std::filesystem::copy_file(own + suffix, copy + suffix);
  }
  const auto run = [&](const std::string& from, std::vector<std::string> what) {
    std::vector<std::string> arguments = {"registry", "copy", "--from", from, "--config", config};
    arguments.insert(arguments.end(), what.begin(), what.end());
    return Run(arguments);
  };
  ExpectFailure(run(copy, {"--to", "postgresql://kveil@127.0.0.1:1/kveil"}), 1, "A copy or a backup must not move");
  ExpectFailure(run(copy, {"--give-up"}), 1, "as keys.registry in the configuration first");
  ExpectFailure(run(own, {"--give-up"}), 1, "is not being moved");
  // However it is spelled: the note of a move lies beside the path that agents go by.
  const std::string link = folder_ + "/link.db";
  std::filesystem::create_symlink(own, link);
  ExpectFailure(run(link, {"--give-up"}), 1, StrCat("registry ", own, " is not being moved"));
}

}  // namespace
}  // namespace kveil::cli
