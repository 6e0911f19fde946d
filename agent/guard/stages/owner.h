// Whose record it is, and the ciphers that the owners' records of one batch are sealed or opened with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/container/flat_hash_map.h"
#include "crypto/aead.h"
#include "crypto/key_id.h"
#include "crypto/secret.h"
#include "keys/scope/scope.h"

namespace kveil::guard {

// What the stages behind `identify` know of a record's owner: a user, a topic or the cluster.
struct Owner {
  enum class State : uint8_t {
    kNobody,   // nothing in the record is sealed, nor is to be: plaintext on its way to a reader, or a tombstone
    kPresent,  // `cipher` has the key
    kErased,   // of a record that was sealed
    kPending,  // not known before the needs are fetched
  };
  State state = State::kNobody;
  bool isErasedSubject = false;           // of a record to be sealed: it gets a key that nobody keeps
  crypto::BatchCipher* cipher = nullptr;  // kPresent; has this owner's key until the next owner is looked for
  crypto::KeyId idInHeader;               // of a record to be sealed
};

inline constexpr Owner kNoOwner{};
inline constexpr Owner kPendingOwner{.state = Owner::State::kPending};

// The owners that were found in a batch, by what they are recognized by. One for each pass.
template <typename Key>
class BatchOwners {
 public:
  // A batch of more keys than this makes do with one more cipher, whose key is set anew each time: a cipher holds about
  // two kilobytes.
  static constexpr size_t kMaxCiphers = 4096;

  // `ciphers` are the worker's. They are used from the first on, and added to as needed.
  explicit BatchOwners(std::deque<crypto::BatchCipher>& ciphers) : ciphers_(ciphers) {}
  BatchOwners(const BatchOwners&) = delete;
  BatchOwners& operator=(const BatchOwners&) = delete;
  // Wipes the batch's keys.
  ~BatchOwners() {
    for (size_t i = 0; i < std::min(keysSet_, kMaxCiphers + 1); ++i) ciphers_[i].ClearKey();
  }

  // nullptr: there is none yet, so Add it. Owners are valid until the next Add.
  const Owner* Find(const Key& key) { return last_ != nullptr && key == lastKey_ ? last_ : Search(key); }
  // The owner of the record before; nullptr: there was none.
  const Owner* last() const { return last_; }

  const Owner& Add(const Key& key, const Owner& owner) {
    lastKey_ = key;
    // The shared cipher will have another key: this owner must not be found by its own.
    last_ = keysSet_ > kMaxCiphers ? &(unlisted_ = owner) : &owners_.insert_or_assign(key, owner).first->second;
    return *last_;
  }
  // The same, and gives the owner a cipher with its key of this batch.
  const Owner& Add(const Key& key, Owner owner, const keys::ScopeKey& scopeKey, crypto::Suite suite,
                   const crypto::Salt& salt) {
    const size_t index = std::min(keysSet_, kMaxCiphers);
    if (ciphers_.size() == index) ciphers_.emplace_back();
    ++keysSet_;
    owner.state = Owner::State::kPresent;
    owner.cipher = &ciphers_[index];
    owner.cipher->SetKey(crypto::DeriveBatchKey(scopeKey.key, suite, salt));
    return Add(key, owner);
  }

  // Keys that ciphers were given: distinct ones, as long as there is a cipher for each.
  size_t keysSet() const { return keysSet_; }

 private:
  const Owner* Search(const Key& key) {
    const auto found = owners_.find(key);
    if (found == owners_.end()) return nullptr;
    lastKey_ = key;
    last_ = &found->second;
    return last_;
  }

  std::deque<crypto::BatchCipher>& ciphers_;
  absl::flat_hash_map<Key, Owner> owners_;
  Key lastKey_{};  // records of one owner often follow each other
  const Owner* last_ = nullptr;
  Owner unlisted_;
  size_t keysSet_ = 0;
};

}  // namespace kveil::guard
