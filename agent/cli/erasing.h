// What erasing one user and erasing many have in common.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "admin/spread.h"
#include "cli/commands.h"
#include "formats/user_id.h"

namespace kveil::cli {

// Exit status: done, but an agent may not know yet; or there is no receipt.
inline constexpr int kNotEverywhere = 3;
inline constexpr int kNoReceipt = 4;

// `encoding`: one of formats::kIdEncodingNames.
formats::IdEncoding EncodingNamed(const std::string& encoding);

// The spelling of an id that is written in one of formats::kIdEncodingNames. A text may be anything, so that what an
// earlier version sealed can be named, too. kInvalidArgument says what is wrong with it.
absl::StatusOr<std::string> SpellUser(const std::string& user, const std::string& encoding);

// How long the agent may take to answer when it waits for others.
std::chrono::seconds AnswerTime(std::optional<uint64_t> waitSeconds);

void PrintAgents(const admin::Spread& spread);

// The exit status of an erasure that was done, after a line on stderr for each thing that is missing. No `spread`: the
// agent does not know of others.
int EndErasure(const std::optional<admin::Spread>& spread, const std::optional<std::string>& receiptError);
// Those that were written.
void PrintReceipts(absl::Span<const uint64_t> numbers);

// `kveil erase --users-from`. `socket`: the running agent's.
int EraseMany(const std::string& socket, bool json, const EraseOptions& options);

}  // namespace kveil::cli
