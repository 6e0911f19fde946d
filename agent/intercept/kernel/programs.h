// The loaded programs and maps of bpf/intercept.bpf.c, attached to nothing.
#pragma once

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "config/config.h"
#include "intercept.h"
#include "intercept/kernel/pins.h"
#include "intercept/kernel/target_table.h"

struct intercept_bpf;

namespace kveil::intercept {

struct Program {
  std::string name;  // of its function, and of its link's pin
  int fd;
  bpf_attach_type attachType;
};

class Programs {
 public:
  struct Settings {
    uint64_t interceptedCgroup;  // its id
    int workloadLevel;           // below it
    uint16_t listenPort;
    bool bypassWhenDown;
    uint64_t heartbeatTimeout;  // ns
    uint64_t holdTime;          // ns
  };

  // Loads the programs with the maps that are pinned already, and makes the others. kFailedPrecondition with the
  // verifier's last lines, or with the feature that the kernel lacks. kPermissionDenied.
  static absl::StatusOr<Programs> Load(const PinDirectory& pins, const Settings& settings, const TargetTable& targets);
  Programs(Programs&&) noexcept;
  ~Programs();

  std::vector<Program> programs() const;
  // Pins the maps that Load made and that must outlive the agent, once they have adopted what must not be lost from
  // maps of other versions. `pins` guards all pinned maps from then on. If it fails, it removes its own pins.
  absl::Status PinMaps(PinDirectory& pins);
  void UnpinMaps();

  int learned() const, ownSockets() const, accepted() const, interim() const, shares() const, served() const,
      sources() const, heartbeat() const, events() const, listening() const;
  kveil_hold_counts HoldCounts() const;
  void SetAgentCgroup(uint64_t id);
  // Sets how long the first connect in a new namespace is held; zero: it is refused.
  void Hold(std::chrono::nanoseconds time);

 private:
  explicit Programs(intercept_bpf* skeleton) : skeleton_(skeleton) {}
  absl::Status FillTargets(const TargetTable& targets);
  struct PinnedMap {
    bpf_map* map;
    int version;
  };
  std::vector<PinnedMap> PinnedMaps() const;
  absl::Status AdoptLearned(const PinDirectory& pins) const;

  intercept_bpf* skeleton_;
  std::vector<std::string> madePins_;
};

}  // namespace kveil::intercept
