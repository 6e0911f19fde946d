// A provider of KEKs that is a network away: it takes its time, is out of reach, refuses, rotates keys and loses them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "crypto/key_wrap.h"
#include "keys/root/root_key.h"
#include "scheduler.h"
#include "simulated_server.h"

namespace kveil::keys {

class SimulatedKek : public RootKey {
 public:
  struct Key {
    std::vector<crypto::SecretKey> versions;  // the last one wraps
    size_t oldest = 0;                        // those before are disabled
    bool isDenied = false;
    bool isDisabled = false;
    bool isDestroyed = false;
    std::optional<Scheduler::Time> outSince;  // it cannot be used
  };
  struct Provider {
    Scheduler& scheduler;
    Random& random;
    std::map<std::string, Key> keys;
    bool isAway = false;
    bool isSlow = false;

    // Notes since when each key cannot be used, after anything has changed.
    void NoteOut() {
      for (auto& [name, key] : keys) {
        const bool isOut = isAway || key.isDenied || key.isDisabled || key.isDestroyed;
        if (!isOut) key.outSince.reset();
        if (isOut && !key.outSince.has_value()) key.outSince = scheduler.now();
      }
    }
  };

  // Tasks only. The process is the agent's that asks.
  SimulatedKek(Provider& provider, std::string key, std::shared_ptr<Process> process)
      : provider_(provider), key_(std::move(key)), process_(std::move(process)) {}

  const std::string& name() const override { return key_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline) override {
    ASSIGN_OR_RETURN(Key* const key, Reach());
    DataKey made{crypto::SecretKey::Random(), {}};
    made.wrapped = Wrap(*key, made.key, context);
    RETURN_IF_ERROR(Travel());
    return made;
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline) override {
    std::vector<absl::StatusOr<crypto::SecretKey>> unwrapped;
    for (const WrappedKey& key : keys) unwrapped.push_back(UnwrapOne(key));
    return unwrapped;
  }
  std::vector<absl::StatusOr<ByteBuffer>> Rewrap(absl::Span<const WrappedKey> keys, Deadline) override {
    std::vector<absl::StatusOr<ByteBuffer>> rewrapped;
    for (const WrappedKey& key : keys) rewrapped.push_back(RewrapOne(key));
    return rewrapped;
  }
  absl::Status Check(Deadline) override { return absl::OkStatus(); }
  bool isRemote() const override { return true; }

 private:
  static ByteBuffer Wrap(const Key& kek, const crypto::SecretKey& key, Bytes context) {
    ByteBuffer wrapped = {static_cast<uint8_t>(kek.versions.size() - 1)};
    Append(wrapped, crypto::WrapKey(kek.versions.back(), key, context));
    return wrapped;
  }
  absl::StatusOr<ByteBuffer> RewrapOne(const WrappedKey& wrapped) {
    ASSIGN_OR_RETURN(const crypto::SecretKey key, UnwrapOne(wrapped));
    ASSIGN_OR_RETURN(const Key* const kek, Reach());
    return Wrap(*kek, key, wrapped.context);
  }
  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& wrapped) {
    ASSIGN_OR_RETURN(Key* const key, Reach());
    if (wrapped.wrapped.empty() || wrapped.wrapped.front() >= key->versions.size()) return absl::DataLossError("what");
    if (wrapped.wrapped.front() < key->oldest) return absl::FailedPreconditionError("its version is disabled");
    auto unwrapped =
        crypto::UnwrapKey(key->versions[wrapped.wrapped.front()], wrapped.wrapped.subspan(1), wrapped.context);
    RETURN_IF_ERROR(Travel());
    return unwrapped;
  }
  // To the provider.
  absl::StatusOr<Key*> Reach() {
    RETURN_IF_ERROR(Travel());
    if (provider_.isAway) return absl::UnavailableError("it is away");
    Key& key = provider_.keys.at(key_);
    if (key.isDestroyed) return absl::FailedPreconditionError("it was destroyed");
    if (key.isDisabled) return absl::FailedPreconditionError("it is disabled");
    if (key.isDenied) return absl::PermissionDeniedError("it is denied");
    return &key;
  }
  absl::Status Travel() {
    using std::chrono::milliseconds;
    Scheduler& scheduler = provider_.scheduler;
    const bool isLong = provider_.isSlow || provider_.random.PerMille(30);
    scheduler.SleepUntil(scheduler.now() + (isLong ? provider_.random.Between(milliseconds(100), milliseconds(4000))
                                                   : provider_.random.Between(milliseconds(1), milliseconds(30))));
    return process_->isDead ? absl::UnavailableError("nobody waits") : absl::OkStatus();
  }

  Provider& provider_;
  const std::string key_;
  const std::shared_ptr<Process> process_;
};

}  // namespace kveil::keys
