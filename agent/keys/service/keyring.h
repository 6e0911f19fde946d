// What turns registry rows into keys and back: the root key, the epoch keys, the registry secret.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "crypto/secret.h"
#include "keys/registry/sqlite_tables.h"
#include "keys/service/key_service.h"
#include "keys/service/new_user_limit.h"

namespace kveil::keys {

// Used by one thread. Every call may block: on the disk, and on another process's lock until the deadline that was set.
// Errors are kUnavailable, with the registry's name and what is wrong with it, unless said otherwise.
class Keyring {
 public:
  // See KeyService::Open.
  static absl::StatusOr<std::unique_ptr<Keyring>> Open(const KeyServiceOptions& options);

  void SetLockDeadline(std::chrono::steady_clock::time_point deadline);

  // One caller's question, and its answer.
  struct Lookup {
    Misses misses;
    std::string workload;
    FetchResult result;
  };
  // Answers all lookups: one read transaction, and one write transaction for the scope keys that have to be made. Each
  // result's status says whether all of it could be answered. The status returned is the registry's. A row that is
  // damaged is the matter of those who asked for it, and is no error of the registry.
  absl::Status Resolve(absl::Span<Lookup* const> lookups);

  // See KeyService::Erase. Does not tell the caches: PollErasures does.
  absl::StatusOr<EraseResult> Erase(std::optional<std::string_view> keyspace, std::string_view user);

  // The key ids that were erased since the last call, by this process or another.
  absl::StatusOr<std::vector<crypto::KeyId>> PollErasures();

  // Empties the registry's write-ahead log.
  absl::Status TruncateLog();

  // Whether keys can be made now. Opens the registry anew when an error closed it.
  absl::Status ProbeWrite();

  // Whether the root key file still holds the root key. While it does not, no scope key is given out for sealing: after
  // a restart nothing could open what it sealed.
  absl::Status CheckRootKeyFile();

  // See KeyService::TryUnwrap.
  absl::Status TryUnwrap();

  // Whether the disk has room for more than erasures. While it has not, no new user's key is made.
  absl::Status CheckRoomOnDisk() const;

  // Forgets throw-away keys that are too old.
  void DropExpired();

  // Whether some page of the registry did not read. Reopen has it opened anew before the next call: the file may have
  // been put right in place.
  bool hasDamagedPages() const { return hasDamagedPages_; }
  void Reopen() {
    broken_ = true;
    hasDamagedPages_ = false;
  }

  // Grows when the registry was opened anew: it may be a restored one, so that what caches hold may not be in it.
  uint64_t openings() const { return openings_; }

  const crypto::SecretKey& registrySecret() const { return secret_; }

 private:
  struct Missing {
    Lookup* lookup;
    size_t scope;  // index in lookup->misses.scopes
    Subject subject;
    int64_t window;
  };
  // A throw-away key for one erased subject: see ScopeKey::erasedSubject.
  struct ThrowAway {
    crypto::SecretKey key;
    crypto::KeyId id;
    SteadyTime expires;
  };

  explicit Keyring(const KeyServiceOptions& options) : options_(options), newUsers_(options.newUsersPerSecond) {}

  absl::Status OpenRegistry(bool create);
  absl::Status LoadRootKey(bool registryIsNew);
  absl::Status Initialise();
  absl::Status LoadSecrets(const SqliteTables::Identity& identity);
  absl::Status LoadEpochs();
  absl::StatusOr<std::map<int64_t, crypto::SecretKey>> UnwrapEpochs();
  // The registry, opened anew when needed.
  absl::Status Ready();
  // Has the registry opened anew after an error that a new connection may cure, and gives the status the callers see.
  absl::Status Fail(const absl::Status& status);

  absl::Status Read(absl::Span<Lookup* const> lookups, std::vector<Missing>& missing);
  absl::Status ReadScope(Lookup& lookup, size_t scope, std::vector<Missing>& missing);
  absl::Status ReadId(Lookup& lookup, const crypto::KeyId& id);
  absl::Status ReadDamaged(Lookup& lookup, const absl::Status& status);
  static void NoteDamage(Lookup& lookup, const absl::Status& damage);
  // Whether one more new user's key may be made for the workload.
  absl::Status MayMakeUser(const std::string& workload);
  absl::Status Make(const std::vector<Missing>& missing);
  absl::Status MakeOne(const Missing& missing);
  absl::Status MakeThrowAway(const Missing& missing);
  bool GiveThrowAway(Lookup& lookup, size_t scope, const Subject& subject);
  void Give(Lookup& lookup, size_t scope, crypto::SecretKey key, const crypto::KeyId& id, bool erasedSubject);

  Subject SubjectOf(const ScopeName& name) const;
  int64_t WindowOf(Scope scope) const;
  ByteBuffer RowAad(const SqliteTables::Row& row) const;
  ByteBuffer EpochAad(int64_t epoch) const;
  absl::StatusOr<crypto::SecretKey> Unwrap(const SqliteTables::Row& row);

  const KeyServiceOptions options_;
  std::unique_ptr<SqliteTables> registry_;  // null or broken after an error, until it can be opened again
  bool broken_ = false;
  bool hasDamagedPages_ = false;
  std::chrono::steady_clock::time_point lockDeadline_;
  std::optional<SqliteTables::Identity> identity_;
  crypto::SecretKey rootKey_;
  crypto::SecretKey secret_;
  std::map<int64_t, crypto::SecretKey> epochs_;
  absl::Status rootKeyStatus_;
  NewUserLimit newUsers_;
  std::optional<absl::Status> roomOnDisk_;  // for the lookups being answered
  absl::flat_hash_map<Subject, ThrowAway> throwAways_;
  int64_t lastErasure_ = 0;
  uint64_t openings_ = 0;
};

}  // namespace kveil::keys
