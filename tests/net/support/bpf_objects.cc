// Loads, attaches, lists.
#include "support/bpf_objects.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <filesystem>

namespace kveil::nettest {

const std::vector<bpf_attach_type> kHooks = {BPF_CGROUP_INET4_CONNECT,     BPF_CGROUP_INET6_CONNECT,
                                             BPF_CGROUP_SOCK_OPS,          BPF_CGROUP_INET4_GETPEERNAME,
                                             BPF_CGROUP_INET6_GETPEERNAME, BPF_CGROUP_INET4_GETSOCKNAME,
                                             BPF_CGROUP_INET6_GETSOCKNAME};

UniqueFd LoadPassingProgram(bpf_attach_type type, const std::string& name) {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  DECLARE_LIBBPF_OPTS(bpf_prog_load_opts, options);
  options.expected_attach_type = type;
  UniqueFd program(::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, name.c_str(), "GPL", instructions,
                                   std::size(instructions), &options));
  Require(program.valid(), "loading a program");
  return program;
}

UniqueFd LoadFlagClearingProgram(const std::string& name) {
  const bpf_insn instructions[] = {
      {.code = BPF_LDX | BPF_MEM | BPF_W, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = 0, .imm = 0},  // op
      {.code = BPF_JMP | BPF_JNE | BPF_K,
       .dst_reg = BPF_REG_2,
       .src_reg = 0,
       .off = 2,
       .imm = BPF_SOCK_OPS_TCP_CONNECT_CB},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .src_reg = 0, .off = 0, .imm = 0},
      {.code = BPF_JMP | BPF_CALL, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = BPF_FUNC_sock_ops_cb_flags_set},
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .src_reg = 0, .off = 0, .imm = 1},
      {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
  };
  UniqueFd program(
      ::bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, name.c_str(), "GPL", instructions, std::size(instructions), nullptr));
  Require(program.valid(), "loading a program");
  return program;
}

void AttachLegacy(const UniqueFd& program, const Cgroup& cgroup, bpf_attach_type type, uint32_t flags) {
  const UniqueFd fd(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Require(::bpf_prog_attach(program.get(), fd.get(), type, flags) == 0, "attaching a program");
}

std::vector<uint32_t> AttachedTo(const Cgroup& cgroup, bpf_attach_type type) {
  const UniqueFd fd(::open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::array<uint32_t, 64> ids = {};
  uint32_t count = ids.size();
  Require(::bpf_prog_query(fd.get(), type, 0, nullptr, ids.data(), &count) == 0, "asking for attached programs");
  return {ids.begin(), ids.begin() + count};
}

size_t CountAttached(const Cgroup& cgroup) {
  size_t count = 0;
  for (const bpf_attach_type type : kHooks) count += AttachedTo(cgroup, type).size();
  return count;
}

std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace kveil::nettest
