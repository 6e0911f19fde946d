#include "keys/service/kek_keys.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "crypto/hmac.h"

namespace kveil::keys {
namespace {

// How soon a provider is asked again that was out of reach, or has refused.
constexpr std::chrono::seconds kAfterOutage{1};
constexpr std::chrono::seconds kAfterRefusal{5};
constexpr std::chrono::seconds kMissingAgain{1};
// What nobody has asked for so long is forgotten, or sooner where the places are needed.
constexpr std::chrono::seconds kForgetAfter{60};
constexpr std::chrono::seconds kForgetSoon{10};

enum class Trouble : uint8_t { kUnreachable, kDenied, kUnusable, kDamaged };

Trouble TroubleOf(const absl::Status& status) {
  if (absl::IsUnavailable(status)) return Trouble::kUnreachable;
  if (absl::IsPermissionDenied(status)) return Trouble::kDenied;
  return absl::IsDataLoss(status) ? Trouble::kDamaged : Trouble::kUnusable;
}

// RootKey says which error means what.
std::string TextOf(const KekName& name, const absl::Status& status) {
  constexpr std::string_view kWhat[] = {
      " is out of reach: ", " is denied to this agent: ", " cannot be used: ", " does not open what it has wrapped: "};
  return StrCat("KEK ", name.Text(), kWhat[static_cast<size_t>(TroubleOf(status))], ToStd(status.message()));
}

absl::Status NotHere(const KekName& name, const absl::Status& trouble) {
  if (trouble.ok()) return absl::UnavailableError(StrCat("the provider of KEK ", name.Text(), " is being asked"));
  if (absl::IsDataLoss(trouble)) return absl::DataLossError(TextOf(name, trouble));
  return absl::UnavailableError(StrCat("a key of ", TextOf(name, trouble)));
}

absl::Status TooMany() {
  return absl::UnavailableError(
      StrCat("more than ", KekKeys::kMostKnown, " keys of KEKs are in use at once; further ones wait"));
}

}  // namespace

KekKeys::KekKeys(const KeyServiceOptions& options, ContextOf contextOf)
    : cacheTtl_(options.cacheTtl),
      steadyNow_(options.steadyNow),
      timerNow_(options.timerNow),
      contextOf_(std::move(contextOf)) {
  for (const auto& [name, provider] : options.kekProviders) {
    providers_.emplace(name, std::make_unique<KekProvider>(name, provider, steadyNow_));
  }
}

KekKeys::~KekKeys() {
  for (const auto& [name, weak] : roots_) {
    if (const std::shared_ptr<RootKey> root = weak.lock()) root->Stop();
  }
}

bool KekKeys::IsFresh(const Known& known) const {
  return known.key.has_value() && steadyNow_() - known.asked < cacheTtl_;
}

absl::StatusOr<KekKeys::Found> KekKeys::FindKnown(const Place& place, Known& known) {
  known.used = steadyNow_();
  if (IsFresh(known)) return Found{{known.id, &*known.key}, known.asked};
  wanted_.insert(place);
  return NotHere(place.name, known.trouble);
}

absl::StatusOr<KekKeys::Found> KekKeys::Find(const crypto::KeyId& id, const std::string& workload) {
  if (const auto place = byId_.find(id); place != byId_.end()) {
    return FindKnown(place->second, known_.at(place->second));
  }
  if (const auto missing = missing_.find(id); missing != missing_.end() && timerNow_() < missing->second) {
    return absl::DataLossError("the registry lacks what a KEK has wrapped for a key; restore it from a backup");
  }
  if (!wantedIds_.contains(id.bytes)) {
    if (absl::Status may = MayAdd(workload); !may.ok()) return may;
    if (wantedIds_.size() >= Registry::kMostKekKeysOfARead) return TooMany();
    wantedIds_.insert(id.bytes);
  }
  return absl::UnavailableError("the KEK of a key is being looked up");
}

absl::StatusOr<KekKeys::Found> KekKeys::FindToMake(const KekName& name, int64_t window, const std::string& workload) {
  Place place{name, window};
  const auto found = known_.find(place);
  if (found != known_.end()) return FindKnown(place, found->second);
  if (absl::Status may = MayAdd(workload); !may.ok()) return may;
  Known* const added = Add(place);
  if (added == nullptr) return TooMany();
  return FindKnown(place, *added);
}

absl::Status KekKeys::MayAdd(const std::string& workload) {
  if (newOnes_.Take(workload, timerNow_())) return absl::OkStatus();
  limited_ = steadyNow_();
  limit_ =
      absl::UnavailableError(StrCat("workload ", workload.empty() ? "(unknown)" : workload, " needs keys of more than ",
                                    kNewPerSecond, " new KEKs per second; those of further ones wait"));
  return limit_;
}

KekKeys::Known* KekKeys::Add(const Place& place) {
  if (known_.size() >= kMostKnown) {
    const SteadyTime before = steadyNow_() - kForgetSoon;
    for (auto known = known_.begin(); known != known_.end();) {
      const auto one = known++;
      if (one->second.used < before) Forget(one);
    }
  }
  if (known_.size() < kMostKnown) return &known_[place];
  limited_ = steadyNow_();
  limit_ = TooMany();
  return nullptr;
}

void KekKeys::Forget(std::map<Place, Known>::iterator known) {
  byId_.erase(known->second.id);
  const KekName name = known->first.name;
  known_.erase(known);
  if (const auto root = roots_.find(name); root != roots_.end() && root->second.expired()) roots_.erase(root);
}

void KekKeys::Follow(const Registry& registry) {
  if (opening_ == registry.openings()) return;
  opening_ = registry.openings();
  known_.clear();
  byId_.clear();
  wanted_.clear();
  wantedIds_.clear();
  missing_.clear();
}

void KekKeys::Fail(Known& known, absl::Status why) const {
  known.notBefore = timerNow_() + (absl::IsUnavailable(why) ? kAfterOutage : kAfterRefusal);
  known.trouble = std::move(why);
}

void KekKeys::Take(Registry& registry, absl::Time now) {
  Follow(registry);
  for (const auto& [name, provider] : providers_) {
    for (KekProvider::Answer& answer : provider->Take()) TakeAnswer(std::move(answer), registry, now);
  }
}

void KekKeys::TakeAnswer(KekProvider::Answer answer, Registry& registry, absl::Time now) {
  KekProvider::Question& question = answer.question;
  const Place place{question.kek, question.window};
  const auto found = known_.find(place);
  if (question.opening != opening_ || found == known_.end()) return;
  Known& known = found->second;
  known.isBusy = false;
  if (!answer.key.ok()) return Fail(known, answer.key.status());
  RootKey::DataKey& key = *answer.key;
  const crypto::KeyId id = crypto::ComputeKeyId(key.key);
  if (question.wrapped.empty()) {
    absl::StatusOr<Registry::KekKey> inserted =
        registry.InsertOrGetKekKey({id, place.name, place.window, std::move(key.wrapped)}, now);
    if (!inserted.ok()) return Fail(known, inserted.status());
    TakeRow(known, place, *std::move(inserted));
  }
  // Another agent may have been quicker: then its key counts, and is unwrapped.
  known.trouble = absl::OkStatus();
  if (crypto::EqualInConstantTime(id.bytes, known.id.bytes)) {
    known.key = std::move(key.key);
    known.asked = answer.asked;
  } else if (!question.wrapped.empty()) {
    Fail(known, absl::DataLossError("the key that it unwraps is not the one that was wrapped"));
  }
}

void KekKeys::TakeRow(Known& known, Place place, Registry::KekKey row) {
  known.id = row.id;
  known.wrapped = std::move(row.wrappedKey);
  byId_[row.id] = std::move(place);
}

void KekKeys::Ask(Registry& registry) {
  Follow(registry);
  AskForIds(registry);
  for (const Place& place : std::exchange(wanted_, {})) {
    if (const auto found = known_.find(place); found != known_.end()) AskFor(place, found->second, registry);
  }
}

void KekKeys::AskForIds(Registry& registry) {
  if (wantedIds_.empty()) return;
  std::vector<crypto::KeyId> ids;
  for (const std::array<uint8_t, 16>& bytes : std::exchange(wantedIds_, {})) ids.push_back({bytes});
  absl::StatusOr<std::vector<Registry::KekKey>> rows = registry.FindKekKeys(ids);
  if (!rows.ok()) return;  // the registry's trouble is told where its rows are read; whoever asks does so again
  if (missing_.size() >= kMostKnown) missing_.clear();
  for (const crypto::KeyId& id : ids) missing_[id] = timerNow_() + kMissingAgain;
  for (Registry::KekKey& row : *rows) {
    missing_.erase(row.id);
    const Place place{row.name, row.window};
    const auto found = known_.find(place);
    Known* const known = found != known_.end() ? &found->second : Add(place);
    if (known == nullptr) continue;
    known->used = steadyNow_();
    if (known->wrapped.empty()) TakeRow(*known, place, std::move(row));
    wanted_.insert(place);
  }
}

void KekKeys::AskFor(const Place& place, Known& known, Registry& registry) {
  if (known.isBusy || timerNow_() < known.notBefore) return;
  const auto provider = providers_.find(place.name.provider);
  if (provider == providers_.end()) {
    return Fail(known, absl::FailedPreconditionError(
                           StrCat("this agent has no provider ", place.name.provider, " (keys.keks)")));
  }
  if (known.root == nullptr) {
    absl::StatusOr<std::shared_ptr<RootKey>> root = RootOf(place.name, *provider->second);
    if (!root.ok()) return Fail(known, root.status());
    known.root = *std::move(root);
  }
  if (known.wrapped.empty()) {
    absl::StatusOr<std::optional<Registry::KekKey>> row = registry.FindKekKey(place.name, place.window);
    if (!row.ok()) return Fail(known, row.status());
    if (row->has_value()) TakeRow(known, place, **std::move(row));
  }
  known.isBusy = provider->second->Ask(
      {place.name, place.window, opening_, known.root, known.wrapped, contextOf_(place.name, place.window)});
  if (!known.isBusy) Fail(known, absl::UnavailableError("too many keys of this provider are asked for at once"));
}

absl::StatusOr<std::shared_ptr<RootKey>> KekKeys::RootOf(const KekName& name, KekProvider& provider) {
  std::weak_ptr<RootKey>& weak = roots_[name];
  if (std::shared_ptr<RootKey> root = weak.lock()) return root;
  absl::StatusOr<std::unique_ptr<RootKey>> opened = provider.Open(name.key);
  if (!opened.ok()) {
    roots_.erase(name);
    return opened.status();
  }
  std::shared_ptr<RootKey> root = *std::move(opened);
  weak = root;
  return root;
}

void KekKeys::DropExpired() {
  const SteadyTime now = steadyNow_();
  const SteadyTime before = now - std::max<std::chrono::milliseconds>(kForgetAfter, cacheTtl_);
  std::map<std::string, KeyService::KekStats> stats;
  for (const auto& [name, provider] : providers_) stats[name] = {name, provider->calls(), 0, {}};
  for (auto entry = known_.begin(); entry != known_.end();) {
    const auto one = entry++;
    Known& known = one->second;
    if (!IsFresh(known)) known.key.reset();
    // Ahead of time, so that nobody waits for it.
    if (known.key.has_value() && now - known.asked > cacheTtl_ / 2 && now - known.used < cacheTtl_) {
      wanted_.insert(one->first);
    }
    if (known.used < before && !known.isBusy) {
      Forget(one);
      continue;
    }
    const auto of = stats.find(one->first.name.provider);
    if (of == stats.end()) continue;
    if (known.key.has_value()) ++of->second.keys;
    if (!known.trouble.ok()) ++of->second.troubles[static_cast<size_t>(TroubleOf(known.trouble))];
  }
  const MutexLock lock(mutex_);
  stats_.clear();
  for (auto& [name, one] : stats) stats_.push_back(std::move(one));
}

std::vector<KeyService::KekStats> KekKeys::stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

absl::Status KekKeys::Problem() const {
  const SteadyTime lately = steadyNow_() - kForgetAfter;
  const Known* first = nullptr;
  const KekName* name = nullptr;
  std::set<KekName> others;
  for (const auto& [place, known] : known_) {
    if (known.trouble.ok() || known.used < lately) continue;
    if (first == nullptr) {
      first = &known;
      name = &place.name;
    } else if (place.name != *name) {
      others.insert(place.name);
    }
  }
  if (first == nullptr) return limited_ > lately ? limit_ : absl::OkStatus();
  std::string text = TextOf(*name, first->trouble);
  if (!others.empty()) StrAppend(&text, " (and ", others.size(), " more KEKs)");
  return absl::UnavailableError(StrCat(text, first->key.has_value() ? "; its keys serve until keys.cacheTtl is over"
                                                                    : "; no record is sealed or opened under it"));
}

}  // namespace kveil::keys
