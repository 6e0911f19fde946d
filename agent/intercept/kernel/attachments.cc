// Makes, updates, pins and reverts links.
#include "intercept/kernel/attachments.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/log.h"
#include "base/text.h"
#include "intercept/kernel/other_agents.h"

namespace kveil::intercept {
namespace {

// Linux 6.15: this program runs before those of child cgroups and before others of its cgroup, so kveil sees the
// address that the application used and not what another program made of it.
constexpr uint32_t kPreorder = 1u << 6;  // BPF_F_PREORDER

bool RewritesDestination(bpf_attach_type type) {
  return type == BPF_CGROUP_INET4_CONNECT || type == BPF_CGROUP_INET6_CONNECT;
}

absl::StatusOr<bpf_link_info> LinkInfo(int fd) {
  bpf_link_info info = {};
  uint32_t size = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &size) < 0) {
    return absl::InternalError(StrCat("cannot read a link: ", std::strerror(errno)));
  }
  return info;
}

uint32_t ProgramId(int fd) {
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  return ::bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? 0 : info.id;
}

bool IsFor(const bpf_link_info& info, const Program& program, const CgroupTree& cgroup) {
  return info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.attach_type == program.attachType &&
         info.cgroup.cgroup_id == cgroup.id();
}

std::string ProgramName(uint32_t id) {
  const UniqueFd fd(::bpf_prog_get_fd_by_id(id));
  bpf_prog_info info = {};
  uint32_t size = sizeof(info);
  if (!fd.valid() || ::bpf_obj_get_info_by_fd(fd.get(), &info, &size) < 0) return "unknown";
  return info.name;
}

// The program whose way of attaching forbids ours, in words: one attached without BPF_F_ALLOW_MULTI, here or above.
std::optional<std::string> FindConflict(const CgroupTree& cgroup, bpf_attach_type type) {
  for (const std::string& path : cgroup.PathsUpToRoot()) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::array<uint32_t, 64> ids = {};
    uint32_t count = ids.size();
    uint32_t flags = 0;
    if (!fd.valid() || ::bpf_prog_query(fd.get(), type, 0, &flags, ids.data(), &count) < 0) continue;
    if (count == 0 || (flags & BPF_F_ALLOW_MULTI)) continue;
    return StrCat("program '", ProgramName(ids[0]), "' (id ", ids[0], ") is attached to ", path,
                  " in a way that allows no other beside it (without BPF_F_ALLOW_MULTI)");
  }
  return std::nullopt;
}

absl::Status AttachError(int error, const Program& program, const CgroupTree& cgroup) {
  if (error == EPERM) {
    const std::optional<std::string> conflict = FindConflict(cgroup, program.attachType);
    if (conflict) {
      return absl::FailedPreconditionError(
          StrCat("cannot attach ", program.name, " to ", cgroup.path(), ": ", *conflict));
    }
    return absl::PermissionDeniedError(StrCat("not allowed to attach ", program.name, " to ", cgroup.path(),
                                              ": CAP_BPF and CAP_NET_ADMIN are needed"));
  }
  return absl::FailedPreconditionError(
      StrCat("cannot attach ", program.name, " to ", cgroup.path(), ": ", std::strerror(error)));
}

absl::StatusOr<UniqueFd> CreateLink(const Program& program, const CgroupTree& cgroup) {
  DECLARE_LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = RewritesDestination(program.attachType) ? kPreorder : 0;
  UniqueFd link(::bpf_link_create(program.fd, cgroup.fd(), program.attachType, &options));
  if (!link.valid() && errno == EINVAL && options.flags != 0) {
    options.flags = 0;
    link.Reset(::bpf_link_create(program.fd, cgroup.fd(), program.attachType, &options));
  }
  if (!link.valid()) return AttachError(errno, program, cgroup);
  return link;
}

// Where a link waits until all of them are made. The file system reserves names with dots.
std::string NewPath(const std::string& path) { return StrCat(path, "_new"); }

}  // namespace

