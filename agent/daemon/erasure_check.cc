#include "daemon/erasure_check.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

// A registry that was opened anew gives erased users' keys to readers until somebody knows.
constexpr std::chrono::seconds kPause{5};

}  // namespace

ErasureCheck::~ErasureCheck() {
  End();
  if (thread_.joinable()) thread_.join();
}

void ErasureCheck::Start() {
  thread_ = std::thread([this] {
    do {
      Look();
    } while (stop_.Sleep(kPause));
  });
}

void ErasureCheck::Look() {
  const absl::StatusOr<keys::KeyService::SubjectsRead> now = keys_.ReadErased({});
  if (!now.ok()) return;  // the key service says so
  const bool isAnew = opening_ != now->opening;
  if (!isAnew && missing_.empty()) return;
  isWhole_ = false;  // until it is known
  absl::StatusOr<Erasures> missing = missing_;
  if (!isAnew) missing = FindMissing(missing_);
  // There may be others, also more than were kept.
  if (missing.ok() && (isAnew || missing->empty())) {
    if (!AddFromReceipts(*missing).ok()) return;
    missing = FindMissing(*missing);
  }
  if (!missing.ok()) return;  // the registry's trouble passes; that of receipts is told when one is written
  opening_ = now->opening;
  missing_ = *std::move(missing);
  isWhole_ = missing_.empty();
  health_.Set("erasures", missing_.empty()
                              ? absl::OkStatus()
                              : absl::FailedPreconditionError(StrCat(
                                    "the registry does not know of ", missing_.size(), " erasure(s) that this node ",
                                    "has receipts of, as one that was restored from a backup: those users can be ",
                                    "read again. Repeat them: kveil receipts replay")));
}

absl::Status ErasureCheck::AddFromReceipts(Erasures& erasures) {
  ASSIGN_OR_RETURN(const std::string pem, receipts_.PublicPem());
  ASSIGN_OR_RETURN(const evidence::SigningKey key, evidence::SigningKey::FromPublicPem(pem));
  const std::string registry = keys_.registryId();
  const std::vector<uint64_t> numbers = receipts_.ReadNumbers();
  const size_t oldest = numbers.size() - std::min(numbers.size(), mostReceipts_);
  const size_t most = erasures.size() + kMostUsers;
  for (size_t i = numbers.size(); i > oldest && erasures.size() < most; --i) {
    if (stop_.isStopping()) return absl::UnavailableError("it ends");
    // A receipt that is wrong says nothing. `kveil receipts verify` finds it.
    const absl::StatusOr<receipts::ErasuresTold> told = receipts_.ReadErasures(key, numbers[i - 1]);
    if (!told.ok() || told->registry != registry) continue;
    for (const receipts::ErasuresTold::Subject& one : told->subjects) {
      const absl::StatusOr<keys::Subject> subject = SubjectOf(one.pseudonym);
      if (!subject.ok() || erasures.size() == most) continue;
      int64_t& erasure = erasures[*subject];
      erasure = std::max(erasure, told->erasure);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ErasureCheck::Erasures> ErasureCheck::FindMissing(const Erasures& erasures) {
  Erasures missing;
  std::vector<keys::ToldErasure> piece;
  for (auto next = erasures.begin(); next != erasures.end();) {
    if (stop_.isStopping()) return absl::UnavailableError("it ends");
    piece.clear();
    for (; next != erasures.end() && piece.size() < keys::kMostUsersOfAnErasure; ++next) {
      piece.push_back({next->first, next->second});
    }
    ASSIGN_OR_RETURN(const keys::KeyService::SubjectsRead read, keys_.ReadErased(piece));
    for (size_t i = 0; i < piece.size() && missing.size() < kMostUsers; ++i) {
      if (!read.isErased[i] && !read.isReadmitted[i]) missing.emplace(piece[i].subject, piece[i].number);
    }
  }
  return missing;
}

}  // namespace kveil::daemon
