// The registry in an SQLite file: for one node, whose processes may share it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "keys/registry/keyless_erasures.h"
#include "keys/registry/registry.h"
#include "keys/registry/sqlite_tables.h"

namespace kveil::keys {

// Keeps one open file, and opens it anew after errors that this may cure and when the path names another file.
class SqliteRegistry : public Registry {
 public:
  struct Options {
    std::string path;
    std::function<uint64_t()> freeBytes;  // see RegistryOptions, as below
    std::function<bool(const absl::Status& reason)> mayWait;
    int64_t mostKeylessErasures;
  };
  static absl::StatusOr<std::unique_ptr<Registry>> Open(Options options, bool mustExist, Deadline deadline);
  ~SqliteRegistry() override;

  const std::string& name() const override { return name_; }
  void SetDeadline(Deadline deadline) override;
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
  int64_t lastNumber() const override { return lastNumber_; }
  // Kept in memory only: on one node there is one agent.
  absl::Status NoteAgent(const Agent& self) override;
  absl::Status ForgetAgent(const AgentId& id) override;
  absl::StatusOr<std::vector<Agent>> ReadAgents() override;
  bool isShared() const override { return false; }
  absl::Status CheckWritable(absl::Time now) override;
  absl::Status CheckRoom() const override;

 private:
  explicit SqliteRegistry(Options options);

  absl::Status OpenFile(bool mustExist);
  absl::Status OpenAgain();
  template <typename Name, typename Find>
  absl::StatusOr<std::vector<Found>> FindEach(absl::Span<const Name> names, Find find);
  template <typename Write>
  absl::StatusOr<bool> CommitIf(Write write);
  absl::StatusOr<Inserted> InsertOrGetOne(const NewRow& row, int64_t epochInUse, absl::Time now);
  // Whether anything was changed.
  absl::StatusOr<int64_t> ReplaceFacts(const NewFacts& facts, absl::Time now);
  // `isAlways`: also where there is nothing to erase.
  absl::StatusOr<std::vector<Erased>> EraseEach(std::optional<std::string_view> keyspace, size_t count,
                                                SubjectOf subjectOf, bool isAlways, absl::Time now);
  absl::StatusOr<bool> EraseOne(const std::vector<std::string>& keyspaces, SubjectIn subjectIn, bool isAlways,
                                absl::Time now, Erased& erased);
  // Notes whether the file has to be opened anew, and gives the status that callers see.
  absl::Status Fail(const absl::Status& status);

  const Options options_;
  const std::string name_;
  std::unique_ptr<SqliteTables> tables_;  // null after an error, until it can be opened again
  bool broken_ = false;
  Deadline deadline_;
  std::optional<RegistryId> id_;
  int64_t lastNumber_ = 0;
  std::optional<Agent> agent_;
  uint64_t openings_ = 0;
  KeylessErasures keylessErasures_;
};

}  // namespace kveil::keys
