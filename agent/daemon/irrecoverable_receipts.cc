#include "daemon/irrecoverable_receipts.h"

#include "absl/time/clock.h"
#include "base/log.h"
#include "base/time_text.h"
#include "receipts/receipt.h"

namespace kveil::daemon {
namespace {

constexpr std::chrono::seconds kAgain{10};

}  // namespace

int64_t IrrecoverableReceipts::LastInStore(const std::string& registry) const {
  const uint64_t count = store_.ReadCount().value_or(0);
  for (uint64_t number = count; number > 0 && count - number < kMostLookedAt; --number) {
    const absl::StatusOr<receipts::Store::Stored> stored = store_.Read(number);
    if (!stored.ok()) continue;
    if (const auto upTo = receipts::IrrecoverableUpTo(stored->text, registry)) return *upTo;
  }
  return 0;
}

absl::Status IrrecoverableReceipts::Watch(const keys::KeyService& keys) {
  const auto now = std::chrono::steady_clock::now();
  const std::optional<keys::KeyService::EpochNow::Irrecoverable> known = keys.epochNow().irrecoverable;
  if (!known.has_value() || now < notBefore_) return status_;
  if (!upTo_.has_value()) upTo_ = LastInStore(keys.registryId());
  // A lower number is of a registry that was restored together with the root key: it gives numbers again.
  if (known->erasures == *upTo_) return absl::OkStatus();
  receipts::Receipt receipt;
  receipt.kind = receipts::Receipt::Kind::kIrrecoverable;
  receipt.registry = keys.registryId();
  receipt.agent = keys.agentName();
  receipt.time = UtcText(absl::Now());
  receipt.erasure = known->erasures;
  receipt.ended = {known->epoch, UtcText(known->destroyed), rootKey_};
  const absl::StatusOr<uint64_t> number = store_.Append(receipt);
  status_ = number.status();
  if (!number.ok()) {
    notBefore_ = now + kAgain;
    return status_;
  }
  upTo_ = known->erasures;
  log::Info("erasures.irrecoverable", {{"upTo", known->erasures}, {"receipt", *number}});
  return status_;
}

}  // namespace kveil::daemon
