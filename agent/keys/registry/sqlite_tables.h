// A registry's SQLite file, and the statements on its tables (sqlite_schema.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "crypto/key_id.h"
#include "keys/registry/registry.h"
#include "keys/registry/sqlite.h"

namespace kveil::keys {

// One open file, used by one thread. Several processes may have the same file open. Errors are those of Database, and
// begin with the file's name.
class SqliteTables {
 public:
  // Of a file of an earlier format; see RegistryOptions.
  struct Migrating {
    std::function<bool(const absl::Status& reason)> mayWait;
    std::function<uint64_t()> freeBytes;
    bool isRefused;  // the others are not looked at then
  };

  // Makes the file, 0600, if there is none. kFailedPrecondition when the file is not a kveil registry, or has a later
  // format.
  static absl::StatusOr<std::unique_ptr<SqliteTables>> OpenOrCreate(const std::string& path,
                                                                    std::chrono::steady_clock::time_point lockDeadline,
                                                                    const Migrating& migrating = {});
  // kNotFound when there is none.
  static absl::StatusOr<std::unique_ptr<SqliteTables>> OpenExisting(const std::string& path,
                                                                    std::chrono::steady_clock::time_point lockDeadline,
                                                                    const Migrating& migrating = {});

  void SetLockDeadline(std::chrono::steady_clock::time_point deadline) { database_->SetLockDeadline(deadline); }
  // Whether the path still names the file that is open. After a restore from a backup, or rm, it does not, and what is
  // written now would be lost.
  bool FileIsInPlace() const;

  // nullopt in a new file.
  absl::StatusOr<std::optional<Registry::Identity>> ReadIdentity();
  absl::Status WriteIdentity(const Registry::Identity& identity, absl::Time now);

  // sqlite_epochs.cc. As in Registry.
  absl::StatusOr<std::vector<Registry::Epoch>> ReadEpochs(bool withDestroyed, absl::Time now);
  absl::Status AddEpoch(const Registry::Epoch& epoch, absl::Time now);
  // With a row in turns. The caller has checked that it is the next one.
  absl::Status BeginTurn(const Registry::Epoch& epoch, const ByteBuffer& secret, absl::Time now);
  absl::StatusOr<bool> UseEpoch(int64_t number, absl::Time now);
  absl::StatusOr<std::optional<Registry::TurnPlace>> LeadTurn(int64_t epoch, const Registry::AgentId& self,
                                                              std::chrono::milliseconds lease, absl::Time now);
  absl::StatusOr<std::vector<Registry::Found>> ReadRowsAfter(const Registry::TurnPlace& place, size_t most);
  absl::StatusOr<bool> MoveTurn(int64_t epoch, const Registry::AgentId& self, const Registry::TurnPlace& before,
                                const Registry::TurnPlace& after, absl::Time now);
  // Destroys the row's key if its subject was erased.
  absl::Status Rewrap(const Registry::Row& row);
  // Active ones. nullopt: none so far, and the next call looks at further rows.
  absl::StatusOr<std::optional<bool>> HasRowsBefore(int64_t epoch);
  absl::StatusOr<bool> EndTurn(int64_t epoch, const Registry::AgentId& self, absl::Time now);
  absl::StatusOr<bool> GiveUpRow(const Registry::Row& row, absl::Time now);
  // False: it is another by now.
  absl::StatusOr<bool> ReplaceWrapped(const Registry::Rewrapped& rewrapped);
  absl::StatusOr<Registry::EpochCounts> CountKeys();
  // sqlite_listing.cc. As in Registry.
  absl::StatusOr<Registry::KeyList> ListKeys(std::string_view from, size_t most);

  // sqlite_keks.cc. As in Registry.
  absl::StatusOr<std::optional<Registry::KekKey>> FindKekKey(const crypto::KeyId& id);
  absl::StatusOr<std::optional<Registry::KekKey>> FindKekKey(const KekName& name, int64_t window);
  absl::Status InsertKekKey(const Registry::KekKey& key, absl::Time now);
  absl::StatusOr<std::vector<Registry::KekKey>> ListKekKeys(std::string_view provider, std::string_view name,
                                                            const crypto::KeyId& after, size_t most);
  absl::StatusOr<bool> ReplaceKekKey(const Registry::KekKey& before, const ByteBuffer& after);

  // That which rows that are inserted have to be of.
  absl::StatusOr<int64_t> EpochInUse();

  absl::StatusOr<Transaction> BeginRead() { return Transaction::Begin(*database_, "BEGIN"); }
  // Takes the write lock at once, so that what is read inside cannot change before the commit.
  absl::StatusOr<Transaction> BeginWrite() { return Transaction::Begin(*database_, "BEGIN IMMEDIATE"); }

  Registry::Found FindActive(const Registry::RowName& name);
  Registry::Found FindById(const crypto::KeyId& id);
  // As an erased row, its wrapped key is left out.
  absl::Status Insert(const Registry::Row& row, bool erased, absl::Time now);