absl::StatusOr<Attachments> Attachments::Make(absl::Span<const Program> programs, const CgroupTree& cgroup,
                                              PinDirectory& pins) {
  Attachments attachments;
  for (const Program& program : programs) {
    Slot slot{.program = program, .programId = ProgramId(program.fd), .path = pins.LinkPath(program.name)};
    absl::StatusOr<UniqueFd> pinned = PinDirectory::Get(slot.path);
    if (!pinned.ok()) return pinned.status();
    if (pinned->valid()) {
      const absl::StatusOr<bpf_link_info> info = LinkInfo(pinned->get());
      if (!info.ok()) return info.status();
      if (IsFor(*info, program, cgroup)) {
        slot.link = *std::move(pinned);
        slot.replacedProgram = UniqueFd(::bpf_prog_get_fd_by_id(info->prog_id));
      }
    }
    attachments.slots_.push_back(std::move(slot));
  }
  absl::Status status = attachments.Attach(cgroup);
  if (status.ok()) status = attachments.UpdateOld();
  if (status.ok()) status = attachments.PinNew();
  if (status.ok()) status = attachments.Check(cgroup);
  // Once more: one that started at the same time was not attached yet when this looked before.
  if (status.ok()) status = CheckNoOtherAgent(cgroup, pins);
  for (const Slot& slot : attachments.slots_) {
    if (status.ok()) status = pins.Guard(slot.path, slot.link.get());
  }
  if (!status.ok()) return status;
  attachments.committed_ = true;
  for (Slot& slot : attachments.slots_) slot.replacedProgram.Reset();
  return attachments;
}

Attachments::~Attachments() {
  if (!committed_) Revert();
}

absl::Status Attachments::Attach(const CgroupTree& cgroup) {
  for (Slot& slot : slots_) {
    if (slot.link.valid()) continue;
    absl::StatusOr<UniqueFd> link = CreateLink(slot.program, cgroup);
    if (!link.ok()) return link.status();
    slot.link = *std::move(link);
    slot.isNew = true;
  }
  return absl::OkStatus();
}

absl::Status Attachments::UpdateOld() {
  for (Slot& slot : slots_) {
    if (slot.isNew) continue;
    DECLARE_LIBBPF_OPTS(bpf_link_update_opts, options);
    options.flags = BPF_F_REPLACE;  // EPERM when somebody else updated the link meanwhile
    options.old_prog_fd = static_cast<uint32_t>(slot.replacedProgram.get());
    if (!slot.replacedProgram.valid() || ::bpf_link_update(slot.link.get(), slot.program.fd, &options) < 0) {
      slot.replacedProgram.Reset();
      return absl::FailedPreconditionError(StrCat("cannot take over the link ", slot.path, ": ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

absl::Status Attachments::PinNew() {
  for (Slot& slot : slots_) {
    if (!slot.isNew) continue;
    ::unlink(NewPath(slot.path).c_str());  // of an agent that was killed just here
    const absl::Status pinned = PinDirectory::Pin(slot.link.get(), NewPath(slot.path));
    if (!pinned.ok()) return pinned;
    slot.pin = NewPath(slot.path);
  }
  // Only now do the links of a cgroup that is configured no more go.
  for (Slot& slot : slots_) {
    if (!slot.isNew) continue;
    if (::rename(NewPath(slot.path).c_str(), slot.path.c_str()) < 0) {
      return absl::InternalError(StrCat("cannot pin ", slot.path, ": ", std::strerror(errno)));
    }
    slot.pin = slot.path;
  }
  return absl::OkStatus();
}

void Attachments::Revert() {
  for (Slot& slot : slots_) {
    if (!slot.pin.empty()) ::unlink(slot.pin.c_str());
    if (!slot.isNew && slot.link.valid() && slot.replacedProgram.valid()) {
      ::bpf_link_update(slot.link.get(), slot.replacedProgram.get(), nullptr);
    }
  }
}

absl::Status Attachments::Check(const CgroupTree& cgroup) const {
  for (const Slot& slot : slots_) {
    const absl::StatusOr<bpf_link_info> info = LinkInfo(slot.link.get());
    if (!info.ok()) return info.status();
    if (!IsFor(*info, slot.program, cgroup)) {
      return absl::FailedPreconditionError(StrCat(slot.program.name, " is not attached to ", cgroup.path(), " (cgroup ",
                                                  cgroup.id(), ") but to cgroup ", info->cgroup.cgroup_id));
    }
    if (info->prog_id != slot.programId) {
      return absl::FailedPreconditionError(StrCat("somebody has replaced ", slot.program.name, " by the program '",
                                                  ProgramName(info->prog_id), "' (id ", info->prog_id,
                                                  ") in its link; restart the agent"));
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::intercept
