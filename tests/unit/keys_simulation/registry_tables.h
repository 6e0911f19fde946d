// What a registry for many agents holds, in memory: what PostgreSQL does in one transaction, each method does at once.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keys/registry/registry.h"

namespace kveil::keys {

// Values, so that a copy is a backup, or a standby that has lost the last moments.
class RegistryTables {
 public:
  using Millis = int64_t;  // since 1970, by the server's clock

  // Changes with every restored backup. 0: there is no registry yet.
  int64_t file = 0;

  std::optional<Registry::Identity> ReadIdentity() const { return identity_; }
  std::vector<Registry::Epoch> ReadEpochs(bool withDestroyed, Millis now) const;
  void Initialise(const Registry::Identity& identity, const Registry::Epoch& first, Millis now);

  std::vector<Registry::Found> FindMany(const std::vector<Registry::RowName>& names) const;
  std::vector<Registry::Found> FindManyById(const std::vector<crypto::KeyId>& ids) const;
  struct NewRow {
    Registry::Row row;
    std::string keyspace;
  };
  std::vector<Registry::Inserted> InsertOrGet(const std::vector<NewRow>& rows, absl::Time when);

  bool AddEpoch(const Registry::Epoch& epoch, const ByteBuffer& secretBefore, const ByteBuffer& secret, Millis now);
  bool UseEpoch(int64_t number, Millis now);
  std::optional<Registry::TurnPlace> LeadTurn(int64_t epoch, const Registry::AgentId& self, Millis lease, Millis now);
  std::vector<Registry::Found> ReadRowsAfter(const Registry::TurnPlace& place, size_t most) const;
  bool MoveTurn(int64_t epoch, const Registry::AgentId& self, const Registry::TurnPlace& before,
                const Registry::TurnPlace& after, const std::vector<Registry::Row>& rows, Millis now);
  bool EndTurn(int64_t epoch, const Registry::AgentId& self, Millis now);
  bool GiveUpRow(const Registry::Row& row, absl::Time when);
  Registry::EpochCounts CountKeys() const;
  Registry::KeyList ListKeys(const std::string& from, size_t most) const;

  std::vector<Registry::KekKey> FindKekKeys(const std::vector<crypto::KeyId>& ids) const;
  std::optional<Registry::KekKey> FindKekKey(const KekName& name, int64_t window) const;
  Registry::KekKey InsertOrGetKekKey(const Registry::KekKey& key);
  std::vector<Registry::KekKey> ListKekKeys(const std::string& provider, const std::string& name,
                                            const crypto::KeyId& after, size_t most) const;
  bool ReplaceKekKey(const Registry::KekKey& before, const ByteBuffer& after);
  bool ReplaceWrapped(const std::vector<Registry::Rewrapped>& rewrapped);

  // The subjects of one user, by keyspace.
  using Subjects = std::map<std::string, Subject>;
  // `isAlways`: also those of whom nothing is known. nullopt, and nothing was done: `mustBeAll`, and there is another
  // keyspace.
  std::optional<std::vector<Registry::Erased>> EraseUsers(const std::vector<Subjects>& users, bool mustBeAll,
                                                          bool isAlways, absl::Time when);

  std::vector<Registry::Readmission> Readmit(const std::vector<Subject>& subjects, Millis now);
  std::vector<Registry::KnownFacts> ReadFacts(const std::vector<Subject>& subjects) const;
  struct NewFacts {
    Subject subject{};
    std::string keyspace;
    std::string facts;
    int64_t number = 0;
    std::string history;
  };
  std::vector<int64_t> WriteFacts(const std::vector<NewFacts>& facts, absl::Time when);
  std::vector<Registry::PastChange> ReadHistory(const Subject& subject) const;
  std::vector<std::string> ReadKeyspaces() const { return {keyspaces_.begin(), keyspaces_.end()}; }

  std::vector<Registry::Source> ReadSources(bool withStates, Millis now) const;
  struct Led {
    bool isFull = false;  // there are too many
    std::optional<Registry::Source> source;
  };
  Led LeadSource(const std::string& keyspace, const Registry::AgentId& self, const std::string& name, Millis lease,
                 Millis now);
  void ReleaseSource(const std::string& keyspace, int64_t term, const Registry::AgentId& self);
  struct SourceMove {
    std::string keyspace, state, before;
    int64_t term = 0, generation = 0;
    std::optional<Millis> age;
    Millis staleAfter = 0;
    Registry::AgentId agent{};
  };
  Registry::Moved MoveSource(const SourceMove& move, const std::vector<NewFacts>& facts, absl::Time when, Millis now);

  struct Polled {
    Registry::News news;
    int64_t file = 0;
    int64_t last = 0;    // the highest number there is
    int64_t newest = 0;  // that was told of
  };
  Polled Poll(int64_t after) const;