  // User keyspaces in which keys were ever made.
  absl::Status AddKeyspace(std::string_view keyspace);
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces();

  // sqlite_erasing.cc.
  struct Erasure {
    int64_t number = 0;  // 0: there was nothing to erase
    absl::Time time;
    size_t keyCount = 0;
    bool hasKeys = false;  // since then, as somebody has put rows back
  };
  // nullopt when the subject was not erased.
  absl::StatusOr<std::optional<Erasure>> FindErasure(const Subject& subject);
  // Destroys every wrapped key of the subject, deletes what is known of it, and remembers the erasure; `isAlways`: also
  // where there was neither. With a number of 0, nothing is changed.
  absl::StatusOr<Erasure> Erase(const Subject& subject, std::string_view keyspace, bool isAlways, absl::Time now);
  // Destroys every wrapped key of the subject. Returns how many there were.
  absl::StatusOr<size_t> DestroyKeys(const Subject& subject, absl::Time now);
  // Whether the subject has no key of another scope than a user's.
  absl::StatusOr<bool> IsUserOrUnknown(const Subject& subject);
  // Erasures that have destroyed no key, at most `most`.
  absl::StatusOr<int64_t> CountKeylessErasures(int64_t most);
  // Forgets the erasure of a subject that was erased.
  absl::Status Readmit(const Subject& subject, absl::Time now);

  // sqlite_users.cc. As Registry::ReadFacts, for one.
  absl::StatusOr<Registry::KnownFacts> ReadFacts(const Subject& subject);
  // Whatever is known of the subject now. Returns the number of the change.
  absl::StatusOr<int64_t> WriteFacts(const Registry::NewFacts& facts, absl::Time now);
  absl::StatusOr<std::vector<Registry::PastChange>> ReadHistory(const Subject& subject);
  // Deletes what is known of the subject, and its history. Whether anything was known.
  absl::StatusOr<bool> ForgetFacts(const Subject& subject);

  // sqlite_sources.cc.
  absl::StatusOr<std::vector<Registry::Source>> ReadSources(bool withStates, absl::Time now);
  // As Registry::LeadSource.
  absl::StatusOr<std::optional<Registry::Source>> LeadSource(std::string_view keyspace, const Registry::AgentId& self,
                                                             std::string_view name, std::chrono::milliseconds lease,
                                                             absl::Time now);
  absl::Status ReleaseSource(std::string_view keyspace, int64_t term, const Registry::AgentId& self);
  // False: the term is over.
  absl::StatusOr<bool> MoveSource(const Registry::SourceMove& move, absl::Time now);

  // sqlite_users.cc.
  struct News {
    int64_t last = 0;  // the number of the newest
    Registry::News news;
  };
  // Of the erasures and changes numbered above `after`, whoever made them: of `most` of them, the oldest.
  absl::StatusOr<News> ReadNewsAfter(int64_t after, size_t most);
  // The number of the newest erasure or change, 0 when there is none.
  absl::StatusOr<int64_t> ReadLastNumber();

  // Moves the write-ahead log into the file and empties it. kAborted while another process reads.
  absl::Status TruncateLog();
  // Writes and syncs something that changes nothing.
  absl::Status ProbeWrite(absl::Time now);

 private:
  SqliteTables(std::string path, std::unique_ptr<Database> database)
      : path_(std::move(path)), database_(std::move(database)) {}
  static absl::StatusOr<std::unique_ptr<SqliteTables>> Open(const std::string& path,
                                                            std::chrono::steady_clock::time_point lockDeadline,
                                                            const Migrating& migrating);
  absl::Status Configure();
  absl::Status Migrate();
  absl::Status MakeTablesFrom(int64_t format);
  absl::Status CheckRoomToMigrate() const;
  absl::Status CheckFormat();
  absl::Status CheckNote();
  absl::Status Prepare();
  absl::StatusOr<std::optional<Registry::KekKey>> TakeKekKey(Statement& statement) const;
  Registry::Found ReadRow(Statement& statement);
  Registry::Found TakeRow(const Statement& statement) const;
  // Of the next erasure or change.
  absl::StatusOr<int64_t> NextNumber();

  const std::string path_;
  std::unique_ptr<Database> database_;
  Migrating migrating_;  // while it is opened
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  Statement findActive_, findById_, insert_, addKeyspace_;
  Statement findErasure_, erase_, eraseById_, addErasure_;
  Statement nextNumber_, findFacts_, writeFacts_, addHistory_, dropHistory_, overwriteFacts_, overwriteHistory_;
  Statement forgetFacts_, forgetHistory_, epochInUse_, rewrap_;
  int64_t lookedForEpoch_ = 0;  // by HasRowsBefore
  int64_t lookedUpTo_ = 0;
};

}  // namespace kveil::keys
