// What commands that wait for the other agents have in common.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "admin/command.h"
#include "admin/spread.h"
#include "keys/service/key_service.h"

namespace kveil::daemon {

// RFC 3339, UTC.
std::string TextOf(absl::Time time);

// How long to wait; nullopt: until each agent has confirmed, or has no keys from before any more.
std::optional<std::chrono::milliseconds> PatienceOf(std::optional<uint64_t> waitSeconds);

// What the agents have said, and on which opening of the registry.
struct Heard {
  admin::Spread spread;
  std::optional<uint64_t> opening;
};
// Waits until the agents have taken in all erasures and changes up to `number`.
Heard AwaitAgents(keys::KeyService& keys, int64_t number, std::optional<std::chrono::milliseconds> patience,
                  const admin::Caller& caller);

// The registry that answered: no two agents, nor two openings by one, have the same.
std::string OpeningOf(const keys::KeyService& keys, uint64_t opening);

}  // namespace kveil::daemon
