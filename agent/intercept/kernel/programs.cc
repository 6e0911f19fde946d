// Loads the programs with libbpf, and explains why the kernel refuses them.
#include "intercept/kernel/programs.h"

#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/text.h"
#include "intercept.h"
#include "intercept.skel.h"
#include "intercept/kernel/bpf_map.h"
#include "intercept/kernel/load_log.h"

namespace kveil::intercept {
namespace {

bool SameLayout(const bpf_map* map, int pinnedFd) {
  bpf_map_info info = {};
  uint32_t size = sizeof(info);
  return ::bpf_obj_get_info_by_fd(pinnedFd, &info, &size) == 0 && info.type == bpf_map__type(map) &&
         info.key_size == bpf_map__key_size(map) && info.value_size == bpf_map__value_size(map) &&
         info.max_entries == bpf_map__max_entries(map);
}

absl::Status ReusePinned(bpf_map* map, const std::string& path) {
  absl::StatusOr<UniqueFd> pinned = PinDirectory::Get(path);
  if (!pinned.ok()) return pinned.status();
  if (!pinned->valid()) return absl::OkStatus();
  if (!SameLayout(map, pinned->get())) {
    return absl::FailedPreconditionError(
        StrCat(path, " is not what this version of kveil pins there; 'kveil detach' takes it away"));
  }
  if (bpf_map__reuse_fd(map, pinned->get()) < 0) {  // duplicates the descriptor
    return absl::FailedPreconditionError(StrCat("cannot take over ", path, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

// The tick of the kernel's timers, 1 s / CONFIG_HZ, in nanoseconds.
uint64_t Jiffy() {
  timespec resolution = {};
  ::clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
  return static_cast<uint64_t>(resolution.tv_nsec);
}

bool KernelHasMptcp() { return ::access("/proc/sys/net/mptcp/enabled", F_OK) == 0; }

}  // namespace

Programs::Programs(Programs&& other) noexcept
    : skeleton_(std::exchange(other.skeleton_, nullptr)), madePins_(std::move(other.madePins_)) {}

Programs::~Programs() {
  if (skeleton_) intercept_bpf__destroy(skeleton_);
}

std::vector<Programs::PinnedMap> Programs::PinnedMaps() const {
  // A map whose struct, size or meaning changes takes the next number here; the others keep theirs, and what they hold.
  // The targets are not among them: a program keeps the table that it was loaded with, so a restart with another
  // configuration changes programs and targets in one step.
  const auto& maps = skeleton_->maps;
  return {{maps.learned, 2},   {maps.own_sockets, 1}, {maps.redirected, 2}, {maps.accepted, 2},
          {maps.interim, 3},   {maps.shares, 3},      {maps.served, 1},     {maps.sources, 2},
          {maps.heartbeat, 1}, {maps.events, 2},      {maps.listening, 1},  {maps.held, 1}};
}

absl::StatusOr<Programs> Programs::Load(const PinDirectory& pins, const Settings& settings,
                                        const TargetTable& targets) {
  LoadLog log;
  Programs programs(intercept_bpf__open());
  if (!programs.skeleton_) {
    return absl::FailedPreconditionError(StrCat("cannot read the BPF programs: ", log.LastLines()));
  }
  auto& constants = *programs.skeleton_->rodata;
  constants.intercepted_cgroup = settings.interceptedCgroup;
  constants.workload_level = static_cast<uint32_t>(settings.workloadLevel);
  if (::getrandom(constants.slot_key, sizeof(constants.slot_key), 0) != sizeof(constants.slot_key)) {
    return absl::InternalError(StrCat("no random numbers: ", std::strerror(errno)));
  }
  constants.listen_port = settings.listenPort;
  constants.bypass_when_down = settings.bypassWhenDown;
  constants.heartbeat_timeout = settings.heartbeatTimeout;
  constants.have_mptcp = KernelHasMptcp();
  if (const uint64_t jiffy = Jiffy(); jiffy != 0) constants.jiffy = jiffy;
  programs.skeleton_->bss->hold_time = settings.holdTime;
  for (const auto& [map, version] : programs.PinnedMaps()) {
    const absl::Status reused = ReusePinned(map, pins.MapPath(bpf_map__name(map), version));
    if (!reused.ok()) return reused;
  }
  const int error = -intercept_bpf__load(programs.skeleton_);
  if (error == EPERM) {
    return absl::PermissionDeniedError(
        StrCat("not allowed to load BPF programs: root with CAP_BPF and CAP_NET_ADMIN is needed\n  ", log.LastLines()));
  }
  if (error != 0) {
    return absl::FailedPreconditionError(
        StrCat("the kernel refuses the BPF programs (kveil needs Linux 6.1 or newer with CONFIG_BPF_SYSCALL, "
               "CONFIG_CGROUP_BPF and BTF): ",
               std::strerror(error), "\n  ", log.LastLines()));
  }
  const absl::Status filled = programs.FillTargets(targets);
  if (!filled.ok()) return filled;
  return programs;
}

absl::Status Programs::FillTargets(const TargetTable& targets) {
  for (const TargetTable::Prefix& prefix : targets.prefixes()) {
    kveil_prefix6 key = {};  // a v4 key is its beginning
    key.length = prefix.length;
    std::copy(prefix.address.begin(), prefix.address.end(), key.address);
    const bpf_map* trie = prefix.family == KVEIL_FAMILY_V4 ? skeleton_->maps.targets4 : skeleton_->maps.targets6;
    if (::bpf_map_update_elem(bpf_map__fd(trie), &key, &prefix.ranges, BPF_ANY) < 0) {
      return absl::FailedPreconditionError(StrCat("cannot write the targets: ", std::strerror(errno)));
    }
  }
  return absl::OkStatus();
}

std::vector<Program> Programs::programs() const {
  const auto& progs = skeleton_->progs;
  // connect last: until then nothing is redirected whose origin would not be carried.
  std::vector<Program> result;
  for (const bpf_program* program : {progs.carry_origin, progs.getpeername4, progs.getpeername6, progs.getsockname4,
                                     progs.getsockname6, progs.connect4, progs.connect6}) {
    result.push_back(
        {bpf_program__name(program), bpf_program__fd(program), bpf_program__expected_attach_type(program)});
  }
  return result;
}

absl::Status Programs::PinMaps(PinDirectory& pins) {
  absl::Status status = AdoptLearned(pins);
  for (const auto& [map, version] : PinnedMaps()) {
    const std::string path = pins.MapPath(bpf_map__name(map), version);
    if (status.ok() && ::access(path.c_str(), F_OK) != 0) {
      status = PinDirectory::Pin(bpf_map__fd(map), path);
      if (status.ok()) madePins_.push_back(path);
    }
    if (status.ok()) status = pins.Guard(path, bpf_map__fd(map));
  }
  if (!status.ok()) UnpinMaps();
  return status;
}

// The one map whose contents protect: without them, connects to brokers that clients know would go out in the clear.
absl::Status Programs::AdoptLearned(const PinDirectory& pins) const {
  for (const auto& [map, version] : PinnedMaps()) {
    if (map != skeleton_->maps.learned) continue;
    for (const std::string& path : pins.OtherVersions(bpf_map__name(map), version)) {
      const absl::StatusOr<UniqueFd> other = PinDirectory::Get(path);
      if (!other.ok()) return other.status();
      const absl::Status copied = CopyEntries(other->get(), bpf_map__fd(map));
      if (!copied.ok()) return absl::Status(copied.code(), StrCat(path, ": ", ToStd(copied.message())));
    }
  }
  return absl::OkStatus();
}

void Programs::UnpinMaps() {
  for (const std::string& path : std::exchange(madePins_, {})) ::unlink(path.c_str());
}

int Programs::learned() const { return bpf_map__fd(skeleton_->maps.learned); }
int Programs::ownSockets() const { return bpf_map__fd(skeleton_->maps.own_sockets); }
int Programs::accepted() const { return bpf_map__fd(skeleton_->maps.accepted); }
int Programs::interim() const { return bpf_map__fd(skeleton_->maps.interim); }
int Programs::shares() const { return bpf_map__fd(skeleton_->maps.shares); }
int Programs::served() const { return bpf_map__fd(skeleton_->maps.served); }
int Programs::sources() const { return bpf_map__fd(skeleton_->maps.sources); }
int Programs::heartbeat() const { return bpf_map__fd(skeleton_->maps.heartbeat); }
int Programs::events() const { return bpf_map__fd(skeleton_->maps.events); }
int Programs::listening() const { return bpf_map__fd(skeleton_->maps.listening); }

kveil_hold_counts Programs::HoldCounts() const {
  const kveil_hold_counts& counts = skeleton_->bss->hold_counts;  // the programs' own memory
  return {.held = __atomic_load_n(&counts.held, __ATOMIC_RELAXED),
          .released = __atomic_load_n(&counts.released, __ATOMIC_RELAXED),
          .ended = __atomic_load_n(&counts.ended, __ATOMIC_RELAXED)};
}

void Programs::SetAgentCgroup(uint64_t id) { skeleton_->bss->agent_cgroup = id; }

void Programs::Hold(std::chrono::nanoseconds time) { skeleton_->bss->hold_time = static_cast<uint64_t>(time.count()); }

}  // namespace kveil::intercept
