// The time of an earlier erasure travels in the status that reports it.
#include "keys/service/erasure.h"

#include "base/text.h"

namespace kveil::keys {
namespace {

constexpr char kErasedAtPayload[] = "kveil/erased-at";

}  // namespace

absl::Status ErasedBeforeError(absl::Time time) {
  const std::string text = absl::FormatTime(absl::RFC3339_full, time, absl::UTCTimeZone());
  absl::Status status = absl::AlreadyExistsError(StrCat("this user was erased before, at ", text));
  status.SetPayload(kErasedAtPayload, absl::Cord(text));
  return status;
}

absl::Status StatusOf(const ErasedUser& user) {
  if (!user.keyspaces.empty()) return absl::OkStatus();
  if (user.erasedBefore.has_value()) return ErasedBeforeError(*user.erasedBefore);
  return absl::NotFoundError("this user has no key");
}

std::optional<absl::Time> ErasedBefore(const absl::Status& status) {
  const absl::optional<absl::Cord> text = status.GetPayload(kErasedAtPayload);
  absl::Time time;
  std::string error;
  if (!text.has_value() || !absl::ParseTime(absl::RFC3339_full, std::string(*text), &time, &error)) return std::nullopt;
  return time;
}

}  // namespace kveil::keys
