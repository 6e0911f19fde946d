// A root key that every agent of a simulation has its own copy of, as of a file: it goes on to its next generation, and
// each copy forgets those before when it is told.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "crypto/key_wrap.h"
#include "keys/root/root_key.h"

namespace kveil::keys {

class SimulatedRootKey : public RootKey {
 public:
  // What a node's copy can unwrap; outlives its agents.
  struct Copy {
    uint8_t oldest = 0;
  };
  struct Shared {
    std::map<uint8_t, crypto::SecretKey> generations;
  };
  SimulatedRootKey(std::shared_ptr<Shared> shared, std::shared_ptr<Copy> copy)
      : shared_(std::move(shared)), copy_(std::move(copy)) {}

  const std::string& name() const override { return name_; }
  absl::StatusOr<DataKey> GenerateDataKey(Bytes context, Deadline) override {
    DataKey made{crypto::SecretKey::Random(), {}};
    made.wrapped = Wrap(copy_->oldest, made.key, context);
    return made;
  }
  std::vector<absl::StatusOr<crypto::SecretKey>> Unwrap(absl::Span<const WrappedKey> keys, Deadline) override {
    std::vector<absl::StatusOr<crypto::SecretKey>> unwrapped;
    for (const WrappedKey& key : keys) unwrapped.push_back(UnwrapOne(key));
    return unwrapped;
  }
  absl::StatusOr<Turned> Turn(const WrappedKey& secret, Bytes epochContext, Deadline) override {
    ASSIGN_OR_RETURN(const crypto::SecretKey key, UnwrapOne(secret));
    const auto next = static_cast<uint8_t>(std::max(secret.wrapped.front(), copy_->oldest) + 1);
    Turned turned;
    turned.secret = Wrap(next, key, secret.context);
    turned.epoch.key = crypto::SecretKey::Random();
    turned.epoch.wrapped = Wrap(next, turned.epoch.key, epochContext);
    return turned;
  }
  absl::StatusOr<bool> ForgetOlder(absl::Span<const WrappedKey> needed, Deadline) override {
    uint8_t oldest = 255;
    for (const WrappedKey& one : needed) {
      RETURN_IF_ERROR(UnwrapOne(one).status());
      oldest = std::min(oldest, one.wrapped.front());
    }
    copy_->oldest = oldest;
    return true;
  }
  absl::Status Check(Deadline) override { return absl::OkStatus(); }

 private:
  const crypto::SecretKey& KeyOf(uint8_t generation) {
    const auto [key, isNew] = shared_->generations.try_emplace(generation);
    if (isNew) key->second = crypto::SecretKey::Random();
    return key->second;
  }
  ByteBuffer Wrap(uint8_t generation, const crypto::SecretKey& key, Bytes context) {
    ByteBuffer wrapped = {generation};
    Append(wrapped, crypto::WrapKey(KeyOf(generation), key, context));
    return wrapped;
  }
  absl::StatusOr<crypto::SecretKey> UnwrapOne(const WrappedKey& key) {
    if (key.wrapped.empty()) return absl::DataLossError("it is empty");
    if (key.wrapped.front() < copy_->oldest) return absl::NotFoundError("it was destroyed");
    return crypto::UnwrapKey(KeyOf(key.wrapped.front()), key.wrapped.subspan(1), key.context);
  }

  const std::string name_ = "simulated root key";
  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<Copy> copy_;
};

}  // namespace kveil::keys
