// The keys that KEKs have wrapped, unwrapped. By policy, the keys of a topic or a cluster are made under a
// key-encryption key (KEK) at a provider, besides the epoch key, and those of users are mixed with its KEK key:
//
//   KEK (provider) -> KEK key (registry: one for each KEK and window) -> scope key, inside of what the epoch key wraps
//
// So an agent asks the provider once for all the keys of a window, and the epochs turn without the provider.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "crypto/key_id.h"
#include "crypto/secret.h"
#include "keys/registry/registry.h"
#include "keys/root/root_key.h"
#include "keys/scope/scope.h"
#include "keys/service/fair_queue.h"
#include "keys/service/kek_newcomers.h"
#include "keys/service/kek_provider.h"
#include "keys/service/key_service.h"
#include "keys/service/new_user_limit.h"
#include "keys/service/registry_keys.h"

namespace kveil::keys {

// Used by one thread, but for stats(). Nothing here waits for a provider: what is not here is asked for, and is here
// when somebody asks again. A key is kept for cacheTtl, counted from before the provider was asked, so a KEK that is
// denied or destroyed opens nothing any more after that. A key that is in use is asked for again after half of it.
//
// A KEK key that has a row in the registry stands for data, and its KEK for an operator who made it. One that has none
// is a newcomer: a topic that is new, or a name that a client made up. Newcomers cost their workload tokens each time
// that they are asked for, have places, threads and turns of their own, and are no problem of the node.
class KekKeys {
 public:
  // What the provider binds a KEK key to.
  using ContextOf = std::function<ByteBuffer(const KekName& name, int64_t window)>;

  KekKeys(const KeyServiceOptions& options, ContextOf contextOf);
  // Ends the calls of providers that are under way.
  ~KekKeys();
  KekKeys(const KekKeys&) = delete;
  KekKeys& operator=(const KekKeys&) = delete;

  struct Found {
    RegistryKeys::KekKey key;  // valid until Take or DropExpired
    SteadyTime asked;          // not later than the provider was asked
  };
  // The KEK key that a row or a record names. kUnavailable: it is not here; the status says why. kNotFound: the
  // registry has none of this id. kDataLoss: its row is damaged. Each workload may have so many asked for that are not
  // known yet.
  absl::StatusOr<Found> Find(const crypto::KeyId& id, const std::string& workload);
  // The KEK key for what is made now. It is made when there is none. Errors as of Find.
  absl::StatusOr<Found> FindToMake(const KekName& name, int64_t window, const std::string& workload);

  // A KEK, with the session of its provider. Any thread may use it, until this ends. kNotFound: there is no such
  // provider.
  absl::StatusOr<std::unique_ptr<RootKey>> Open(const KekName& name) const;

  // Takes what the providers have answered.
  void Take(Registry& registry, absl::Time now);
  // Has the registry and the providers asked for what was not found.
  void Ask(Registry& registry);
  // Wipes keys that are too old, forgets what nobody asks for, and notes for Ask what soon is too old.
  void DropExpired();

  // All as of the last DropExpired. OK, or which KEKs with keys in the registry cannot be used, as far as they were
  // asked for lately, in words for the operator.
  const absl::Status& Problem() const { return problem_; }
  // The same of newcomers, and what is not asked for; else empty. Any thread may call this and stats.
  std::string note() const;
  std::vector<KeyService::KekStats> stats() const;

  // KEK keys with a row that are known at once. Further ones wait while these are in use.
  static constexpr size_t kMostKnown = 4096;
  // Newcomers that one workload may have asked for per second; those of ten seconds at once.
  static constexpr size_t kNewPerSecond = 30;

 private:
  using Place = KekPlace;
  struct Known {
    crypto::KeyId id;
    ByteBuffer wrapped;  // empty: it is a newcomer: the registry was not asked yet, or has none
    std::optional<crypto::SecretKey> key;
    SteadyTime asked;  // of `key`
    SteadyTime used;
    uint64_t question = 0;  // the number of the one that the provider is being asked; 0: none
    bool isWanted = false;  // it is in a queue
    absl::Status trouble;
    int failures = 0;               // in a row
    SteadyTime notBefore;           // it is asked again
    std::shared_ptr<RootKey> root;  // of the KEK's other windows, too
  };

