// The node's keys: root key, epoch keys and registry, behind one thread that does everything that blocks.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "crypto/key_id.h"
#include "keys/registry/open_registry.h"
#include "keys/registry/registry.h"
#include "keys/root/open_root_key.h"
#include "keys/root/root_key.h"
#include "keys/service/erasure.h"
#include "keys/service/fetch.h"
#include "keys/service/key_source.h"
#include "keys/service/rotation_slot.h"
#include "keys/service/user_changes.h"

namespace kveil::keys {

class ServiceThread;

// One call erases no more users than this: whoever asks for keys meanwhile waits for it.
inline constexpr size_t kMostUsersOfAnErasure = 256;

struct KeyServiceOptions {
  RootKeyOptions root;
  // Of KEKs that policies name, by the name that they use (kek_keys.h). Files are none.
  std::map<std::string, RootKeyOptions> kekProviders;
  RegistryOptions registry;
  // How long an unwrapped key may be used, counted from the unwrap. At least one second.
  std::chrono::milliseconds cacheTtl = std::chrono::seconds(60);
  // Cluster and topic keys are replaced by new ones each window; old ones stay readable. User keys stay until erased.
  std::chrono::seconds sharedKeyWindow = std::chrono::hours(30 * 24);
  // Epochs turn when the one in use is that old. 0: only when asked.
  std::chrono::milliseconds turnEvery{0};
  // What the registry calls this agent. Empty: host name and process id.
  std::string agentName;
  // How long a Fetch waits for the registry, for example while it is locked, before it says kUnavailable.
  std::chrono::milliseconds registryTimeout = std::chrono::seconds(2);
  // How long Open waits for a root key that is out of reach.
  std::chrono::milliseconds rootKeyPatience = std::chrono::seconds(60);
  // Whether Open waits without end for the PIN of a token, after the token has refused the one that is there.
  bool waitsForPin = true;
  // Asked again and again while Open waits, with the reason: whether it should go on. If not, it returns kCancelled.
  std::function<bool(const absl::Status& reason)> mayWait = [](const absl::Status&) { return true; };
  // Keys of new users per second that one workload may have made; those of ten seconds may be made at once.
  size_t newUsersPerSecond = 10'000;
  // Clocks, for tests.
  std::function<SteadyTime()> steadyNow = [] { return std::chrono::steady_clock::now(); };
  std::function<absl::Time()> wallNow = [] { return absl::Now(); };
  // That of pauses, and of deadlines of the registry: with this one as it is, a test may turn the other two.
  std::function<SteadyTime()> timerNow = [] { return std::chrono::steady_clock::now(); };
};

// Any thread may call. Errors name the registry or the root key that is wrong, and never hold a key, a user's id or a
// subject.
class KeyService : public KeySource {
 public:
  // Makes the registry, and the root key if it is a file, on the first start. kFailedPrecondition when the root key is
  // missing beside a registry that holds keys, is not safe to use, or does not fit the registry; kUnavailable when the
  // registry is locked, full or corrupt, or the root key stays out of reach. Other errors are those of RootKey.
  static absl::StatusOr<std::unique_ptr<KeyService>> Open(KeyServiceOptions options);

  // Answers every fetch that is under way before it returns.
  ~KeyService() override;

  // Destroys every key of the user, in one keyspace or in all of them, and tells all caches before it returns. Blocks
  // for a few milliseconds, at most a few seconds. kNotFound: the user has no key there. kAlreadyExists: all were
  // erased before, see ErasedBefore. kUnavailable: not known to be done; ask again.
  absl::StatusOr<EraseResult> Erase(std::optional<std::string_view> keyspace, std::string_view user);
  // The same for at most kMostUsersOfAnErasure users. That a user has no key or was erased before is no error. After
  // kUnavailable some may be erased and others not: ask again. kInvalidArgument: too many.
  absl::StatusOr<ErasedUsers> EraseUsers(std::optional<std::string_view> keyspace, absl::Span<const std::string> users);

  // The same for different subjects of a keyspace, whose users nobody needs to know: those of receipts. An erasure is
  // remembered also where there is no key.
  absl::StatusOr<ErasedUsers> EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects);
  struct SubjectsRead {
    // Of each erasure: whether the registry knows that the user was erased, or readmitted since.
    std::vector<bool> isErased, isReadmitted;
    uint64_t opening = 0;  // Registry::openings of the connection that was asked
  };
  // What the registry knows of these erasures, at most kMostUsersOfAnErasure. Of one that was lost, as in a registry
  // that was restored, it knows neither. Blocks as Erase does.
  absl::StatusOr<SubjectsRead> ReadErased(absl::Span<const ToldErasure> told);
  // Ends the erasure of a user, in one keyspace or in all of them: what was destroyed stays so, and the user's next
  // record has a new key made. Other agents and workers may seal with a throw-away key for twice the longest cacheTtl
  // after it. Blocks as Erase does.
  absl::StatusOr<ReadmittedUser> Readmit(std::optional<std::string_view> keyspace, std::string_view user);

