// A node's root key and registry, used together: finds scope keys, makes and erases them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "crypto/secret.h"
#include "keys/registry/registry.h"
#include "keys/root/root_key.h"
#include "keys/service/epoch_turns.h"
#include "keys/service/epoch_unwrapper.h"
#include "keys/service/erasure.h"
#include "keys/service/facts_pool.h"
#include "keys/service/fetch.h"
#include "keys/service/kek_keys.h"
#include "keys/service/key_service.h"
#include "keys/service/new_user_limit.h"
#include "keys/service/registry_keys.h"
#include "keys/service/rewrapping.h"
#include "keys/service/source_clocks.h"
#include "keys/service/throw_away_keys.h"
#include "keys/service/trial_pace.h"
#include "keys/service/user_changes.h"

namespace kveil::keys {

// Used by one thread. Every call may block, at most until the deadline that was set. Errors are kUnavailable, with the
// name and the trouble of the registry or the root key, unless said otherwise.
class Keyring {
 public:
  // See KeyService::Open.
  static absl::StatusOr<std::unique_ptr<Keyring>> Open(const KeyServiceOptions& options);

  // Applies to the calls that follow.
  void SetDeadline(std::chrono::steady_clock::time_point deadline);

  // One caller's question, and its answer.
  struct Lookup {
    Misses misses;
    std::string workload;
    FetchResult result;
  };
  // Answers all lookups with at most three calls of the registry: it finds by name, finds by id, and inserts the scope
  // keys that have to be made. Each result's status says whether all of it could be answered. The status returned is
  // the registry's. A damaged row concerns those who asked for it, and is not an error of the registry.
  absl::Status Resolve(absl::Span<Lookup* const> lookups);

