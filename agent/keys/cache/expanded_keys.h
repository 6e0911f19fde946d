// The keys that records are sealed and opened with, expanded: those of the users that were seen last.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "crypto/aead.h"
#include "crypto/key_id.h"
#include "keys/cache/cached_key.h"

namespace kveil::keys {

// One per worker. Expanding a user's period key takes longer than sealing a record of 1 KiB with it, so the keys are
// kept for the next batch. A place knows which cached key it belongs to, and that key where its place was: if both
// agree, it is expanded. So a place that is given to another key need not be told to the one that had it.
class ExpandedKeys {
 public:
  // `most`: keys that there are at once. Each has one place.
  explicit ExpandedKeys(size_t most = kKept)
      : kept_(static_cast<uint32_t>(
            std::min<size_t>(most, crypto::DefaultEngine() == crypto::Engine::kIpsecMb ? kKept : kKeptByOpenSsl))),
        places_(kept_ + kPassing),
        keys_(kept_ + kPassing) {}

  // The place of the key that records of this suite are under: of this period, or of the batch with this salt. Valid
  // until the next call.
  size_t Of(CachedKey& key, uint32_t index, crypto::Suite suite, crypto::Period period, const crypto::Salt& salt) {
    if (key.place != kNowhere) {
      Place& place = places_[key.place];
      const bool isSame = suite == crypto::Suite::kPeriodKey ? place.period == period : place.salt == salt;
      if (place.owner == index && place.suite == suite && isSame) {
        place.wasUsed = true;
        return key.place;
      }
    }
    return Expand(key, index, suite, period, salt);
  }

  // Two steps before `Of`, where many keys are gone through: what is known of the key's place, and some records later,
  // but not long before it is used, what is in it. `size`: of the text.
  void PrefetchPlace(const CachedKey& key) const {
    if (key.place != kNowhere) __builtin_prefetch(&places_[key.place]);
  }
  void Prefetch(const CachedKey& key, size_t size) const {
    if (key.place != kNowhere) keys_.Prefetch(key.place, size);
  }

  // Wipes what is there of the key.
  void Forget(CachedKey& key, uint32_t index) {
    if (key.place == kNowhere || places_[key.place].owner != index) return;
    keys_.Wipe(key.place);
    places_[key.place] = Place{.isListed = places_[key.place].isListed};
    if (key.place < kept_) free_.push_back(key.place);
    key.place = kNowhere;
  }

  // Wipes the keys of batches: none is used again. Between batches.
  void ForgetBatchKeys() {
    for (const uint32_t index : ofBatches_) {
      Place& place = places_[index];
      place.isListed = false;
      if (place.suite != crypto::Suite::kBatchKey || place.owner == kNowhere) continue;
      keys_.Wipe(index);
      place = Place();
      if (index < kept_) free_.push_back(index);
    }
    ofBatches_.clear();
    keys_.ForgetLast();
  }

  crypto::GcmKeys& keys() { return keys_; }

 private:
  // When all others are taken, most new keys pass through these, which stay in the CPU's cache. Otherwise a worker with
  // more users than places would fetch each of them from far away, to overwrite it.
  static constexpr uint32_t kPassing = 64;
  // With those, 8 MiB: as much as an unprivileged process may lock where nobody has changed that.
  static constexpr uint32_t kKept = 8192 - kPassing;
  static constexpr uint32_t kKeptByOpenSsl = 2048;  // 7 MiB
  static constexpr uint32_t kKeepEvery = 8;         // about; a power of two
  static constexpr int kMostLookedAt = 16;

  struct Place {
    uint32_t owner = kNowhere;
    crypto::Suite suite = crypto::Suite::kBatchKey;
    bool wasUsed = false;   // since it was last looked at
    bool isListed = false;  // in ofBatches_
    crypto::Period period = 0;
    crypto::Salt salt;
  };

  size_t Expand(CachedKey& key, uint32_t index, crypto::Suite suite, crypto::Period period, const crypto::Salt& salt) {
    const bool isItsOwn = key.place != kNowhere && places_[key.place].owner == index;
    if (!isItsOwn) key.place = TakePlace();
    Place& place = places_[key.place];
    place = {
        .owner = index, .suite = suite, .wasUsed = true, .isListed = place.isListed, .period = period, .salt = salt};
    if (suite == crypto::Suite::kBatchKey) {
      if (!place.isListed) ofBatches_.push_back(key.place);
      place.isListed = true;
      keys_.Expand(key.place, crypto::DeriveBatchKey(key.key, salt));
      return key.place;
    }
    if (!key.hasPeriodKey || key.period != period) {
      key.periodKey = crypto::DerivePeriodKey(key.key, period);
      key.period = period;
      key.hasPeriodKey = true;
    }
    keys_.Expand(key.place, key.periodKey);
    return key.place;
  }

  uint32_t TakePlace() {
    if (!free_.empty()) {
      const uint32_t place = free_.back();
      free_.pop_back();
      return place;
    }
    if (used_ < kept_) return used_++;
    // Not every so-manieth: keys that come round in step with the count would never be kept.
    random_ = random_ * 1664525 + 1013904223;
    if (random_ >> 16 & (kKeepEvery - 1)) return kept_ + ++overflows_ % kPassing;
    for (int i = 0; i < kMostLookedAt; ++i) {
      Place& place = places_[hand_];
      if (!place.wasUsed) break;
      place.wasUsed = false;
      hand_ = (hand_ + 1) % kept_;
    }
    const uint32_t taken = hand_;
    hand_ = (hand_ + 1) % kept_;
    return taken;
  }

  const uint32_t kept_;
  std::vector<Place> places_;
  crypto::GcmKeys keys_;
  std::vector<uint32_t> free_;       // places that were used and wiped
  std::vector<uint32_t> ofBatches_;  // places that a batch key was expanded to since the last ForgetBatchKeys
  uint32_t used_ = 0;                // places that were ever used, of those that are kept
  uint32_t overflows_ = 0;
  uint32_t random_ = 1;
  uint32_t hand_ = 0;  // goes round and round the places, to find one that was not used lately
};

}  // namespace kveil::keys
