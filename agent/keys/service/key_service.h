// The node's keys: root key file, epoch keys and registry, behind one thread that does everything that blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "crypto/key_id.h"
#include "keys/scope/scope.h"

namespace kveil::keys {

class Revocations;

using SteadyTime = std::chrono::steady_clock::time_point;

struct KeyServiceOptions {
  std::string rootKeyFile;
  std::string registryPath;
  // How long an unwrapped key may be used, counted from the unwrap. At least one second.
  std::chrono::milliseconds cacheTtl = std::chrono::seconds(60);
  // Cluster and topic keys are replaced by new ones each window; old ones stay readable. User keys stay until erased.
  std::chrono::seconds sharedKeyWindow = std::chrono::hours(30 * 24);
  // How long a Fetch waits for a locked registry before it says kUnavailable.
  std::chrono::milliseconds registryTimeout = std::chrono::seconds(2);
  // Keys of new users per second that one workload may have made; those of ten seconds may be made at once.
  size_t newUsersPerSecond = 10'000;
  // Clocks and the bytes that the registry may still grow by, for tests.
  std::function<SteadyTime()> steadyNow = [] { return std::chrono::steady_clock::now(); };
  std::function<absl::Time()> wallNow = [] { return absl::Now(); };
  std::function<uint64_t()> freeBytes;  // asks the file system when empty
};

// A Fetch asks for no more keys than this at once: the service works on one at a time, and everybody else waits for it.
// Making a new user's key takes about 25 us, so this is one of about 6 ms.
inline constexpr size_t kMostKeysOfAFetch = 256;

// What a fetch asks for.
struct Misses {
  std::vector<OwnedScopeName> scopes;  // found or made
  std::vector<crypto::KeyId> ids;      // found; unmasked
  bool empty() const { return scopes.empty() && ids.empty(); }
  size_t size() const { return scopes.size() + ids.size(); }
  // Takes the last `count` of them out, or all, and keeps their order.
  Misses Take(size_t count);
};

// What a fetch found. Made by KeyService, taken by KeyCache::Deliver; nobody else looks inside.
struct FetchResult {
  struct ByScope {
    OwnedScopeName name;
    ScopeKey key;
  };
  enum class IdState {
    kReady,
    kErased,
    kUnknown,
    kDamaged,  // the registry has it, but its row does not give the key any more
  };
  struct ById {
    crypto::KeyId id;
    IdState state = IdState::kUnknown;
    ScopeKey key;  // kReady only
  };
  absl::Status status;  // kUnavailable: some or all could not be had now; what could is below
  absl::Status damage;  // what is wrong with a row that was asked for, for health()
  absl::Status limit;   // why keys of new users were not made, for health()
  std::vector<ByScope> scopes;
  std::vector<ById> ids;
  uint64_t generation = 0;  // of the revocations, when the registry was read
  SteadyTime unwrapped;     // not later than the first unwrap
};

struct EraseResult {
  absl::Time erasedAt;
  size_t keyCount = 0;                 // keys destroyed by this call
  std::vector<std::string> keyspaces;  // where they were
  // The wrapped keys are out of the registry's write-ahead log too. False when another process was reading it; the
  // service goes on trying and health() says so until it is done.
  bool filesClean = false;
};

// When the user was erased, out of the kAlreadyExists status of Erase.
std::optional<absl::Time> ErasedBefore(const absl::Status& status);

// Any thread may call. Errors name the file that is wrong and never hold a key, a user's id or a subject.
class KeyService {
 public:
  // Makes the root key file and the registry on the first start. kFailedPrecondition when the root key file is missing
  // beside a registry that holds keys, has other permissions than its owner's, or does not fit the registry;
  // kUnavailable when the registry is locked, full or corrupt.
  static absl::StatusOr<std::unique_ptr<KeyService>> Open(KeyServiceOptions options);

  // Every fetch under way is answered before this returns.
  ~KeyService();

  // Destroys every key of the user, in one keyspace or in all of them, and tells all caches before it returns. Blocks
  // for a few milliseconds, at most a few seconds. kNotFound: the user has no key there. kAlreadyExists: all were
  // erased before, see ErasedBefore. kUnavailable: nothing was changed.
  absl::StatusOr<EraseResult> Erase(std::optional<std::string_view> keyspace, std::string_view user);

  // What is wrong now, in words for the operator, or OK. Becomes OK again by itself when the cause is gone.
  absl::Status health() const;

  // Finds what is asked for and makes scope keys that do not exist yet, all in one transaction. `done` is called
  // exactly once, on the service's thread. Workloads take turns, and erasures come before them. kInvalidArgument: more
  // than kMostKeysOfAFetch. KeyCache::Fetch is the usual way here.
  void Fetch(Misses misses, std::string_view workload, absl::AnyInvocable<void(FetchResult)> done);

  // Does what every sealed record needs, for a look at the service's health: reads the root key file, and unwraps the
  // registry's epoch keys with what it holds. Changes nothing. `done` is called exactly once, on the service's thread,
  // ahead of the fetches that wait: with kUnavailable, and what is wrong in words for the operator, or OK.
  void TryUnwrap(absl::AnyInvocable<void(absl::Status)> done);

  // A mask of the registry's secret; each thread makes its own.
  crypto::KeyIdMask NewMask() const;

  const KeyServiceOptions& options() const;
  const Revocations& revocations() const;

 private:
  class Worker;
  explicit KeyService(std::unique_ptr<Worker> worker);
  std::unique_ptr<Worker> worker_;
};

}  // namespace kveil::keys