  // Changes what is known of users, and tells all caches before it returns: they drop the keys of users whose facts
  // have changed, and fetch them anew with what is known now. A user need not have a key yet. At most kMostUserChanges,
  // of the kind that users::Check is content with; those of one user take effect together, in their order. `uid`: who
  // asked, for the history. What an OK tells of is durable, also what was so before. After kUnavailable some may be
  // made and others not: ask again. kInvalidArgument: too many.
  absl::StatusOr<ChangedUsers> ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid);
  // What is known of a user in one keyspace, or in every one in which anything ever was, or the user was erased. Blocks
  // as Erase does.
  absl::StatusOr<std::vector<KnownUser>> ReadUser(std::optional<std::string_view> keyspace, std::string_view user);
  // Those in which any user ever had a key or was known.
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces();

  // Topics that consents come from, by the keyspace of the users. How one is followed: LeadSource, again and again
  // until it gives the source; then FollowSource with what comes after `state`, at least every third of the lease. All
  // block as Erase does.
  absl::StatusOr<std::vector<Registry::Source>> ReadSources();
  // nullopt: another agent follows, that has been heard of within the lease.
  absl::StatusOr<std::optional<LedSource>> LeadSource(std::string_view keyspace, std::chrono::milliseconds lease);
  // Has another agent follow without waiting for the lease. Nothing is changed when this one follows no more.
  absl::Status ReleaseSource(std::string_view keyspace, int64_t term);
  // Has whoever follows read the topic from its beginning, as if it were another one: from when that begins, none of
  // its consents counts until it is read to its end. kNotFound: none was ever followed for this keyspace.
  absl::StatusOr<RereadAsked> RereadSource(std::string_view keyspace);
  // Makes the consents of each user those of the last record, in one transaction with the move, and tells all caches
  // before it returns. At most kMostConsentRecords. `opening`: that of LeadSource. `mayLeaveOut`: also while what is
  // stored of a user cannot be read; if not, nothing is written then. kUnavailable: nothing was written, or it is not
  // known: lead again, as the state tells.
  absl::StatusOr<FollowedRecords> FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                               absl::Span<const ConsentRecord> records, bool mayLeaveOut);

  // What stands for users in the registry. Blocks as Erase does. Of the users whose keys these are, erased ones too, in
  // the same order; nullopt: there is no such key of a user, or its row is damaged.
  absl::StatusOr<std::vector<std::optional<Subject>>> ReadSubjects(absl::Span<const crypto::KeyId> keys);
  // Of a user in one keyspace, or in every one in which any user ever had a key or was known.
  absl::StatusOr<std::vector<NamedSubject>> ReadSubjectsOf(std::optional<std::string_view> keyspace,
                                                           std::string_view user);

  struct AgentsRead {
    std::vector<Registry::Agent> agents;
    uint64_t opening = 0;  // Registry::openings of the connection that was asked
  };
  // The agents that the registry knows, this one among them, and what they have confirmed. Blocks as Erase does.
  absl::StatusOr<AgentsRead> ReadAgents();

  // The number of the newest erasure or change that the registry knows. Blocks as Erase does.
  absl::StatusOr<int64_t> ReadLastErasure();

  // The epochs, whose keys wrap all others: service/epoch_turns.h. Times are this node's.
  enum class EpochState { kComing, kInUse, kEnding, kDestroyed };
  struct EpochInfo {
    int64_t number = 0;
    absl::Time made;
    EpochState state = EpochState::kInUse;
    uint64_t keys = 0;  // that are not erased
    std::optional<absl::Time> destroyed;
  };
  struct Epochs {
    std::vector<EpochInfo> epochs;          // in order
    bool isAll = true;                      // if not, there are more keys than were counted
    std::string problem, note;              // of a turn, in words for the operator; empty: none
    std::string oldCopies;                  // as EpochTurns::oldCopies()
    std::vector<crypto::KeyId> unreadable;  // that stop the turn: some of them, while this agent leads it
  };
  // Without their numbers of keys, unless these are asked for: counting them takes longer, and the answer may be some
  // seconds old. Blocks as Erase does.
  absl::StatusOr<Epochs> ListEpochs(bool withKeys = true);
  // As Registry::ListKeys, of at most kMostKeysListed. Blocks as Erase does.
  absl::StatusOr<Registry::KeyList> ListKeys(std::string_view from, size_t most);
  static constexpr size_t kMostKeysListed = 200;
  // Begins a turn, and does not wait for its end. Returns the number of the epoch that is to end; epochNow()
  // says what it waits for. kAlreadyExists: a
  // turn is under way. Blocks as Erase does.
  absl::StatusOr<int64_t> TurnEpochs();
  // Gives up a key that its row does not give, so that it does not stop a turn: its records are as those of an erased
  // user from then on. If it is a user's, that one gets another key for what comes. kNotFound: the registry has no such
  // key. kAlreadyExists: it is erased, as its user is. kFailedPrecondition: it can be unwrapped. OK also for one that
  // was given up before, as who asked then may not have heard of it. Blocks as Erase does.
  struct GivenUp {
    Scope scope = Scope::kUser;
    int64_t epoch = 0;
  };
  absl::StatusOr<GivenUp> GiveUpKey(const crypto::KeyId& id);
  // Has what the root key has wrapped in the registry wrapped anew, by its newest version, so that older versions can
  // be disabled: the registry's secret and the keys of the epochs, all of them or none. Blocks for up to
  // kRotationTime. kUnimplemented: the root key has no versions; the message says what to do instead. kUnavailable:
  // not done, or not known to be, or only a part was wrapped by the newest version; ask again. Other errors: those of
  // RootKey::Rewrap; nothing was changed.
  struct RotatedRoot {
    std::string rootKey;                // its name
    size_t keys = 0;                    // that were wrapped
    std::vector<std::string> versions;  // that wraps what there is now; none: the root key does not tell
    bool isTurning = false;  // epochs are turning: what is copied of the registry before their end opens what is erased
  };
  absl::StatusOr<RotatedRoot> RotateRootKey();
  // One rotation is made at a time. This ends the one that is under way, soon and with kUnavailable, and refuses
  // others: the end of the agent waits for those who have asked. Any thread may call.
  void EndRotation() { rotation_.End(); }
  static constexpr std::chrono::seconds kRotationTime{12};
  // The same for the keys that a provider's KEKs have wrapped, or one of its KEKs when `name` is not empty: at most
  // kMostKeksRotated of those that come after an id. A KEK that fails holds up no other one. Blocks for up to
  // kRotationTime and twice as long as Erase does. kNotFound: this agent has no such provider.
  struct RotatedKek {
    KekName kek;
    int64_t window = 0;
    std::string version;  // that wraps it now; empty: the provider does not tell
    absl::Status status;  // why it was not wrapped anew
  };
  struct RotatedKeks {
    std::vector<RotatedKek> keks;
    std::optional<crypto::KeyId> next;  // where to go on; none: these were the last
  };
  absl::StatusOr<RotatedKeks> RotateKekKeys(std::string_view provider, std::string_view name,
                                            const crypto::KeyId& after);
  static constexpr size_t kMostKeksRotated = 16;
  struct EpochNow {
    int64_t number = 0;  // that is in use; 0: not known yet
    std::chrono::milliseconds age{0};
    bool isTurning = false;
    std::string note;   // what the operator should know of it
    std::string waits;  // why a turn that was asked for has not begun; empty: there is no reason
    // Erasures that no copy of the registry undoes, as the root key of this node has forgotten what opens one.
    struct Irrecoverable {
      int64_t epoch = 0;     // all before it are destroyed
      int64_t erasures = 0;  // up to this number
      absl::Time destroyed;
    };
    std::optional<Irrecoverable> irrecoverable;
  };
  // As of two seconds ago.
  EpochNow epochNow() const;

  // The registry's id, in hexadecimal digits, and what it calls this agent.
  std::string registryId() const;
  const std::string& agentName() const;

  // OK, or what is wrong now in words for the operator. Becomes OK again by itself when the cause is gone.
  absl::Status health() const;
  // Of the topics that consents come from, by keyspace: those that the registry has or this agent was asked for. As of
  // a second ago.
  std::vector<SourceState> sourceStates() const;

  // See KeySource.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done) override;
  crypto::KeyIdMask NewMask() const override;
  const KeyServiceOptions& options() const override;
  const Revocations& revocations() const override;

  // Does what every sealed record needs, for a look at the service's health: checks the root key, and unwraps the
  // registry's epoch keys with it. `done` is called exactly once, on the service's thread, ahead of the fetches that
  // wait: with kUnavailable, and what is wrong in words for the operator, or OK. While a remote root key takes its
  // time, the answer is that of the last trial, after a second or two.
  void TryUnwrap(absl::AnyInvocable<void(absl::Status)> done);

  // How often the root key's provider was asked, and how that went.
  RootKey::Stats rootKeyStats() const;

  // Of a provider of KEKs.
  struct KekStats {
    std::string provider;
    RootKey::Calls calls;  // since the start
    uint64_t keys = 0;     // unwrapped now
    // Keys that cannot be had, as far as they were asked for lately, by why: out of reach, denied, unusable (there is
    // none, or it is disabled or destroyed), damaged.
    std::array<uint64_t, 4> troubles{};
  };
  // As of half a second ago.
  std::vector<KekStats> kekStats() const;
  // Which KEKs without keys cannot be used, which workload names too many, and that a KEK key is lost or made up; else
  // empty. A workload can bring it about.
  std::string kekNote() const;

 private:
  explicit KeyService(std::unique_ptr<ServiceThread> thread);
  std::unique_ptr<ServiceThread> thread_;
  RotationSlot rotation_;
};

}  // namespace kveil::keys
