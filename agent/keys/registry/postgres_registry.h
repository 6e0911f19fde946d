// The registry in a PostgreSQL database: for many nodes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keys/registry/keyless_erasures.h"
#include "keys/registry/postgres.h"
#include "keys/registry/postgres_connector.h"
#include "keys/registry/postgres_epoch_index.h"
#include "keys/registry/registry.h"

namespace kveil::keys {

// Keeps one connection. Every call is one round trip, however many keys it is about; EraseUsers takes two for every 512
// of users times keyspaces. The server never waits for an agent while it holds a lock: each transaction is sent as a
// whole.
//
// A call whose deadline comes first leaves its answer outstanding: the connection is used again when it has come, and
// given up when it does not come for seconds. So an agent that looks every half second does not connect anew each time
// when the server is slow.
//
// A server that misses its synchronous standby never answers a commit, and its process waits on when the connection is
// gone. So while one that this agent has left behind waits, nothing is written: there is one of an agent at most.
class PostgresRegistry : public Registry {
 public:
  static absl::StatusOr<std::unique_ptr<Registry>> Open(PostgresOptions options, int64_t mostKeylessErasures,
                                                        bool mustExist, Deadline deadline);
  ~PostgresRegistry() override;

  const std::string& name() const override { return connector_.name(); }
  void SetDeadline(Deadline deadline) override { deadline_ = deadline; }
  absl::Status EnsureOpen() override;
  void Reopen() override { broken_ = true; }
  uint64_t openings() const override { return openings_; }

