// What erasing one user and erasing many have in common.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

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
// How many users the next of many requests is about. A registry that is slow does not finish a large one in time, so
// they get smaller when one fails, down to one user, and larger again when many have worked.
class RequestSize {
 public:
  explicit RequestSize(size_t most) : most_(most), now_(most) {}
  size_t now() const { return now_; }
  void Worked();
  // After a request about `size` users has failed with kUnavailable: whether to ask once more, about now(). A registry
  // that is restarted, or whose lock is held, is given a moment before it is asked about one user again.
  bool MayAskAgain(size_t size);

 private:
  const size_t most_;
  size_t now_;
  size_t worked_ = 0;  // in a row
  int failed_ = 0;     // about one user, in a row
};

// Of the receipts of many requests.
struct ReceiptRange {
  std::vector<uint64_t> numbers;     // the first and the last
  std::optional<std::string> error;  // of the last that was not written
  void Add(const admin::ReceiptNote& receipt);
};

// Those that were written.
void PrintReceipts(absl::Span<const uint64_t> numbers);

// `kveil erase --users-from`. `socket`: the running agent's.
int EraseMany(const std::string& socket, bool json, const EraseOptions& options);

}  // namespace kveil::cli
