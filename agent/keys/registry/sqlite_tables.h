// The tables of a registry in an SQLite file: one row a scope key, wrapped. They know rows and transactions, not what unwraps them.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/bytes.h"
#include "crypto/key_id.h"
#include "keys/registry/sqlite.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

// HMAC of a scope's name under the registry secret: the registry is no list of people.
using Subject = std::array<uint8_t, 32>;
using RegistryId = std::array<uint8_t, 16>;

// Used by one thread; several processes may have the same file open. Errors are those of Database, and begin with the
// file's name.
class SqliteTables {
 public:
  // Makes the file, 0600, when there is none. kFailedPrecondition when the file is not a kveil registry, or of a later
  // format.
  static absl::StatusOr<std::unique_ptr<SqliteTables>> OpenOrCreate(const std::string& path,
                                                                    std::chrono::steady_clock::time_point lockDeadline);
  // kUnavailable when there is none.
  static absl::StatusOr<std::unique_ptr<SqliteTables>> OpenExisting(const std::string& path,
                                                                    std::chrono::steady_clock::time_point lockDeadline);

  void SetLockDeadline(std::chrono::steady_clock::time_point deadline) { database_->SetLockDeadline(deadline); }
  // Whether the path still names the file that is open. After a restore from backup, or rm, it does not, and what would
  // be written would be lost.
  bool FileIsInPlace() const;

  // The registry's own row; nullopt in a new file.
  struct Identity {
    RegistryId id;
    ByteBuffer wrappedSecret;
  };
  absl::StatusOr<std::optional<Identity>> ReadIdentity();
  absl::Status WriteIdentity(const Identity& identity, absl::Time now);

  struct Epoch {
    int64_t number = 0;
    ByteBuffer wrappedKey;
  };
  // Those that are not destroyed, in order.
  absl::StatusOr<std::vector<Epoch>> ReadEpochs();
  absl::Status AddEpoch(const Epoch& epoch, absl::Time now);

  // A transaction that ends with Commit; a destroyed one that did not is rolled back. One at a time.
  class Transaction {
   public:
    Transaction(Transaction&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();
    absl::Status Commit();

   private:
    friend class SqliteTables;
    explicit Transaction(Database* database) : database_(database) {}
    Database* database_;
  };
  absl::StatusOr<Transaction> BeginRead();
  // Takes the write lock at once, so that what is read inside cannot change before the commit.
  absl::StatusOr<Transaction> BeginWrite();

  struct Row {
    crypto::KeyId id;
    Scope scope = Scope::kUser;
    Subject subject{};
    int64_t window = 0;
    int64_t epoch = 0;
    bool erased = false;
    ByteBuffer wrappedKey;  // empty when erased
  };
  absl::StatusOr<std::optional<Row>> FindActive(const Subject& subject, int64_t window);
  absl::StatusOr<std::optional<Row>> FindById(const crypto::KeyId& id);
  absl::Status Insert(const Row& row, absl::Time now);

  // User keyspaces in which keys were ever made.
  absl::Status AddKeyspace(std::string_view keyspace);
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces();

  // When the subject was erased; nullopt when it was not.
  absl::StatusOr<std::optional<absl::Time>> FindErasure(const Subject& subject);
  // Destroys every wrapped key of the subject and remembers the erasure. Returns how many; with none, nothing is
  // changed.
  absl::StatusOr<size_t> Erase(const Subject& subject, std::string_view keyspace, absl::Time now);

  struct Erasures {
    int64_t last = 0;  // the number of the newest erasure
    std::vector<crypto::KeyId> ids;
  };
  // The key ids of the erasures numbered above `after`, whoever made them.
  absl::StatusOr<Erasures> ReadErasuresAfter(int64_t after);
  // The number of the newest erasure, 0 when there is none.
  absl::StatusOr<int64_t> ReadLastErasure();

  // Moves the write-ahead log into the file and empties it. kAborted while another process reads.
  absl::Status TruncateLog();
  // Writes and syncs something that changes nothing: tells whether the registry can be written now.
  absl::Status ProbeWrite(absl::Time now);

 private:
  SqliteTables(std::string path, std::unique_ptr<Database> database)
      : path_(std::move(path)), database_(std::move(database)) {}
  static absl::StatusOr<std::unique_ptr<SqliteTables>> Open(const std::string& path,
                                                            std::chrono::steady_clock::time_point lockDeadline);
  absl::Status Configure();
  absl::Status CheckFormat();
  absl::Status Prepare();
  absl::StatusOr<std::optional<Row>> ReadRow(Statement& statement);

  const std::string path_;
  std::unique_ptr<Database> database_;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
  Statement findActive_, findById_, insertWrapped_, insert_, addKeyspace_;
  Statement findErasure_, overwrite_, erase_, addErasure_;
};

}  // namespace kveil::keys