  // See KeyService::EraseUsers. Does not tell the caches: Poll does.
  absl::StatusOr<ErasedUsers> EraseUsers(std::optional<std::string_view> keyspace, absl::Span<const std::string> users);
  // The same for KeyService::EraseSubjects.
  absl::StatusOr<ErasedUsers> EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects);
  absl::StatusOr<KeyService::SubjectsRead> ReadErased(absl::Span<const ToldErasure> told);
  // keyring_readmit.cc. See KeyService::Readmit.
  absl::StatusOr<ReadmittedUser> Readmit(std::optional<std::string_view> keyspace, std::string_view user);
  // See KeyService::ChangeUsers. Does not tell the caches either.
  absl::StatusOr<ChangedUsers> ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid);
  // See KeyService.
  absl::StatusOr<std::vector<std::optional<Subject>>> ReadSubjects(absl::Span<const crypto::KeyId> keys);
  absl::StatusOr<Registry::KeyList> ListKeys(std::string_view from, size_t most);
  absl::StatusOr<std::vector<NamedSubject>> ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                           std::string_view user);
  // See KeyService::ReadUser.
  absl::StatusOr<std::vector<KnownUser>> ReadUser(std::optional<std::string_view> keyspace, std::string_view user);
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces();

  // keyring_sources.cc. See KeyService.
  absl::StatusOr<std::vector<Registry::Source>> ReadSources();
  absl::StatusOr<std::optional<LedSource>> LeadSource(std::string_view keyspace, std::chrono::milliseconds lease);
  absl::Status ReleaseSource(std::string_view keyspace, int64_t term);
  absl::StatusOr<RereadAsked> RereadSource(std::string_view keyspace);
  // `mayHaveChanged`: what is known of a user, also after an error.
  absl::StatusOr<FollowedRecords> FollowSource(const Registry::SourceMove& wanted, uint64_t opening,
                                               absl::Span<const ConsentRecord> records, bool mayLeaveOut,
                                               bool& mayHaveChanged);
  // From time to time: reads how current the topics are that consents come from.
  void RefreshSources();
  // OK, or of which topics no consent counts now, as far as they were wanted a moment ago.
  absl::Status SourcesProblem() const { return clocks_.Problem(options_.steadyNow()); }
  std::vector<SourceState> SourceStates() const { return clocks_.States(options_.steadyNow()); }

  // What was erased and changed since the last call, by this process or another.
  absl::StatusOr<Registry::News> Poll();
  // See Registry::wakeDescriptor.
  int wakeDescriptor() const { return registry_->wakeDescriptor(); }
  // See Registry::isTold.
  bool isTold() const { return registry_->isTold(); }
  // See Registry::lastNumber.
  int64_t lastNumber() const { return registry_->lastNumber(); }

  // Notes in the registry that this agent lives, and what it has confirmed.
  absl::Status NoteAgent(int64_t confirmed);
  // Whether it is time to.
  bool ShouldNoteAgent(int64_t confirmed) const;
  absl::Status ForgetAgent() { return registry_->ForgetAgent(self_.id); }
  absl::StatusOr<std::vector<Registry::Agent>> ReadAgents();

  // See Registry::PurgeErased.
  absl::Status PurgeErased();

  // Whether keys can be made now. Opens the registry anew when an error closed it.
  absl::Status CheckWritable();
  // See Registry::CheckRoom. While there is no room, no new user's key is made.
  absl::Status CheckRoom() const { return registry_->CheckRoom(); }
  // Whether a restarted agent could unwrap what this one has wrapped. While it could not, no scope key is given out for
  // sealing.
  absl::Status CheckRootKey();
  // See KeyService::TryUnwrap. Begins to unwrap the epoch keys, and does not wait for a root key that is remote. An
  // error is the answer already; otherwise TrialAnswer has it in the end.
  absl::Status BeginTrial();
  // nullopt while the root key is being asked.
  std::optional<absl::Status> TrialAnswer();
  // What the last trial that was answered has found.
  absl::Status LastTrial() const;

  // keyring_epochs.cc. Reads the epochs, and goes a step of their turn. To be called every few seconds, and sooner
  // while there is more to do.
  absl::StatusOr<EpochTurns::Result> StepEpochs();
  // See KeyService::TurnEpochs.
  void AskToTurn() { turns_.Ask(); }
  const EpochTurns& turns() const { return turns_; }
  absl::StatusOr<KeyService::Epochs> ListEpochs(bool withKeys);
  // See KeyService::GiveUpKey.
  absl::StatusOr<KeyService::GivenUp> GiveUpKey(const crypto::KeyId& id);
  // As of the last StepEpochs.
  const std::vector<Registry::Epoch>& epochs() const { return epochs_; }

  // keyring_rotation.cc. See KeyService::RotateRootKey: what is to be wrapped anew, and what comes of that.
  absl::StatusOr<std::vector<RegistryKeys::OfRoot>> ReadOfRoot();
  // `after` has what stands for each of `before`. False: the registry has others by now. kDataLoss, and nothing is
  // changed: one of them is not the same key.
  absl::StatusOr<bool> ReplaceOfRoot(absl::Span<const RegistryKeys::OfRoot> before, absl::Span<const Rewrapped> after);
  // The same for KEK keys, see KeyService::RotateKekKeys.
  struct OfKek {
    Registry::KekKey key;
    ByteBuffer context;
  };
  absl::StatusOr<std::vector<OfKek>> ListKekKeys(std::string_view provider, std::string_view name,
                                                 const crypto::KeyId& after, size_t most);
  absl::StatusOr<std::unique_ptr<RootKey>> OpenKek(const KekName& name) const { return keks_.Open(name); }
  absl::StatusOr<bool> ReplaceKekKey(const Registry::KekKey& before, const Rewrapped& after);

  // Forgets throw-away keys and KEK keys that are too old, and has KEK keys unwrapped again that are in use.
  void DropExpired();
  // OK, or which KEKs cannot be used.
  absl::Status KeksProblem() const { return keks_.Problem(); }
  // Any thread may call these.
  std::string kekNote() const { return keks_.note(); }
  std::vector<KeyService::KekStats> kekStats() const { return keks_.stats(); }

  // Whether a row could not be read since the last Reopen, which has the registry opened anew before the next call: it
  // may have been put right in place.
  bool hasUnreadableRows() const { return hasUnreadableRows_; }
  void Reopen();
  // See Registry::openings.
  uint64_t openings() const { return registry_->openings(); }

  struct Self {
    RegistryId registry{};
    std::string agent;  // what the registry calls it
  };
  Self self() const { return {keys_.owner().id, self_.name}; }
  const crypto::SecretKey& registrySecret() const { return keys_.secret(); }

  // Any thread may use what this offers to any thread, for as long as the keyring lives.
  const RootKey& root() const { return *root_; }
  RootKey& root() { return *root_; }

 private:
  // That one, or all of the registry.
  absl::StatusOr<std::vector<std::string>> KeyspacesOf(std::optional<std::string_view> keyspace);
  // A scope key that a lookup asks for.
  struct Asked {
    Lookup* lookup;
    size_t scope;  // index in lookup->misses.scopes
    Registry::RowName name;
    std::optional<KekKeys::Found> kek;  // that it is made under, or mixed with
  };

  Keyring(const KeyServiceOptions& options, std::unique_ptr<Registry> registry, std::unique_ptr<RootKey> root,
          RegistryKeys keys);

  // Has the registry opened anew when needed. When it was, and its epoch keys are not those in use, has them unwrapped;
  // until they are, those in use stay.
  absl::Status Ready();
  absl::Status ReloadEpochs();
  // An agent that nobody knows of must not have keys: an erasure would not wait for it.
  absl::Status EnsureNoted();
  // Takes what the root key has unwrapped meanwhile.
  void TakeEpochs();
  absl::StatusOr<std::vector<Registry::Epoch>> ReadEpochs();
  // The newest one of the registry whose key is known, to tell the others; at least 1.
  int64_t KnownEpoch() const;
  void BeginUnwrapping(std::vector<Registry::Epoch> rows);
  // A row is of an epoch that may not be known: then the registry is asked about it, once a second at most.
  void MeetEpoch(int64_t number);
  // Whether the registry did not have that epoch when it was asked, within the last second.
  bool IsMissing(int64_t number) const;
  // Counts the keys into counts_, unless that was done a moment ago.
  absl::Status CountKeys();

  absl::Status FindScopes(absl::Span<Lookup* const> lookups, std::vector<Asked>& missing);
  void TakeScope(Asked asked, Registry::Found row, std::vector<Asked>& missing);
  absl::Status FindIds(absl::Span<Lookup* const> lookups);
  // nullopt: it cannot be had now; the lookup's status says why.
  std::optional<FetchResult::ById> TakeId(Lookup& lookup, const KeyRef& ref, Registry::Found row);
  absl::StatusOr<crypto::SecretKey> UnwrapRow(Lookup& lookup, const Registry::Row& row);
  // Mixes the KEK key that a record names into a user's key. False: that cannot be done; `found` or the lookup's status
  // says why.
  bool MixIn(Lookup& lookup, const crypto::KeyId& kek, FetchResult::ById& found);
  // Sets the KEK key that the policy wants, if any, or says why it cannot be had now.
  absl::Status SetKek(Asked& asked);
  // Whether one more new user's key may be made for the workload.
  absl::Status MayMakeUser(const std::string& workload);
  absl::Status Make(std::vector<Asked> missing);
  // Leaves in `missing` those to try again with: users whose erasures have ended now. False: all of them, as the epoch
  // in use is another one by now.
  absl::StatusOr<bool> TryToMake(std::vector<Asked>& missing);
  absl::StatusOr<std::vector<Registry::Readmission>> ReadmitSubjects(absl::Span<const Subject> subjects);
  // Ends the erasures of users that were asked for with OwnedScopeName::readmits, and returns whose have ended: their
  // keys can be made.
  absl::StatusOr<absl::flat_hash_set<Subject>> ReadmitErased(const std::vector<Asked>& missing,
                                                             const std::vector<size_t>& rowOf,
                                                             const std::vector<Registry::Inserted>& inserted);
  void TakeInserted(const Asked& asked, const Registry::Inserted& inserted, const crypto::SecretKey& key,
                    const crypto::KeyId& id);
  static void Give(const Asked& asked, ScopeKey key);
  // What is stored of a key's user. users::DamagedFacts when it is damaged, and the lookup's result says so.
  users::SharedFacts TakeFacts(Lookup& lookup, std::string_view stored);
  static void NoteDamage(Lookup& lookup, const absl::Status& damage);

  // The changes of one subject, by their index.
  struct SubjectChanges {
    Subject subject{};
    std::string_view keyspace;
    std::vector<size_t> changes;
  };
  using SourcesByKeyspace = absl::flat_hash_map<std::string, Registry::Source>;
  // The facts to write. nullopt: nothing has to be.
  std::optional<Registry::NewFacts> Apply(const SubjectChanges& asked, absl::Span<const UserChange> changes,
                                          uint32_t uid, bool mayAdd, const SourcesByKeyspace& sources,
                                          const Registry::KnownFacts& known, ChangedUsers& changed);

  // The facts to write. nullopt: the records change nothing.
  std::optional<Registry::NewFacts> ApplyRecords(const SubjectChanges& asked, absl::Span<const ConsentRecord> records,
                                                 const Registry::SourceMove& move, const Registry::KnownFacts& known,
                                                 FollowedRecords& followed) const;
  absl::StatusOr<std::vector<Registry::Source>> ReadClocks();
  void SetSourceClocks() { clocks_.Set(options_.steadyNow(), options_.wallNow()); }

  // In which a key of this name is made, and `kek` its KEK's key. 0: a user's key, without a KEK.
  int64_t WindowOf(const ScopeName& name) const;
  int64_t SharedWindow(const std::optional<KekName>& kek) const;

  const KeyServiceOptions options_;
  const std::unique_ptr<Registry> registry_;
  const std::unique_ptr<RootKey> root_;
  RegistryKeys keys_;
  EpochTurns turns_;
  EpochUnwrapper unwrapper_;  // after the above: its end stops the root key, which may be turning
  Registry::Agent self_;
  SteadyTime noted_;                     // before NoteAgent was OK last; the epoch: never
  uint64_t openingOfNote_ = 0;           // of the registry, when NoteAgent was OK last; 0: never
  uint64_t openingOfKeys_;               // of the registry, when its epoch keys were those in use
  absl::Status reloadStatus_;            // why those of the registry that was opened anew cannot be used
  absl::Status trialStatus_;             // how the last unwrapping of epoch keys went
  std::vector<Registry::Epoch> asked_;   // what is or was being unwrapped last
  std::vector<Registry::Epoch> epochs_;  // as they were read last
  std::chrono::steady_clock::time_point askEpochsNotBefore_;
  std::optional<std::vector<int64_t>> metEpochs_;  // that the registry had, when MeetEpoch asked it last
  TrialPace pace_;                                 // of these
  Registry::EpochCounts counts_;
  std::chrono::steady_clock::time_point countNotBefore_;
  std::chrono::steady_clock::time_point deadline_;
  absl::Status rootKeyStatus_;
  bool hasUnreadableRows_ = false;
  NewUserLimit newUsers_;
  std::optional<absl::Status> room_;  // for the lookups being answered
  ThrowAwayKeys throwAways_;
  uint64_t openingOfThrowAways_ = 0;  // of the registry that they are in
  KekKeys keks_;
  FactsPool facts_;
  SourceClocks clocks_;
  int looksAtSources_ = 0;
};

}  // namespace kveil::keys