  absl::StatusOr<std::optional<Identity>> ReadIdentity() override;
  using Registry::ReadEpochs;
  absl::StatusOr<std::vector<Epoch>> ReadEpochs(bool withDestroyed) override;
  absl::Status Initialise(const Identity& identity, const Epoch& first, absl::Time now) override;
  absl::StatusOr<std::vector<Found>> FindMany(absl::Span<const RowName> names) override;
  absl::StatusOr<std::vector<Found>> FindManyById(absl::Span<const crypto::KeyId> ids) override;
  absl::StatusOr<std::vector<Inserted>> InsertOrGet(absl::Span<const NewRow> rows, absl::Time now) override;
  absl::StatusOr<bool> AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore, const ByteBuffer& secret,
                                absl::Time now) override;
  absl::StatusOr<bool> UseEpoch(int64_t number, absl::Time now) override;
  absl::StatusOr<std::optional<TurnPlace>> LeadTurn(int64_t epoch, const AgentId& self,
                                                    std::chrono::milliseconds lease) override;
  absl::StatusOr<std::vector<Found>> ReadRowsAfter(const TurnPlace& place, size_t most) override;
  absl::StatusOr<bool> MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before, const TurnPlace& after,
                                absl::Span<const Row> rows) override;
  absl::StatusOr<bool> EndTurn(int64_t epoch, const AgentId& self, absl::Time now) override;
  absl::StatusOr<bool> GiveUpRow(const Row& row, absl::Time now) override;
  absl::StatusOr<bool> ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) override;
  absl::StatusOr<EpochCounts> CountKeys() override;
  absl::StatusOr<KeyList> ListKeys(std::string_view from, size_t most) override;
  absl::StatusOr<std::vector<KekKey>> FindKekKeys(absl::Span<const crypto::KeyId> ids) override;
  absl::StatusOr<std::optional<KekKey>> FindKekKey(const KekName& name, int64_t window) override;
  absl::StatusOr<KekKey> InsertOrGetKekKey(const KekKey& key, absl::Time now) override;
  absl::StatusOr<std::vector<KekKey>> ListKekKeys(std::string_view provider, std::string_view name,
                                                  const crypto::KeyId& after, size_t most) override;
  absl::StatusOr<bool> ReplaceKekKey(const KekKey& before, const ByteBuffer& after) override;
  absl::StatusOr<std::vector<Erased>> EraseUsers(std::optional<std::string_view> keyspace, size_t count,
                                                 SubjectOf subjectOf, absl::Time now) override;
  absl::StatusOr<std::vector<Erased>> EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects,
                                                    absl::Time now) override;
  absl::StatusOr<std::vector<Readmission>> Readmit(absl::Span<const Subject> subjects, absl::Time now) override;
  absl::Status PurgeErased() override;
  absl::StatusOr<std::vector<KnownFacts>> ReadFacts(absl::Span<const Subject> subjects) override;
  absl::StatusOr<std::vector<int64_t>> WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) override;
  absl::StatusOr<std::vector<Source>> ReadSources(bool withStates) override;
  absl::StatusOr<std::optional<Source>> LeadSource(std::string_view keyspace, const AgentId& self,
                                                   std::string_view name, std::chrono::milliseconds lease) override;
  absl::Status ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) override;
  absl::StatusOr<Moved> MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts, absl::Time now) override;
  absl::StatusOr<std::vector<PastChange>> ReadHistory(const Subject& subject) override;
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces() override;
  absl::StatusOr<News> Poll() override;
  int wakeDescriptor() const override;
  bool isTold() const override;
  int64_t lastNumber() const override { return toldNumber_; }
  absl::Status NoteAgent(const Agent& self) override;
  absl::Status ForgetAgent(const AgentId& id) override;
  absl::StatusOr<std::vector<Agent>> ReadAgents() override;
  bool isShared() const override { return true; }
  absl::Status CheckWritable(absl::Time now) override;
  absl::Status CheckRoom() const override { return absl::OkStatus(); }

 private:
  using Results = std::vector<PostgresResult>;
  // What the connection has not answered yet.
  enum class Step { kNone, kSession, kMake, kMigrate, kFormat, kPrepare, kPoll, kWrite, kOther };

  PostgresRegistry(PostgresOptions options, int64_t mostKeylessErasures);

  // Connects if needed, and takes the answers that are outstanding, until the connection is free for a call.
  absl::Status Advance(bool mustExist);
  absl::Status TakeAnswer(Step step, const Results& results, bool mustExist);
  absl::Status TakeSession(const PostgresResult& session, bool mustExist);
  absl::Status TakeFormat(const PostgresResult& format);
  absl::Status TakePrepared(const Results& results);
  absl::Status Send(Step step, absl::Span<const PostgresStatement> statements);
  absl::Status FailToOpen(const absl::Status& status);

  // The connection is given up: remembers the server's process if it may be in a commit.
  void NoteLeftBehind();
  void GiveUp();

  absl::StatusOr<Results> Call(absl::Span<const PostgresStatement> statements, Step step = Step::kOther);
  // One statement that only reads, with the status that callers see.
  absl::StatusOr<Results> Read(const char* statement, const PostgresParameters& parameters);
  // Whether the server acknowledges what is written.
  absl::Status MayWrite();
  // One statement that writes.
  absl::StatusOr<Results> Write(const PostgresStatement& statement);
  // With the lock, shared or not, as one transaction. Its first result is that of the first of `statements`.
  absl::StatusOr<Results> Transact(const char* lock, absl::Span<const PostgresStatement> statements);
  // Notes whether the connection can be used again, and gives the status that callers see.
  absl::Status Fail(const absl::Status& status);

  absl::StatusOr<std::vector<Found>> Find(size_t count,
                                          absl::FunctionRef<PostgresParameters(size_t, size_t)> parameters,
                                          const char* statement);
  absl::Status TakeRows(const PostgresResult& result, absl::Span<Found> rows) const;
  absl::StatusOr<std::optional<Identity>> TakeIdentity(const PostgresResult& result);
  // `isAlways`: also where there is nothing to erase.
  absl::StatusOr<std::vector<Erased>> EraseEach(std::optional<std::string_view> keyspace, size_t count,
                                                SubjectOf subjectOf, bool isAlways, absl::Time now);
  // Users `first` to `first + erased.size()`. False, and nothing was done, when a keyspace is new.
  absl::StatusOr<bool> EraseSome(const std::vector<std::string>& keyspaces, bool mustBeAll, size_t first,
                                 SubjectOf subjectOf, bool isAlways, absl::Time now, absl::Span<Erased> erased);
  static PostgresParameters FactsParameters(absl::Span<const NewFacts> facts, absl::Time now);
  // The result of `statement`, which writes facts, is the second one.
  absl::StatusOr<Results> WriteFactsBy(const char* statement, absl::Span<const NewFacts> facts,
                                       const PostgresParameters& parameters);
  // Rows of a subject and a number. 0 for facts that were not written.
  absl::StatusOr<std::vector<int64_t>> TakeNumbers(const PostgresResult& written, absl::Span<const NewFacts> facts);
  absl::Status TakeNews(const PostgresResult& result);
  // A transaction of one statement, with the lock that erasures hold. Whether it has returned a row.
  absl::StatusOr<bool> TurnBy(const char* lock, const char* statement, const PostgresParameters& parameters);
  // postgres_keks.cc. Columns: id, provider, name, window, wrapped key.
  absl::StatusOr<std::vector<KekKey>> TakeKekKeys(const PostgresResult& rows) const;
  absl::Status AddAgent(const PostgresParameters& agent);
  absl::Status Corrupt(std::string_view what) const;

  PostgresConnector connector_;
  PostgresEpochIndex epochIndex_;
  std::unique_ptr<PostgresConnection> connection_;
  bool broken_ = false;
  int64_t backend_ = 0;     // the server's process for the connection
  int64_t leftBehind_ = 0;  // that of a connection that was given up during a commit; 0: none
  Step step_ = Step::kNone;
  Deadline stepBegan_;
  Deadline deadline_;
  std::optional<RegistryId> id_;
  int64_t erasuresFile_ = 0;
  int64_t lastNumber_ = 0;  // that was polled
  int64_t toldNumber_ = 0;  // that was handed out
  News news_;               // polled, and not handed out yet
  uint64_t openings_ = 0;
  KeylessErasures keylessErasures_;
};

}  // namespace kveil::keys
