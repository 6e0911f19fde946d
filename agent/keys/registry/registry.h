// The registry: one row per scope key, wrapped, what was erased, and what is known of users. It knows rows, and nothing
// of what unwraps them, nor what is known.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/key_id.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

// HMAC of a scope's name under the registry secret, so that the registry is not a list of people.
using Subject = std::array<uint8_t, 32>;
using RegistryId = std::array<uint8_t, 16>;

// One connection to a registry. One thread uses it. Other agents may use the same registry at the same moment: each
// call takes effect as a whole or not at all, and what it has changed when it returns OK is durable.
//
// Calls take many keys at once, so that a registry that is a network away needs one round trip per call.
//
// Every call may block until the deadline. Errors name the registry, and never hold a key, a subject or a key id:
//
//   kUnavailable         passes by itself or is put right outside: locked, full, unreachable, corrupt. Nothing changed,
//                        but when the answer of a registry that is a network away was lost: asking again tells
//   kFailedPrecondition  needs the operator: not a kveil registry, or of a version that this program does not know
//   kDataLoss            of one row: it is damaged. The other rows are not concerned
class Registry {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  virtual ~Registry() = default;

  // For messages, such as "registry /var/lib/kveil/registry.db".
  virtual const std::string& name() const = 0;

  // Applies to the calls that follow.
  virtual void SetDeadline(Deadline deadline) = 0;

  // Opens the registry anew if the last error or the operator (a restored backup, a failover) calls for it. Call it
  // first, each time: the others work only after it was OK, and never open anew themselves. kUnavailable also when
  // another registry has taken this one's place.
  virtual absl::Status EnsureOpen() = 0;
  // Has the next EnsureOpen open it anew: what was read makes no sense, and may have been put right by then.
  virtual void Reopen() = 0;
  // How often it was opened. When this has grown, the registry may be a restored one: what was read before may not be
  // in it, and what was erased may be back.
  virtual uint64_t openings() const = 0;

  using AgentId = std::array<uint8_t, 16>;  // a new one each time that it starts

  struct Identity {
    RegistryId id{};
    ByteBuffer wrappedSecret;
  };
  // Times are by the registry's clock.
  struct Epoch {
    int64_t number = 0;
    ByteBuffer wrappedKey;  // empty: destroyed
    bool isUsed = true;     // if not, no row is of it yet: all agents are to know its key first
    // How long ago it was made. Less than 0: the clock was set back since.
    std::chrono::milliseconds age{0};
    // How long ago it was destroyed, or, of the newest one, all before it were.
    std::optional<std::chrono::milliseconds> endAge;
    // The number of the last erasure before it was made. nullopt: of the first epoch, or made by an earlier version.
    std::optional<int64_t> erasuresBefore;
  };
  // nullopt in a new registry.
  virtual absl::StatusOr<std::optional<Identity>> ReadIdentity() = 0;
  // In order: those that are not destroyed, or also the last kMostPastEpochs that are.
  virtual absl::StatusOr<std::vector<Epoch>> ReadEpochs(bool withDestroyed) = 0;
  absl::StatusOr<std::vector<Epoch>> ReadEpochs() { return ReadEpochs(/*withDestroyed=*/false); }
  static constexpr size_t kMostPastEpochs = 100;
  // Gives a new registry its identity and first epoch. OK too, and nothing is changed, when another agent was quicker.
  virtual absl::Status Initialise(const Identity& identity, const Epoch& first, absl::Time now) = 0;

  // What an active row is found by. `window` is 0 for users.
  struct RowName {
    Subject subject{};
    int64_t window = 0;

    friend bool operator==(const RowName&, const RowName&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const RowName& name) {
      return H::combine(std::move(state), name.subject, name.window);
    }
  };
  struct Row {
    crypto::KeyId id;
    Scope scope = Scope::kUser;
    RowName name;
    int64_t epoch = 0;
    bool erased = false;
    ByteBuffer wrappedKey;  // empty when erased
    std::string facts;      // of the subject, as WriteFacts got them; empty when nothing is known, or erased
  };
  // nullopt: there is none. kDataLoss: there is one, and it is damaged.
  using Found = absl::StatusOr<std::optional<Row>>;

  // The active rows of these names. One answer per name, in the same order.
  virtual absl::StatusOr<std::vector<Found>> FindMany(absl::Span<const RowName> names) = 0;
  // Active and erased rows. One answer per id, in the same order.
  virtual absl::StatusOr<std::vector<Found>> FindManyById(absl::Span<const crypto::KeyId> ids) = 0;

