#include "cli/erasing.h"

#include <algorithm>
#include <iostream>
#include <thread>

#include "base/text.h"
#include "cli/common.h"

namespace kveil::cli {
namespace {

// Longer than any agent's cacheTtl, which is as long as the agent waits by itself.
constexpr std::chrono::seconds kLongestWait{3700};
constexpr std::chrono::seconds kAnswerTime{30};
constexpr size_t kWorkedToGrow = 16;
constexpr int kMostAttempts = 10;
constexpr std::chrono::seconds kBetweenAttempts{1};

}  // namespace

formats::IdEncoding EncodingNamed(const std::string& encoding) {
  const auto name = std::find(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end(), encoding);
  return static_cast<formats::IdEncoding>(name - formats::kIdEncodingNames.begin());
}

absl::StatusOr<std::string> SpellUser(const std::string& user, const std::string& encoding) {
  const formats::IdEncoding as = EncodingNamed(encoding);
  if (as == formats::IdEncoding::kText) return user;
  std::string scratch;
  std::string_view id;
  const formats::IdProblem problem = formats::IdOfText(as, user, scratch, id);
  if (problem != formats::IdProblem::kNone) return absl::InvalidArgumentError(ToAbsl(formats::Explain(problem)));
  return std::string(id);
}

std::chrono::seconds AnswerTime(std::optional<uint64_t> waitSeconds) {
  const auto wait = std::chrono::seconds(std::min<uint64_t>(waitSeconds.value_or(kLongestWait.count()), 86'400));
  return kAnswerTime + wait;
}

void PrintAgents(const admin::Spread& spread) {
  for (const admin::Spread::Agent& agent : spread.agents) {
    std::cout << "  agent " << agent.name;
    if (agent.confirmed.has_value()) {
      std::cout << " confirmed at " << *agent.confirmed << "\n";
    } else {
      std::cout << " has not confirmed; it refuses the user's records from " << agent.refusesFrom.value_or("?")
                << " on\n";
    }
  }
}

void RequestSize::Worked() {
  failed_ = 0;
  if (++worked_ % kWorkedToGrow == 0) now_ = std::min(2 * now_, most_);
}

bool RequestSize::MayAskAgain(size_t size) {
  worked_ = 0;
  if (size > 1) {
    now_ = size / 2;
    return true;
  }
  if (++failed_ == kMostAttempts) return false;
  std::this_thread::sleep_for(kBetweenAttempts);
  return true;
}

void ReceiptRange::Add(const admin::ReceiptNote& receipt) {
  if (receipt.error.has_value()) error = receipt.error;
  if (!receipt.number.has_value()) return;
  if (numbers.size() == 2) numbers.pop_back();
  numbers.push_back(*receipt.number);
}

void PrintReceipts(absl::Span<const uint64_t> numbers) {
  if (numbers.empty()) return;
  std::cout << (numbers.size() == 1 ? "receipt " : "receipts ") << numbers.front();
  if (numbers.size() > 1) std::cout << " to " << numbers.back();
  std::cout << " (kveil receipts show)\n";
}

int EndErasure(const std::optional<admin::Spread>& spread, const std::optional<std::string>& receiptError) {
  int status = 0;
  if (receiptError.has_value()) {
    Fail("erase", StrCat("erased, but there is no receipt: ", *receiptError));
    status = kNoReceipt;
  }
  if (spread.has_value() && spread->complete) return status;
  if (!spread.has_value()) {
    Fail("erase", "erased, but the agent is of a version that does not know of other agents");
  } else if (spread->error.has_value()) {
    Fail("erase", StrCat("erased, but whether all agents have dropped the keys is not known: ", *spread->error));
  } else {
    Fail("erase", "erased, but not every agent has confirmed that it has dropped the keys");
  }
  return kNotEverywhere;
}

}  // namespace kveil::cli
