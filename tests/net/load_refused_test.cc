// What an agent says when the kernel does not let it in, and that it has changed nothing by then.
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/text.h"
#include "intercept.h"
#include "support/bpf_objects.h"
#include "support/stage.h"

namespace kveil::nettest {
namespace {

using intercept::Redirect;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class LoadRefusedTest : public testing::Test {
 protected:
  ~LoadRefusedTest() override { (void)Redirect::Detach(config); }

  // Puts a map where the agent's own is pinned.
  void PinMap(const std::string& name, bpf_map_type type, uint32_t key, uint32_t value, uint32_t entries,
              uint32_t flags) const {
    Require(::mkdir(config.pinDirectory.c_str(), 0700) == 0, config.pinDirectory);
    DECLARE_LIBBPF_OPTS(bpf_map_create_opts, options);
    options.map_flags = flags;
    const UniqueFd map(::bpf_map_create(type, name.c_str(), key, value, entries, &options));
    Require(map.valid(), "a map");
    Require(::bpf_obj_pin(map.get(), StrCat(config.pinDirectory, "/map_", name).c_str()) == 0, "pinning a map");
  }

  // Starts in a process of its own, as `uid` and without capabilities in `dropped`; returns the status as text.
  std::string StartElsewhere(uint32_t uid, const std::vector<int>& dropped) const {
    return RunWorkload(
        node, nullptr,
        [&] {
          __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
          __user_cap_data_struct data[2] = {};
          Require(::syscall(SYS_capget, &header, data) == 0, "capget");
          for (const int capability : dropped) data[capability / 32].effective &= ~(1u << (capability % 32));
          Require(::syscall(SYS_capset, &header, data) == 0, "capset");
          return std::string(ToStd(Redirect::Start(config).status().ToString()));
        },
        uid);
  }

  void ExpectNothingAttached() const {
    EXPECT_EQ(CountAttached(node), 0u);
    EXPECT_NE(::access((node.path() + "/kveil-agent").c_str(), F_OK), 0) << "a cgroup is left";
  }

  Cgroup node;
  config::InterceptConfig config = MakeConfig(node);
};

// The verifier itself refuses our own programs here: one writes to a map that somebody made read-only for programs.
TEST_F(LoadRefusedTest, VerifiersLastLinesAreShownAndNothingIsChanged) {
  PinMap("v3_interim", BPF_MAP_TYPE_HASH, sizeof(kveil_interim_key), sizeof(kveil_waiting), KVEIL_MAX_INTERIM,
         BPF_F_NO_PREALLOC | BPF_F_RDONLY_PROG);
  const auto redirect = Redirect::Start(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(redirect.status())) << redirect.status();
  EXPECT_THAT(std::string(redirect.status().message()),
              AllOf(HasSubstr("the kernel refuses the BPF programs"), HasSubstr("write into map forbidden"),
                    HasSubstr("carry_origin")));
  ExpectNothingAttached();
  EXPECT_THAT(NamesIn(config.pinDirectory), ElementsAre("map_v3_interim"));
}

TEST_F(LoadRefusedTest, PinnedMapOfAnotherLayoutIsNamed) {
  PinMap("v1_served", BPF_MAP_TYPE_HASH, sizeof(uint64_t), sizeof(uint64_t), KVEIL_MAX_NAMESPACES, BPF_F_NO_PREALLOC);
  const auto redirect = Redirect::Start(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(redirect.status())) << redirect.status();
  EXPECT_THAT(std::string(redirect.status().message()),
              AllOf(HasSubstr("map_v1_served is not what this version"), HasSubstr("kveil detach")));
  ExpectNothingAttached();
}

TEST_F(LoadRefusedTest, UserWithoutRootIsToldSo) {
  EXPECT_EQ(StartElsewhere(1234, {}),
            "PERMISSION_DENIED: intercepting connections needs CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, "
            "which this "
            "process does not have");
  ExpectNothingAttached();
  EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0);
}

TEST_F(LoadRefusedTest, RootWithoutTheCapabilitiesIsToldWhich) {
  EXPECT_THAT(StartElsewhere(0, {CAP_SYS_ADMIN, CAP_BPF}),
              HasSubstr("PERMISSION_DENIED: intercepting connections needs CAP_SYS_ADMIN, which this process"));
  ExpectNothingAttached();
  EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0);
}

TEST_F(LoadRefusedTest, WhatIsNoCgroupOfVersionTwoIsRefused) {
  config.cgroup = "/tmp";
  const auto redirect = Redirect::Start(config);
  EXPECT_TRUE(absl::IsInvalidArgument(redirect.status())) << redirect.status();
  EXPECT_THAT(std::string(redirect.status().message()), HasSubstr("/tmp is not in a cgroup v2 file system"));
}

TEST_F(LoadRefusedTest, PinDirectoryOutsideOfABpfFileSystemIsRefused) {
  config.pinDirectory = "/tmp/kveil-no-bpf-here";
  const auto redirect = Redirect::Start(config);
  EXPECT_TRUE(absl::IsFailedPrecondition(redirect.status())) << redirect.status();
  EXPECT_THAT(std::string(redirect.status().message()), HasSubstr("no BPF file system at /tmp: mount one with"));
  EXPECT_NE(::access(config.pinDirectory.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace kveil::nettest
