#include "daemon/erasure_check.h"

#include <string>
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
  {
    const MutexLock lock(mutex_);
    isEnding_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void ErasureCheck::Start() {
  thread_ = std::thread([this] {
    for (;;) {
      Look();
      const auto until = std::chrono::steady_clock::now() + kPause;
      const MutexLock lock(mutex_);
      while (!isEnding_ && std::chrono::steady_clock::now() < until) wake_.wait_until(mutex_, until);
      if (isEnding_) return;
    }
  });
}

void ErasureCheck::Look() {
  const absl::StatusOr<keys::KeyService::SubjectsRead> now = keys_.ReadErased({});
  if (!now.ok()) return;  // the key service says so
  if (opening_ == now->opening && !isMissing_) return;
  const absl::StatusOr<size_t> missing = CountMissing();
  if (!missing.ok()) return;  // the registry's trouble passes; that of receipts is told when one is written
  opening_ = now->opening;
  isMissing_ = *missing > 0;
  health_.Set("erasures",
              !isMissing_ ? absl::OkStatus()
                          : absl::FailedPreconditionError(StrCat(
                                "the registry does not know of ", *missing, " erasure(s) that this node has receipts ",
                                "of, as one that was restored from a backup: those users can be read again. Repeat ",
                                "them: kveil receipts replay")));
}

absl::StatusOr<size_t> ErasureCheck::CountMissing() {
  ASSIGN_OR_RETURN(const std::string pem, receipts_.PublicPem());
  ASSIGN_OR_RETURN(const evidence::SigningKey key, evidence::SigningKey::FromPublicPem(pem));
  ASSIGN_OR_RETURN(const uint64_t newest, receipts_.ReadCount());
  const std::string registry = keys_.registryId();
  size_t asked = 0, missing = 0;
  Piece piece;
  const auto ask = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const keys::KeyService::SubjectsRead read, keys_.ReadErased(piece));
    for (size_t i = 0; i < piece.size(); ++i) missing += !read.isErased[i] && !read.isReadmitted[i] ? 1 : 0;
    piece.clear();
    return absl::OkStatus();
  };
  const uint64_t oldest = newest > kMostReceipts ? newest - kMostReceipts + 1 : 1;
  for (uint64_t number = newest; number >= oldest && asked < kMostUsers; --number) {
    // A receipt that is wrong says nothing. `kveil receipts verify` finds it.
    const absl::StatusOr<receipts::ErasuresTold> told = receipts_.ReadErasures(key, number);
    if (!told.ok() || told->registry != registry) continue;
    for (const receipts::ErasuresTold::Subject& one : told->subjects) {
      const absl::StatusOr<keys::Subject> subject = SubjectOf(one.pseudonym);
      if (!subject.ok() || asked == kMostUsers) continue;
      piece.push_back({*subject, told->erasure});
      ++asked;
      if (piece.size() == keys::kMostUsersOfAnErasure) RETURN_IF_ERROR(ask());
    }
  }
  if (!piece.empty()) RETURN_IF_ERROR(ask());
  return missing;
}

}  // namespace kveil::daemon