  bool NoteAgent(const Registry::Agent& self, Millis now);  // false: there are too many
  void ForgetAgent(const Registry::AgentId& id) { agents_.erase(id); }
  std::vector<Registry::Agent> ReadAgents(Millis now) const;

  // What a simulation looks at.
  //
  // Whether every key can be unwrapped by an epoch that is there, and no erased user has one.
  absl::Status Check() const;
  bool AreUsersOrUnknown(const std::vector<Subjects>& users) const;
  // Grows with erasures, readmissions and keys that are given up.
  uint64_t revision() const { return revision_; }
  // Grows when an agent confirms.
  uint64_t confirmations() const { return confirmations_; }
  // The highest number of an erasure, a change or a readmission.
  int64_t sequence() const { return sequence_; }
  struct KeyLife {
    const Registry::Row* row = nullptr;
    int64_t made = 0;        // after that number
    bool isGivenUp = false;  // erased, and its user is not
    int64_t erasure = 0;     // the number of the erasure that destroyed it; 0: none did
  };
  std::optional<KeyLife> LifeOf(const crypto::KeyId& id) const;
  bool IsErased(const crypto::KeyId& id) const;
  struct SubjectLife {
    bool isErased = false;
    int64_t erasure = 0;      // the number of the last one, ended or not
    int64_t readmission = 0;  // the same
  };
  SubjectLife LifeOf(const Subject& subject) const;
  int64_t ConfirmedBy(const std::string& agent) const;

  // What a simulation does. Puts other bytes in the place of the wrapped key of an active row.
  void SetWrappedKey(const crypto::KeyId& id, ByteBuffer wrapped) { rows_.at(id).wrappedKey = std::move(wrapped); }
  bool isFull = false;  // no agent that is not known is noted

 private:
  struct KeyIdLess {
    bool operator()(const crypto::KeyId& left, const crypto::KeyId& right) const { return left.bytes < right.bytes; }
  };
  struct EpochRow {
    ByteBuffer wrappedKey;
    Millis created = 0;
    std::optional<Millis> destroyed;
  };
  struct TurnRow {
    std::optional<Millis> used, ended;
    std::optional<int64_t> erasuresBefore;
    Registry::AgentId agent{};
    Millis seen = 0;
    Registry::TurnPlace place;
  };
  struct ErasureRow {
    int64_t number = 0;
    absl::Time time;
  };
  struct FactsRow {
    int64_t number = 0;
    std::string facts;
  };
  struct SourceRow {
    Registry::Source source;
    Registry::AgentId agent{};
    Millis seen = 0;
    std::optional<Millis> current;
  };
  struct AgentRow {
    Registry::Agent agent;
    Millis seen = 0;
  };
  struct News {
    Subject subject{};
    bool isErased = false;
  };

  int64_t newestEpoch() const { return epochs_.empty() ? 0 : epochs_.rbegin()->first; }
  int64_t EpochInUse() const;
  Registry::Row WithFacts(const Registry::Row& row) const;
  // Of a turn that `self` leads; nullptr: it does not.
  TurnRow* LedBy(int64_t epoch, const Registry::AgentId& self);
  bool MayWrite(const NewFacts& facts) const;
  Registry::Source Shown(const SourceRow& row, bool withState, Millis now) const;

  std::optional<Registry::Identity> identity_;
  std::map<int64_t, EpochRow> epochs_;
  std::map<int64_t, TurnRow> turns_;
  std::map<crypto::KeyId, Registry::Row, KeyIdLess> rows_;
  struct Times {
    absl::Time made;
    std::optional<absl::Time> erased;
    int64_t madeAfter = 0, erasure = 0;  // numbers
  };
  std::map<crypto::KeyId, Times, KeyIdLess> times_;
  std::map<std::pair<KekName, int64_t>, Registry::KekKey> kekKeys_;
  std::map<std::pair<Subject, int64_t>, crypto::KeyId> active_;
  std::multimap<Subject, crypto::KeyId> bySubject_;
  std::set<std::string> keyspaces_;
  int64_t sequence_ = 0;
  uint64_t revision_ = 0;
  uint64_t confirmations_ = 0;
  std::map<Subject, ErasureRow> erasures_;
  std::map<Subject, int64_t> readmissions_;
  std::map<Subject, int64_t> lastErasures_;
  std::map<Subject, FactsRow> facts_;
  std::map<int64_t, News> news_;  // erasures, and what is known now
  std::map<Subject, std::vector<Registry::PastChange>> history_;
  std::map<std::string, SourceRow> sources_;
  std::map<Registry::AgentId, AgentRow> agents_;
};

}  // namespace kveil::keys
