// What KeyService does when root keys and KEKs were rotated. Their providers are asked on the thread of whoever calls:
// the service's own thread waits for none.
#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "base/text.h"
#include "keys/service/key_service.h"
#include "keys/service/service_thread.h"

namespace kveil::keys {
namespace {

using std::chrono::steady_clock;

// Another agent that rotates or turns the epochs at the same moment has done so by then.
constexpr int kMostTries = 3;
// One that does not answer must not take the time of all.
constexpr std::chrono::seconds kTimeOfAKek{4};

absl::StatusOr<std::vector<Rewrapped>> AllOf(std::vector<absl::StatusOr<Rewrapped>> answers) {
  std::vector<Rewrapped> all;
  for (absl::StatusOr<Rewrapped>& answer : answers) {
    if (!answer.ok()) return answer.status();
    all.push_back(*std::move(answer));
  }
  return all;
}

std::vector<std::string> VersionsOf(const RootKey& root, const std::vector<RegistryKeys::OfRoot>& before,
                                    const std::vector<Rewrapped>& after) {
  std::vector<std::string> versions;
  for (size_t i = 0; i < after.size(); ++i) {
    std::string version = root.VersionOf({after[i].wrapped, before[i].context});
    if (version.empty()) return {};
    if (std::find(versions.begin(), versions.end(), version) == versions.end()) versions.push_back(std::move(version));
  }
  return versions;
}

// What is not of an epoch is the registry's secret.
bool IsTurning(const std::vector<RegistryKeys::OfRoot>& all) {
  return std::count_if(all.begin(), all.end(), [](const RegistryKeys::OfRoot& one) { return one.epoch != 0; }) > 1;
}

}  // namespace

absl::StatusOr<KeyService::RotatedRoot> KeyService::RotateRootKey() {
  RotationSlot::Rotation rotation(rotation_);
  RETURN_IF_ERROR(rotation.begun());
  RootKey& root = thread_->root();
  const auto deadline = steady_clock::now() + kRotationTime;
  for (int tries = 0; tries < kMostTries; ++tries) {
    ASSIGN_OR_RETURN(const std::vector<RegistryKeys::OfRoot> before,
                     thread_->AskKeyring([](Keyring& keyring) { return keyring.ReadOfRoot(); }));
    std::vector<RootKey::WrappedKey> wrapped;
    for (const RegistryKeys::OfRoot& one : before) wrapped.push_back({one.wrapped, one.context});
    RETURN_IF_ERROR(rotation.Asks(&root));
    absl::StatusOr<std::vector<Rewrapped>> answered = AllOf(RewrapAndUnwrap(root, wrapped, deadline));
    RETURN_IF_ERROR(rotation.Asks(nullptr));
    ASSIGN_OR_RETURN(const std::vector<Rewrapped> after, std::move(answered));
    std::vector<std::string> versions = VersionsOf(root, before, after);
    // Where a new version takes a while to be everywhere at the provider. Whoever then took the old one away would lose
    // what it still wraps.
    if (versions.size() > 1) {
      return absl::UnavailableError(StrCat(root.name(), " wraps by ", absl::StrJoin(versions, " and by "),
                                           " at the moment; nothing was replaced, ask again in some minutes"));
    }
    ASSIGN_OR_RETURN(const bool isDone,
                     thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReplaceOfRoot(before, after); }));
    if (!isDone) continue;
    return RotatedRoot{root.name(), after.size(), std::move(versions), IsTurning(before)};
  }
  return absl::UnavailableError("the registry's keys are being changed by another agent; ask again");
}

absl::StatusOr<KeyService::RotatedKeks> KeyService::RotateKekKeys(std::string_view provider, std::string_view name,
                                                                  const crypto::KeyId& after) {
  if (!thread_->core().options().kekProviders.contains(std::string(provider))) {
    return absl::NotFoundError(StrCat("this agent has no provider ", provider, " (keys.keks)"));
  }
  RotationSlot::Rotation rotation(rotation_);
  RETURN_IF_ERROR(rotation.begun());
  const auto& timerNow = thread_->core().options().timerNow;
  const auto deadline = timerNow() + kRotationTime;
  ASSIGN_OR_RETURN(const std::vector<Keyring::OfKek> listed, thread_->AskKeyring([&](Keyring& keyring) {
    return keyring.ListKekKeys(provider, name, after, kMostKeksRotated);
  }));
  RotatedKeks rotated;
  std::vector<std::vector<size_t>> byKek;  // in the order of the first of each
  std::map<KekName, size_t> placeOf;
  for (const Keyring::OfKek& one : listed) {
    const auto [place, isNew] = placeOf.emplace(one.key.name, byKek.size());
    if (isNew) byKek.emplace_back();
    byKek[place->second].push_back(rotated.keks.size());
    rotated.keks.push_back({one.key.name, one.key.window, {}, absl::OkStatus()});
  }
  if (listed.size() == kMostKeksRotated) rotated.next = listed.back().key.id;
  std::vector<std::optional<Rewrapped>> made(listed.size());
  for (const std::vector<size_t>& places : byKek) {
    // Those that are not tried yet are the next page's, so that some that hang never keep it from them.
    if (places.front() > 0 && timerNow() + kTimeOfAKek > deadline) {
      rotated.next = listed[places.front() - 1].key.id;
      rotated.keks.resize(places.front());
      break;
    }
    const absl::StatusOr<std::unique_ptr<RootKey>> root =
        thread_->AskKeyring([&](Keyring& keyring) { return keyring.OpenKek(listed[places.front()].key.name); });
    RETURN_IF_ERROR(rotation.Asks(root.ok() ? root->get() : nullptr));
    const absl::Cleanup asked = [&rotation] { (void)rotation.Asks(nullptr); };
    std::vector<RootKey::WrappedKey> wrapped;
    for (const size_t place : places) wrapped.push_back({listed[place].key.wrappedKey, listed[place].context});
    std::vector<absl::StatusOr<Rewrapped>> answers;
    if (root.ok()) answers = RewrapAndUnwrap(**root, wrapped, steady_clock::now() + kTimeOfAKek);
    for (size_t i = 0; i < places.size(); ++i) {
      RotatedKek& one = rotated.keks[places[i]];
      one.status = root.ok() ? answers[i].status() : root.status();
      if (one.status.ok()) made[places[i]] = *std::move(answers[i]);
      if (!root.ok()) continue;
      const Bytes now = one.status.ok() ? Bytes(made[places[i]]->wrapped) : wrapped[i].wrapped;
      one.version = (*root)->VersionOf({now, wrapped[i].context});
    }
  }
  RETURN_IF_ERROR(rotation.Asks(nullptr));
  for (size_t i = 0; i < rotated.keks.size(); ++i) {
    if (!made[i].has_value()) continue;
    const absl::StatusOr<bool> isReplaced =
        thread_->AskKeyring([&](Keyring& keyring) { return keyring.ReplaceKekKey(listed[i].key, *made[i]); });
    if (isReplaced.ok() && *isReplaced) continue;
    rotated.keks[i].version.clear();
    rotated.keks[i].status = isReplaced.ok() ? absl::UnavailableError(
                                                   "another agent has just wrapped it anew; which version it has "
                                                   "now is not known")
                                             : isReplaced.status();
  }
  return rotated;
}

}  // namespace kveil::keys