  // What kveil status says, for as long as it is about the same.
  struct Said {
    KekName name;
    int kind = -1;
    bool hasKey = false, hasOthers = false;
    std::string text;
    SteadyTime since;
  };

  bool IsFresh(const Known& known) const;
  bool MayBeAsked(const Known& known) const;
  absl::StatusOr<Found> FindKnown(const Place& place, Known& known, const std::string& workload);
  void Want(const Place& place, Known& known, const std::string& workload);
  // nullptr: there are too many.
  Known* AddNewcomer(const Place& place, const std::string& workload);
  // For one more that has a row. Makes some by forgetting what is neither fresh nor in use.
  bool HasRoom();
  void Forget(std::map<Place, Known>::iterator known);
  absl::Status MayAdd(const std::string& workload);
  // False: the provider has no room for the question now.
  bool AskFor(const Place& place, Known& known, Registry& registry);
  void AskForIds(Registry& registry);
  void AskForThoseThere(Registry& registry);
  void AskForNewcomers(Registry& registry);
  absl::StatusOr<std::shared_ptr<RootKey>> RootOf(const KekName& name, KekProvider& provider);
  void TakeRow(Known& known, const Place& place, Registry::KekKey row);
  // Somebody may have rotated the KEK since its row was read, and disabled its old version: then it is asked for again,
  // with what the registry has by now. One read for all that were refused.
  static bool IsRefused(const KekProvider::Answer& answer);
  void TakeRefused(std::vector<KekProvider::Answer> answers, Registry& registry);
  Known* AskedFor(const KekProvider::Question& question);
  void TakeAnswer(KekProvider::Answer answer, Registry& registry, absl::Time now);
  void Fail(Known& known, absl::Status why) const;
  // When the registry is opened anew, another may be in its place: then only what its rows confirm is used.
  void Follow(Registry& registry);
  void Confirm(Registry& registry);
  void Tell();
  absl::Status Say(bool isThere, Said& said) const;

  const std::chrono::milliseconds cacheTtl_;
  const std::function<SteadyTime()> steadyNow_, timerNow_;
  const ContextOf contextOf_;
  uint64_t opening_ = 0;  // of the registry that all this is from
  bool isConfirmed_ = true;
  uint64_t lastQuestion_ = 0;
  std::map<Place, Known> known_;
  absl::flat_hash_map<crypto::KeyId, Place> byId_;
  std::map<KekName, std::weak_ptr<RootKey>> roots_;
  KekNewcomers newcomers_;
  std::deque<Place> wanted_;                                  // with rows
  FairQueue<std::pair<Place, std::string>> wantedNewcomers_;  // with the workload
  size_t wantedNewcomersCount_ = 0;
  SteadyTime nextSweep_;  // by HasRoom
  std::deque<KekProvider::Answer> answers_;
  std::set<std::array<uint8_t, 16>> wantedIds_;
  absl::flat_hash_map<crypto::KeyId, SteadyTime> missing_;  // in the registry; until when that is remembered
  NewUserLimit newOnes_{kNewPerSecond};
  absl::Status limit_;  // why a newcomer was not asked for
  SteadyTime limited_;
  std::optional<SteadyTime> full_;  // when there was no room last
  std::optional<SteadyTime> lost_;  // when a KEK key was asked for last that the registry lacks
  absl::Status problem_;
  Said saidProblem_, saidNote_;
  mutable Mutex mutex_;
  std::string note_ ABSL_GUARDED_BY(mutex_);
  std::vector<KeyService::KekStats> stats_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::unique_ptr<KekProvider>> providers_;  // last: their end waits for their calls
};

}  // namespace kveil::keys
