#include "keys/service/kek_keys.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/text.h"
#include "crypto/hmac.h"
#include "http/jitter.h"

namespace kveil::keys {
namespace {

// How soon a provider is asked again about a KEK after it was out of reach, or has refused. Each time that it is so
// again, the pause doubles.
constexpr std::chrono::milliseconds kAfterOutage{1'000};
constexpr std::chrono::milliseconds kAfterRefusal{5'000};
constexpr std::chrono::milliseconds kLongestPause{15'000};
constexpr std::chrono::milliseconds kLongestOfNewcomers{60'000};  // that were refused
constexpr std::chrono::seconds kMissingAgain{1};
// What nobody has asked for so long is forgotten, or sooner where the places are needed.
constexpr std::chrono::seconds kForgetAfter{60};
constexpr std::chrono::seconds kForgetSoon{10};
// What one turn does at most, so that others need not wait for it. Each newcomer costs the registry a read, and each
// key that was made for one a write.
constexpr size_t kMostAskedOfATurn = 256;
constexpr size_t kMostNewcomersOfATurn = 16;
constexpr size_t kMostAnswersOfATurn = 16;

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
    providers_.emplace(name, std::make_unique<KekProvider>(provider, steadyNow_));
  }
}

KekKeys::~KekKeys() {
  for (const auto& [name, provider] : providers_) provider->Stop();
  for (const auto& [name, weak] : roots_) {
    if (const std::shared_ptr<RootKey> root = weak.lock()) root->Stop();
  }
}

absl::StatusOr<std::unique_ptr<RootKey>> KekKeys::Open(const KekName& name) const {
  const auto provider = providers_.find(name.provider);
  if (provider != providers_.end()) return provider->second->Open(name.key);
  return absl::NotFoundError(StrCat("this agent has no provider ", name.provider, " (keys.keks)"));
}

bool KekKeys::IsFresh(const Known& known) const {
  return known.key.has_value() && steadyNow_() - known.asked < cacheTtl_;
}

bool KekKeys::MayBeAsked(const Known& known) const {
  return !known.isWanted && known.question == 0 && timerNow_() >= known.notBefore;
}

absl::StatusOr<KekKeys::Found> KekKeys::FindKnown(const Place& place, Known& known, const std::string& workload) {
  known.used = steadyNow_();
  if (!isConfirmed_) return absl::UnavailableError("the registry was opened anew, and is asked what it has of KEKs");
  if (IsFresh(known)) return Found{{known.id, &*known.key}, known.asked};
  if (MayBeAsked(known)) {
    if (known.wrapped.empty()) {
      if (absl::Status may = MayAdd(workload); !may.ok()) return may;
    }
    Want(place, known, workload);
  }
  return NotHere(place.name, known.trouble);
}

void KekKeys::Want(const Place& place, Known& known, const std::string& workload) {
  known.isWanted = true;
  if (!known.wrapped.empty()) return wanted_.push_back(place);
  wantedNewcomers_.Push(workload, {place, workload});
  ++wantedNewcomersCount_;
}

absl::StatusOr<KekKeys::Found> KekKeys::Find(const crypto::KeyId& id, const std::string& workload) {
  if (const auto place = byId_.find(id); place != byId_.end()) {
    return FindKnown(place->second, known_.at(place->second), workload);
  }
  if (const auto missing = missing_.find(id); missing != missing_.end() && timerNow_() < missing->second) {
    lost_ = steadyNow_();
    return absl::NotFoundError("the registry lacks what a KEK has wrapped for a key; restore it from a backup");
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
  if (found != known_.end()) return FindKnown(place, found->second, workload);
  if (absl::Status may = MayAdd(workload); !may.ok()) return may;
  Known* const added = AddNewcomer(place, workload);
  if (added == nullptr) return limit_;
  added->used = steadyNow_();
  Want(place, *added, workload);
  return NotHere(name, absl::OkStatus());
}

absl::Status KekKeys::MayAdd(const std::string& workload) {
  const bool isFull = wantedNewcomersCount_ >= 2 * KekNewcomers::kMost;
  if (!isFull && newOnes_.Take(workload, timerNow_())) return absl::OkStatus();
  limited_ = steadyNow_();
  limit_ = absl::UnavailableError(StrCat("workload ", NameOf(workload), " needs keys of more than ", kNewPerSecond,
                                         " new KEKs per second, by topics that it names or records that it reads; "
                                         "those of further ones wait"));
  return limit_;
}

KekKeys::Known* KekKeys::AddNewcomer(const Place& place, const std::string& workload) {
  if (const Place* other = newcomers_.InTheWay(workload)) {
    const auto found = known_.find(*other);
    if (found->second.question != 0) {
      limited_ = steadyNow_();
      limit_ = absl::UnavailableError(StrCat("workload ", NameOf(workload),
                                             " names more new KEKs than the agent "
                                             "asks for at once; further ones wait"));
      return nullptr;
    }
    Forget(found);
  }
  newcomers_.Add(workload, place);
  return &known_[place];
}

bool KekKeys::HasRoom() {
  const auto hasRoom = [this] { return known_.size() - newcomers_.size() < kMostKnown; };
  if (!hasRoom() && timerNow_() >= nextSweep_) {
    nextSweep_ = timerNow_() + std::chrono::seconds(1);
    const SteadyTime before = steadyNow_() - kForgetSoon;
    for (auto known = known_.begin(); known != known_.end();) {
      const auto one = known++;
      const bool isInUse = IsFresh(one->second) || one->second.question != 0 || one->second.used >= before;
      if (!isInUse && !one->second.wrapped.empty()) Forget(one);
    }
  }
  if (!hasRoom()) full_ = steadyNow_();
  return hasRoom();
}

void KekKeys::Forget(std::map<Place, Known>::iterator known) {
  if (!known->second.wrapped.empty()) byId_.erase(known->second.id);
  newcomers_.Remove(known->first);
  known_.erase(known);
}

void KekKeys::Follow(Registry& registry) {
  if (opening_ != registry.openings()) {
    opening_ = registry.openings();
    missing_.clear();
    isConfirmed_ = byId_.empty();
  }
  if (!isConfirmed_) Confirm(registry);
}

// What it lacks now, nothing may be made under: it could not be opened any more.
void KekKeys::Confirm(Registry& registry) {
  std::vector<crypto::KeyId> ids;
  for (const auto& [id, place] : byId_) ids.push_back(id);
  absl::flat_hash_map<crypto::KeyId, Registry::KekKey> rows;
  for (absl::Span<const crypto::KeyId> rest = ids; !rest.empty();) {
    const size_t count = std::min(rest.size(), Registry::kMostKekKeysOfARead);
    absl::StatusOr<std::vector<Registry::KekKey>> read = registry.FindKekKeys(rest.first(count));
    if (!read.ok()) return;  // the next turn asks again
    for (Registry::KekKey& row : *read) rows.emplace(row.id, std::move(row));
    rest.remove_prefix(count);
  }
  if (opening_ != registry.openings()) return;
  for (const crypto::KeyId& id : ids) {
    const auto known = known_.find(byId_.at(id));
    const auto row = rows.find(id);
    if (row == rows.end() || Place{row->second.name, row->second.window} != known->first) {
      Forget(known);
    } else {
      known->second.wrapped = std::move(row->second.wrappedKey);  // its KEK may have been rotated; the id is the key's
    }
  }
  isConfirmed_ = true;
}

void KekKeys::Fail(Known& known, absl::Status why) const {
  const bool isOut = absl::IsUnavailable(why);
  const auto longest = isOut || !known.wrapped.empty() ? kLongestPause : kLongestOfNewcomers;
  constexpr int kMostDoublings = 6;
  const auto pause = std::min((isOut ? kAfterOutage : kAfterRefusal) * (1 << known.failures), longest);
  known.failures = std::min(known.failures + 1, kMostDoublings);
  // Agents that lost a provider at the same moment must not come back at the same moment.
  known.notBefore = timerNow_() + pause * 3 / 4 + http::UpTo(pause / 4);
  known.trouble = std::move(why);
}

bool KekKeys::IsRefused(const KekProvider::Answer& answer) {
  return !answer.question.wrapped.empty() && !answer.key.ok() && !absl::IsUnavailable(answer.key.status());
}

void KekKeys::Take(Registry& registry, absl::Time now) {
  Follow(registry);
  if (!isConfirmed_) return;
  for (const auto& [name, provider] : providers_) {
    for (KekProvider::Answer& answer : provider->Take()) answers_.push_back(std::move(answer));
  }
  std::vector<KekProvider::Answer> refused;
  for (size_t made = 0; !answers_.empty() && made < kMostAnswersOfATurn;) {
    KekProvider::Answer answer = std::move(answers_.front());
    answers_.pop_front();
    if (IsRefused(answer)) {
      refused.push_back(std::move(answer));
      if (refused.size() == Registry::kMostKekKeysOfARead) break;
      continue;
    }
    // Those of a provider that is out must not take the places of others.
    if (answer.key.ok() && answer.question.wrapped.empty()) ++made;
    TakeAnswer(std::move(answer), registry, now);
  }
  if (!refused.empty()) TakeRefused(std::move(refused), registry);
}

// nullptr: it was forgotten. A place that was forgotten may be known anew.
KekKeys::Known* KekKeys::AskedFor(const KekProvider::Question& question) {
  const auto found = known_.find(Place{question.kek, question.window});
  return found == known_.end() || found->second.question != question.number ? nullptr : &found->second;
}

void KekKeys::TakeRefused(std::vector<KekProvider::Answer> answers, Registry& registry) {
  std::vector<crypto::KeyId> ids;
  for (const KekProvider::Answer& answer : answers) {
    if (const Known* const known = AskedFor(answer.question)) ids.push_back(known->id);
  }
  if (ids.empty()) return;
  const absl::StatusOr<std::vector<Registry::KekKey>> rows = registry.FindKekKeys(ids);
  absl::flat_hash_map<crypto::KeyId, const ByteBuffer*> wrapped;
  if (rows.ok()) {
    for (const Registry::KekKey& row : *rows) wrapped[row.id] = &row.wrappedKey;
  }
  for (const KekProvider::Answer& answer : answers) {
    Known* const known = AskedFor(answer.question);
    if (known == nullptr) continue;
    known->question = 0;
    const auto now = wrapped.find(known->id);
    if (now == wrapped.end() || *now->second == known->wrapped) {
      Fail(*known, answer.key.status());
      continue;
    }
    known->wrapped = *now->second;
    known->notBefore = {};
    Want(Place{answer.question.kek, answer.question.window}, *known, "");
  }
}

void KekKeys::TakeAnswer(KekProvider::Answer answer, Registry& registry, absl::Time now) {
  KekProvider::Question& question = answer.question;
  const Place place{question.kek, question.window};
  Known* const asked = AskedFor(question);
  if (asked == nullptr) return;
  Known& known = *asked;
  known.question = 0;
  if (!answer.key.ok()) return Fail(known, answer.key.status());
  RootKey::DataKey& key = *answer.key;
  const crypto::KeyId id = crypto::ComputeKeyId(key.key);
  if (question.wrapped.empty()) {
    if (question.opening != opening_) return Fail(known, absl::UnavailableError("the registry was opened anew"));
    if (known.wrapped.empty() && !HasRoom()) return Fail(known, TooMany());
    absl::StatusOr<Registry::KekKey> inserted =
        registry.InsertOrGetKekKey({id, place.name, place.window, std::move(key.wrapped)}, now);
    if (!inserted.ok()) return Fail(known, inserted.status());
    TakeRow(known, place, *std::move(inserted));
  }
  // Another agent may have been quicker: then its key counts, and is unwrapped.
  known.trouble = absl::OkStatus();
  known.failures = 0;
  if (crypto::EqualInConstantTime(id.bytes, known.id.bytes)) {
    known.key = std::move(key.key);
    known.asked = answer.asked;
  } else if (!question.wrapped.empty()) {
    Fail(known, absl::DataLossError("the key that it unwraps is not the one that was wrapped"));
  }
}

void KekKeys::TakeRow(Known& known, const Place& place, Registry::KekKey row) {
  newcomers_.Remove(place);
  if (!known.wrapped.empty()) byId_.erase(known.id);
  known.id = row.id;
  known.wrapped = std::move(row.wrappedKey);
  byId_[row.id] = place;
}

void KekKeys::Ask(Registry& registry) {
  Follow(registry);
  if (!isConfirmed_) return;
  AskForIds(registry);
  AskForThoseThere(registry);
  AskForNewcomers(registry);
}

// What the provider has no room for goes to the end, so that it holds up no other provider.
void KekKeys::AskForThoseThere(Registry& registry) {
  for (size_t left = std::min(wanted_.size(), kMostAskedOfATurn); left > 0; --left) {
    const Place place = std::move(wanted_.front());
    wanted_.pop_front();
    const auto found = known_.find(place);
    if (found == known_.end() || !found->second.isWanted) continue;
    found->second.isWanted = false;
    if (!AskFor(place, found->second, registry)) Want(place, found->second, "");
  }
}

void KekKeys::AskForNewcomers(Registry& registry) {
  for (size_t asked = 0; wantedNewcomersCount_ > 0 && asked < kMostNewcomersOfATurn;) {
    const auto [place, workload] = wantedNewcomers_.Pop();
    --wantedNewcomersCount_;
    const auto found = known_.find(place);
    if (found == known_.end() || !found->second.isWanted) continue;  // it was forgotten meanwhile
    ++asked;
    found->second.isWanted = false;
    newcomers_.MoveToEnd(place);
    if (!AskFor(place, found->second, registry)) Want(place, found->second, workload);
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
    const bool isThere = found != known_.end() && !found->second.wrapped.empty();
    if (!isThere && !HasRoom()) continue;
    Known& known = known_[place];
    known.used = steadyNow_();
    if (!isThere) {
      TakeRow(known, place, std::move(row));
      known.notBefore = {};
      known.isWanted = false;  // as a newcomer
    }
    if (MayBeAsked(known)) Want(place, known, "");
  }
}

bool KekKeys::AskFor(const Place& place, Known& known, Registry& registry) {
  if (known.question != 0 || timerNow_() < known.notBefore) return true;
  const auto provider = providers_.find(place.name.provider);
  if (provider == providers_.end()) {
    Fail(known,
         absl::FailedPreconditionError(StrCat("this agent has no provider ", place.name.provider, " (keys.keks)")));
    return true;
  }
  if (!provider->second->hasRoom(!known.wrapped.empty())) return false;
  if (known.root == nullptr) {
    absl::StatusOr<std::shared_ptr<RootKey>> root = RootOf(place.name, *provider->second);
    if (!root.ok()) {
      Fail(known, root.status());
      return true;
    }
    known.root = *std::move(root);
  }
  if (known.wrapped.empty()) {
    absl::StatusOr<std::optional<Registry::KekKey>> row = registry.FindKekKey(place.name, place.window);
    if (row.ok() && row->has_value()) {
      if (!HasRoom()) {
        row = TooMany();
      } else {
        TakeRow(known, place, **std::move(row));
      }
    }
    if (!row.ok()) {
      Fail(known, row.status());
      return true;
    }
  }
  const uint64_t number = ++lastQuestion_;
  const bool isAsked = provider->second->Ask(
      {place.name, place.window, number, opening_, known.root, known.wrapped, contextOf_(place.name, place.window)});
  if (isAsked) known.question = number;
  return isAsked;
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
    const bool isDue = known.key.has_value() && now - known.asked > cacheTtl_ / 2 && now - known.used < cacheTtl_;
    if (isDue && MayBeAsked(known)) Want(one->first, known, "");
    if (known.used < before && known.question == 0) {
      Forget(one);
      continue;
    }
    const auto of = stats.find(one->first.name.provider);
    if (of == stats.end()) continue;
    if (known.key.has_value()) ++of->second.keys;
    if (!known.trouble.ok()) ++of->second.troubles[static_cast<size_t>(TroubleOf(known.trouble))];
  }
  std::erase_if(roots_, [](const auto& root) { return root.second.expired(); });
  Tell();
  const MutexLock lock(mutex_);
  stats_.clear();
  for (auto& [name, one] : stats) stats_.push_back(std::move(one));
}

std::vector<KeyService::KekStats> KekKeys::stats() const {
  const MutexLock lock(mutex_);
  return stats_;
}

std::string KekKeys::note() const {
  const MutexLock lock(mutex_);
  return note_;
}

void KekKeys::Tell() {
  const SteadyTime lately = steadyNow_() - kForgetAfter;
  problem_ = Say(/*isThere=*/true, saidProblem_);
  if (problem_.ok() && full_.has_value() && *full_ > lately) problem_ = TooMany();
  std::string note(ToStd(Say(/*isThere=*/false, saidNote_).message()));
  if (!limit_.ok() && limited_ > lately) StrAppend(&note, note.empty() ? "" : "; ", ToStd(limit_.message()));
  if (lost_.has_value() && *lost_ > lately) {
    StrAppend(
        &note, note.empty() ? "" : "; ",
        "the registry lacks a KEK key that a record or a key is under; if it ever had it, restore it from a backup");
  }
  const MutexLock lock(mutex_);
  note_ = std::move(note);
}

// The log has a line for each other text: so it says no amounts, and for a while the same of the same trouble.
absl::Status KekKeys::Say(bool isThere, Said& said) const {
  const SteadyTime lately = steadyNow_() - kForgetAfter;
  const Known* first = nullptr;
  Said now;
  for (const auto& [place, known] : known_) {
    if (known.trouble.ok() || known.used < lately || known.wrapped.empty() == isThere) continue;
    if (first == nullptr) {
      first = &known;
      now.name = place.name;
    } else if (place.name != now.name) {
      now.hasOthers = true;
      break;
    }
  }
  if (first == nullptr) {
    said = {};
    return absl::OkStatus();
  }
  now.kind = static_cast<int>(TroubleOf(first->trouble));
  now.hasKey = first->key.has_value();
  now.since = timerNow_();
  const auto about = [](const Said& one) { return std::tie(one.name, one.kind, one.hasKey, one.hasOthers); };
  if (about(now) != about(said) || now.since - said.since >= kForgetAfter) {
    now.text = StrCat(
        TextOf(now.name, first->trouble), now.hasOthers ? " (and other KEKs)" : "",
        now.hasKey ? "; its keys serve until keys.cacheTtl is over" : "; no record is sealed or opened under it");
    said = std::move(now);
  }
  return absl::UnavailableError(said.text);
}

}  // namespace kveil::keys