  struct NewRow {
    Row row;
    std::string_view keyspace;  // for kUser: where EraseUser will look for the user
  };
  struct Inserted {
    enum class State {
      kNew,     // the row is in the registry
      kExists,  // there was an active row of this name, which is `existing`
      kErased,  // the subject was erased: the row's id is in the registry as an erased one, and its wrapped key is not
      kStale,   // the row's epoch is not the newest that is used. Nothing was inserted
    };
    State state = State::kNew;
    std::optional<Row> existing;
    std::string facts;  // kNew: of the subject, which may be known before it has a key
  };
  // Inserts every row whose name has no active row yet. One answer per row, in the same order. However many agents
  // insert the same name at the same moment, one of their rows stays, and all of them get that one.
  virtual absl::StatusOr<std::vector<Inserted>> InsertOrGet(absl::Span<const NewRow> rows, absl::Time now) = 0;

  // A turn of the epochs: service/epoch_turns.h has its steps. Each takes effect as a whole, and only if the registry
  // is as the step says; if it is not, another agent was quicker, and it is read anew.
  //
  // Adds an epoch that is not used yet, and replaces the wrapped secret. False: the newest epoch is not the one before,
  // is not the only one, or the secret is another.
  virtual absl::StatusOr<bool> AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore, const ByteBuffer& secret,
                                        absl::Time now) = 0;
  // From now on, rows are inserted only if they are of this epoch. False: it is not the newest, or used already.
  virtual absl::StatusOr<bool> UseEpoch(int64_t number, absl::Time now) = 0;
  // How far all rows are of the newest epoch: up to the one with this id, in an order of the registry's own. Empty:
  // none.
  using TurnPlace = std::string;
  static constexpr std::string_view kTurnDone = "done";  // all are
  // Has this agent bring rows to the newest epoch, if no other does: none that has been heard of within `lease`.
  // nullopt: another one does, or that epoch is not the newest.
  virtual absl::StatusOr<std::optional<TurnPlace>> LeadTurn(int64_t epoch, const AgentId& self,
                                                            std::chrono::milliseconds lease) = 0;
  // Rows after a place in that order, at most `most`, active and erased ones, without facts. Fewer: there are no more.
  virtual absl::StatusOr<std::vector<Found>> ReadRowsAfter(const TurnPlace& place, size_t most) = 0;
  // Replaces the wrapped keys of rows that are active and of an earlier epoch than these, and moves the place. Such
  // rows of subjects that were erased, which somebody has put back, become erased ones. The agent is heard of. False:
  // it leads no more, or the place is another; nothing was changed.
  virtual absl::StatusOr<bool> MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before,
                                        const TurnPlace& after, absl::Span<const Row> rows) = 0;
  // Destroys the keys of all epochs before. False: the agent leads no more, the place is not kTurnDone, or there are
  // active rows of an epoch before, as somebody has put them behind the place: begin again. kAborted: not now, for a
  // reason that passes by itself. The message is for the operator.
  virtual absl::StatusOr<bool> EndTurn(int64_t epoch, const AgentId& self, absl::Time now) = 0;
  // Gives up an active row that does not give its key: destroys what is stored of the key, and makes the row an erased
  // one, although its user is not. False: there is no such row with that wrapped key by now; nothing was changed.
  virtual absl::StatusOr<bool> GiveUpRow(const Row& row, absl::Time now) = 0;
  // What the root key has wrapped, and the same wrapped anew.
  struct Rewrapped {
    int64_t epoch = 0;  // 0: the secret of the registry
    ByteBuffer before, after;
  };
  // Replaces the secret and the keys of all epochs that are not destroyed, or nothing. False: these are not all of
  // them, or one is another by now.
  virtual absl::StatusOr<bool> ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) = 0;
  struct EpochCount {
    int64_t epoch = 0;
    uint64_t keys = 0;  // active rows
  };
  struct EpochCounts {
    std::vector<EpochCount> counts;
    bool isAll = true;  // if not, only kMostCounted rows were looked at
  };
  virtual absl::StatusOr<EpochCounts> CountKeys() = 0;
  static constexpr size_t kMostCounted = 100'000;

  // What there is to know of a key without its bytes.
  struct KeyInfo {
    crypto::KeyId id;
    Scope scope = Scope::kUser;
    RowName name;
    int64_t epoch = 0;
    absl::Time made;  // to the minute, or more exactly
    std::optional<absl::Time> erased;
  };
  struct KeyList {
    std::vector<KeyInfo> keys;  // without those whose rows are damaged
    std::string next;           // where the next page begins; empty: there are no more
  };
  // Keys in the order of their ids, beginning with an id or a part of one, of at most `most` rows (1 or more).
  virtual absl::StatusOr<KeyList> ListKeys(std::string_view from, size_t most) = 0;

  // A key that a KEK has wrapped, and that wraps the keys of rows (service/kek_keys.h). The key is never changed; it
  // may be wrapped anew.
  struct KekKey {
    crypto::KeyId id;
    KekName name;
    int64_t window = 0;
    ByteBuffer wrappedKey;  // by the provider
  };
  // At most kMostKekKeysOfARead. Those that are there, in any order.
  virtual absl::StatusOr<std::vector<KekKey>> FindKekKeys(absl::Span<const crypto::KeyId> ids) = 0;
  static constexpr size_t kMostKekKeysOfARead = 1024;
  // That of this name and window. nullopt: there is none.
  virtual absl::StatusOr<std::optional<KekKey>> FindKekKey(const KekName& name, int64_t window) = 0;
  // Inserts it, unless there is one of its name and window. Returns the one that is there now.
  virtual absl::StatusOr<KekKey> InsertOrGetKekKey(const KekKey& key, absl::Time now) = 0;
  // Those of a provider, or of one of its KEKs when `name` is not empty, in the order of their ids: at most `most` that
  // come after an id; the zero id: from the first.
  virtual absl::StatusOr<std::vector<KekKey>> ListKekKeys(std::string_view provider, std::string_view name,
                                                          const crypto::KeyId& after, size_t most) = 0;
  // Replaces what is wrapped of this key. False: it is another by now.
  virtual absl::StatusOr<bool> ReplaceKekKey(const KekKey& before, const ByteBuffer& after) = 0;

  struct Erased {
    size_t keyCount = 0;                 // wrapped keys destroyed by this call
    std::vector<std::string> keyspaces;  // where they were, or the user was known without a key
    struct Earlier {
      std::string keyspace;
      absl::Time time;
    };
    std::vector<Earlier> earlier;            // where the user was erased before
    std::optional<absl::Time> erasedBefore;  // the first time of these
    int64_t number = 0;                      // of the user's last erasure, by this call or before; 0: none
  };
  // The subject of one of the users in a keyspace. `user` counts from 0.
  using SubjectOf = absl::FunctionRef<Subject(size_t user, std::string_view keyspace)>;
  // Destroys every wrapped key of `count` different users in one keyspace, or in all, deletes what is known of them and
  // its history, and remembers the erasures. One answer per user. The erasure of a user takes effect at one moment: it
  // covers every key of the user that any agent was given before that moment, also in a keyspace that is new. For a
  // user with no key who is not known, nothing is changed; what was erased before is durable, too, when this returns
  // OK. A subject that was erased before and has keys, as somebody has put rows back, is erased anew. After an error
  // some of the users may be erased and others not: asking again tells.
  //
  // Others wait for a few milliseconds at most, as many users are erased in several steps.
  virtual absl::StatusOr<std::vector<Erased>> EraseUsers(std::optional<std::string_view> keyspace, size_t count,
                                                         SubjectOf subjectOf, absl::Time now) = 0;
  // The same for one user.
  using SubjectIn = absl::FunctionRef<Subject(std::string_view keyspace)>;
  absl::StatusOr<Erased> EraseUser(std::optional<std::string_view> keyspace, SubjectIn subjectIn, absl::Time now) {
    const auto subjectOf = [subjectIn](size_t, std::string_view candidate) { return subjectIn(candidate); };
    absl::StatusOr<std::vector<Erased>> erased = EraseUsers(keyspace, 1, subjectOf, now);
    if (!erased.ok()) return erased.status();
    return std::move(erased->front());
  }
  static constexpr int64_t kMostKeylessErasures = 1'000'000;
  // The same for different subjects in one keyspace, which somebody knows from before. Erasures are remembered also of
  // those that have no key and are not known here: a key that comes later is an erased one. If the registry remembers
  // kMostKeylessErasures of them before the call, it changes nothing for such a subject. kInvalidArgument, and nothing
  // is changed: one of the subjects is a topic or a cluster.
  virtual absl::StatusOr<std::vector<Erased>> EraseSubjects(std::string_view keyspace,
                                                            absl::Span<const Subject> subjects, absl::Time now) = 0;
  struct Readmission {
    enum class State {
      kNotErased,
      kReadmitted,  // it was erased, and is no more
      kUnderWay,    // an agent that may have a key of it has not confirmed the erasure yet. Nothing was changed
    };
    State state = State::kNotErased;
    absl::Time erased;  // when; not with kNotErased
  };
  // Ends the erasures of different subjects, at most kMostReadmitted: the keys that were destroyed stay so, and the
  // next one that is made is kept. One answer per subject, in the same order. What was so before is durable, too, when
  // this returns OK. It has a number of those of erasures and changes. Poll does not tell of an erasure that has ended.
  virtual absl::StatusOr<std::vector<Readmission>> Readmit(absl::Span<const Subject> subjects, absl::Time now) = 0;
  static constexpr size_t kMostReadmitted = 512;
  // Removes what the registry's own files still hold of destroyed keys outside its rows. kUnavailable while another
  // process stands in the way: ask again. kUnimplemented when old copies of rows are out of the registry's reach.
  // Backups and file system snapshots always are.
  virtual absl::Status PurgeErased() = 0;

  // What is known of one subject.
  struct KnownFacts {
    std::string facts;                 // as WriteFacts got them; empty: nothing is known
    int64_t number = 0;                // of the change that they came with; 0: there never was one
    std::optional<absl::Time> erased;  // when the subject was erased
    int64_t readmission = 0;           // the number of the last end of an erasure of it; 0: none has ended
  };
  // One answer per subject, in the same order.
  virtual absl::StatusOr<std::vector<KnownFacts>> ReadFacts(absl::Span<const Subject> subjects) = 0;
  struct NewFacts {
    Subject subject{};
    std::string_view keyspace;  // where EraseUser will look for the user
    std::string facts;
    int64_t number = 0;   // of the facts that these come from; they are not written when there are others by now
    std::string history;  // what has changed; empty: nothing that is kept
  };
  // Replaces what is known of different subjects, at most kMostFactsOfAWrite. One answer per subject, in the same
  // order: the number of the change, or 0 when the subject has other facts by now, or was erased. Without any, only
  // makes sure that what was read before is durable. Numbers are those of erasures and changes together: they grow.
  virtual absl::StatusOr<std::vector<int64_t>> WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) = 0;
  static constexpr size_t kMostFactsOfAWrite = 512;
  struct PastChange {
    int64_t number = 0;
    absl::Time time;
    std::string history;
  };
  // A topic that consents come from. One agent at a time follows it; all agents go by what that one has found.
  struct Source {
    std::string keyspace;    // of the users; there is one source of a keyspace at most
    int64_t term = 0;        // grows whenever another agent begins to follow
    int64_t generation = 0;  // of what was read of the topic; 0: nothing yet
    std::string state;       // how far it was read; the follower's
    std::string follower;    // for people: the agent that follows, or was the last one
    // How long ago, by the registry's clock, everything in the topic was here. nullopt: never of this generation.
    std::optional<std::chrono::milliseconds> age;
    std::chrono::milliseconds staleAfter{0};  // from that age on, consents of it do not count
  };
  // A Source's age by a clock that may have been set back since: then nobody knows how old it is, and it is nullopt.
  static std::optional<std::chrono::milliseconds> SourceAge(std::chrono::milliseconds age) {
    constexpr std::chrono::seconds kSkew{2};
    if (age < -kSkew) return std::nullopt;
    return std::max(age, std::chrono::milliseconds(0));
  }
  // At most kMostSources, with their states or without.
  virtual absl::StatusOr<std::vector<Source>> ReadSources(bool withStates) = 0;
  static constexpr size_t kMostSources = 64;
  // Has this agent follow, if no other does: none that has been heard of within `lease`. The source as it is, with a
  // term of its own; nullopt: another agent follows. kUnavailable also when kMostSources are known already.
  virtual absl::StatusOr<std::optional<Source>> LeadSource(std::string_view keyspace, const AgentId& self,
                                                           std::string_view name, std::chrono::milliseconds lease) = 0;
  // Ends the following: the next agent need not wait until the lease is over. Changes nothing when the term is over.
  virtual absl::Status ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) = 0;
  // What the follower has found.
  struct SourceMove {
    std::string_view keyspace;
    int64_t term = 0;
    int64_t generation = 0;
    std::string_view state;
    // How long ago everything in the topic was here, and in the registry with this move. nullopt: as it was, or never
    // of a generation that is new.
    std::optional<std::chrono::milliseconds> age;
    std::chrono::milliseconds staleAfter{0};
    // Where the follower goes on from: the state that it read or wrote last.
    std::string_view before;
    AgentId agent{};  // the follower
  };
  struct Moved {
    bool isDone = false;           // if not, nothing was written
    std::vector<int64_t> numbers;  // as WriteFacts returns them, none of them 0
  };
  // Replaces what is known of different users together with how far the topic was read: all of it or nothing. Nothing
  // when the term is over, the state is another one, as that of a registry which was restored meanwhile, or when one of
  // the subjects has other facts by now or was erased. The follower is heard of.
  virtual absl::StatusOr<Moved> MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts,
                                           absl::Time now) = 0;

  // The last changes that are kept, the oldest first.
  virtual absl::StatusOr<std::vector<PastChange>> ReadHistory(const Subject& subject) = 0;
  static constexpr size_t kMostPastChanges = 100;  // of a subject; then the oldest are dropped
  // The keyspaces in which any user ever had a key or was known, in order.
  virtual absl::StatusOr<std::vector<std::string>> ReadKeyspaces() = 0;

  // What any agent has erased or changed since the last call, or since the registry was opened.
  struct News {
    std::vector<crypto::KeyId> erased;   // keys
    std::vector<crypto::KeyId> changed;  // keys of users of whom something else is known now
    bool mayHaveMore = false;            // which the next call tells of
  };
  // Of at most kMostNewsOfAPoll erasures and changes.
  virtual absl::StatusOr<News> Poll() = 0;
  static constexpr size_t kMostNewsOfAPoll = 1024;
  // A descriptor that can be read when Poll has something to tell, or the connection has ended. It changes when
  // the registry is opened anew. -1: there is none. It only makes polls come sooner, which are needed all the same.
  virtual int wakeDescriptor() const { return -1; }
  // Whether word of news came together with the answer to another call than Poll: wakeDescriptor does not show it.
  virtual bool isTold() const { return false; }
  // Up to which number Poll has told of all erasures and changes, those from before the registry was opened included.
  // The numbers grow, with gaps.
  virtual int64_t lastNumber() const = 0;

  // An agent that uses the registry.
  struct Agent {
    AgentId id{};
    std::string name;  // for people
    std::chrono::milliseconds cacheTtl{0};
    int64_t confirmed = 0;  // the erasure or change up to which it has dropped the keys of all
    // How long ago it was last noted, by the registry's clock. NoteAgent does not use it.
    std::chrono::milliseconds lastSeen{0};
    int64_t epoch = 0;  // the newest that it can unwrap. 0: an agent of a version that knows of no turns
  };
  // Notes that this agent lives, and what it has confirmed. kUnavailable also when kMostAgents are known already.
  virtual absl::Status NoteAgent(const Agent& self) = 0;
  // Forgets an agent that has ended, and has no keys any more.
  virtual absl::Status ForgetAgent(const AgentId& id) = 0;
  // The agents that were noted within the last hour and their cacheTtl. Any that was not has no keys any more.
  virtual absl::StatusOr<std::vector<Agent>> ReadAgents() = 0;
  static constexpr size_t kMostAgents = 10'000;
  // Not longer, or one agent that crashes again and again takes the places of all.
  static constexpr std::chrono::hours kAgentsKept{1};
  // Whether agents on several nodes may use it. If not, it knows one agent only, which is this one.
  virtual bool isShared() const = 0;

  // Whether it can be written now. Writes something that changes nothing.
  virtual absl::Status CheckWritable(absl::Time now) = 0;
  // Whether there is room for more than erasures. Erasing needs room too, so new users must not take the last of it.
  virtual absl::Status CheckRoom() const = 0;

 protected:
  // The refusal of EraseSubjects.
  static absl::Status NotAUser() {
    return absl::InvalidArgumentError("a pseudonym is that of a topic or a cluster; nobody was erased");
  }
};

}  // namespace kveil::keys
