// What the configured targets cover.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "config/config.h"

namespace kveil::intercept {

// Whether every IPv4 and every IPv6 address with this port is a target: one target must cover all of its family.
bool CoversAll(absl::Span<const config::Target> targets, uint16_t port);

}  // namespace kveil::intercept
