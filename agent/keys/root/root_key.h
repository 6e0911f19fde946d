// A root key: the key-encryption key (KEK) that wraps what a registry's other keys hang on.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/bytes.h"
#include "crypto/secret.h"

namespace kveil::keys {

// One root key at one provider: a file today; a Vault, a cloud's KMS or a PKCS#11 token can stand behind the same
// calls. Its bytes never leave the implementation. Callers see data keys and their wrapped forms.
//
// Any thread may call, and several at once. Each call may block until its deadline, as a KMS is a network away. Errors
// name the provider and the key, and never hold key bytes:
//
//   kUnavailable         passes by itself: no connection, an overloaded provider, the deadline. Ask again later
//   kFailedPrecondition  needs the operator: the key is missing, disabled, about to be deleted, or not safe to use
//   kPermissionDenied    needs the operator: the provider refuses the agent's credentials
//   kDataLoss            of one wrapped key: it is damaged, or was wrapped by another key or for another context
//   kNotFound            of one wrapped key: what it was wrapped by was destroyed on purpose, see ForgetOlder
//
// An implementation must tell these apart. kDataLoss sends the operator to a backup, so an outage must never look like
// it.
class RootKey {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  virtual ~RootKey() = default;

  // For messages, such as "root key file /var/lib/kveil/root.key".
  virtual const std::string& name() const = 0;

  struct DataKey {
    crypto::SecretKey key;
    ByteBuffer wrapped;
  };
  // Makes a random key and wraps it. `context` is authenticated with it, and Unwrap needs the same bytes. It is not
  // secret: a KMS writes it to its own log, as an encryption context or associated data.
  //
  // There is no call that wraps a key of the caller's choice. AWS KMS and Vault Transit offer this one
  // (GenerateDataKey, datakey), and Transit's `encrypt` would bring a deleted root key back.
  //
  // `wrapped` is the provider's own format. All but `file`, which is older, begin it with their name, the name of their
  // key and its version, so that a key of another provider is refused by name and a rotated key is still found.
  virtual absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline deadline) = 0;

  struct WrappedKey {
    Bytes wrapped;
    Bytes context;
  };
  // One answer per wrapped key, in the same order. An error of one does not touch the others. A provider that is a
  // network away asks for as many as it can with one request.
  virtual std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys,
                                                                Deadline deadline) = 0;

  // The same keys, wrapped by the newest version of this one, so that its older versions can be disabled. One answer
  // per key, in the same order; errors as of Unwrap. kUnimplemented: this root key has no versions; the message says
  // what to do instead.
  virtual std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline /*deadline*/) {
    return std::vector<absl::StatusOr<ByteBuffer>>(
        keys.size(), absl::UnimplementedError(name() + " has no versions: there is nothing to rotate to"));
  }
  // Unwraps what Rewrap has just made, for whoever looks whether it is the same key. What comes of that says nothing of
  // what is in use. Otherwise as Unwrap.
  virtual std::vector<absl::StatusOr<crypto::SecretKey>> UnwrapRewrapped(absl::Span<const WrappedKey> keys,
                                                                         Deadline deadline) {
    return Unwrap(keys, deadline);
  }
  // By what a key was wrapped, as far as that can be told: "version 3". Empty: it cannot.
  virtual std::string VersionOf(const WrappedKey& /*key*/) const { return ""; }

  // What a turn of the epochs needs (service/epoch_turns.h): the registry's secret and the key of a new epoch, so
  // wrapped that older wrapped forms can be destroyed one day.
  struct Turned {
    ByteBuffer secret;  // the same key; the same bytes from a provider that destroys nothing
    DataKey epoch;
  };
  virtual absl::StatusOr<Turned> Turn(const WrappedKey& secret, Bytes epochContext, Deadline deadline) {
    absl::StatusOr<DataKey> epoch = GenerateDataKey(epochContext, deadline);
    if (!epoch.ok()) return epoch.status();
    return Turned{ByteBuffer(secret.wrapped.begin(), secret.wrapped.end()), *std::move(epoch)};
  }
  // Says which registry's keys hang on this one, by its id in hexadecimal digits. Call it once, before ForgetOlder.
  virtual void NoteRegistry(std::string_view /*registry*/) {}
  // `needed` is all that is to be unwrapped from now on. Destroys what unwraps nothing else, and
  // returns whether what was wrapped before a Turn cannot be unwrapped by this key any more, by anybody. False from a
  // provider whose operator has to see to that. Call it again and again: what failed may work later. Errors say why.
  virtual absl::StatusOr<bool> ForgetOlder(absl::Span<const WrappedKey> needed, Deadline deadline) {
    (void)needed, (void)deadline;
    return false;
  }

  // How long ago this was called first with the number of this epoch, on this machine since it was booted, also by an
  // agent that has ended. 0: not known. With 0, what was noted of that is dropped. Only for a provider that forgets.
  virtual std::chrono::milliseconds SettledFor(int64_t /*epoch*/) { return std::chrono::milliseconds(0); }

  // Whether an agent that restarts now could unwrap what this one has wrapped. While it could not, nothing new is
  // sealed. Called twice a second: a provider that is a network away answers from what it has seen lately, and judges
  // itself how long an outage may last before it counts.
  virtual absl::Status Check(Deadline deadline) = 0;

  // Whether GenerateDataKey and Unwrap may take long. Then nobody calls them on a thread for which others wait, and
  // what has just been unwrapped is not unwrapped again only to see that it can be.
  virtual bool isRemote() const { return false; }
  // What the operator should know although Check is OK: an outage that does not count yet.
  virtual absl::Status Warning() const { return absl::OkStatus(); }
  // Ends the calls under way soon, with kUnavailable, and so does every later one. Call it before the end, so that the
  // end does not wait for a deadline.
  virtual void Stop() {}

  // How often the provider was asked since the start, and how that went.
  enum class Operation : uint8_t { kGenerateDataKey, kUnwrap, kRewrap, kCheck };
  static constexpr size_t kOperations = 4;
  struct Calls {
    uint64_t calls = 0;
    uint64_t errors = 0;  // of the provider as a whole; not keys that it found damaged
    std::chrono::nanoseconds time{0};
  };
  struct Stats {
    std::string_view provider;  // "vault"; empty: there is nothing to count
    std::array<Calls, kOperations> calls{};
  };
  virtual Stats stats() const { return {}; }
};

}  // namespace kveil::keys
