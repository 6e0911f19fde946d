// The memory of a worker's keys: one array, in the order of no list, and a list through it by age.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "crypto/secret_memory.h"
#include "keys/cache/cached_key.h"

namespace kveil::keys {

// Keys stay where they are until they are removed, which wipes them.
class KeySlab {
 public:
  explicit KeySlab(size_t capacity) : capacity_(capacity), memory_(capacity * sizeof(CachedKey)) {}
  KeySlab(const KeySlab&) = delete;
  KeySlab& operator=(const KeySlab&) = delete;
  ~KeySlab() {
    while (size_ > 0) Remove(oldest_);
  }

  CachedKey& operator[](uint32_t index) { return keys()[index]; }
  const CachedKey& operator[](uint32_t index) const { return keys()[index]; }
  uint32_t IndexOf(const CachedKey& key) const { return static_cast<uint32_t>(&key - keys()); }

  size_t size() const { return size_; }
  bool isFull() const { return size_ == capacity_; }
  uint32_t oldest() const { return oldest_; }  // kNowhere: there is none

  // The newest. Not when isFull.
  CachedKey& Add() {
    uint32_t index = used_;
    if (free_.empty()) {
      ++used_;
    } else {
      index = free_.back();
      free_.pop_back();
    }
    CachedKey* const key = new (&keys()[index]) CachedKey();
    key->older = newest_;
    (newest_ == kNowhere ? oldest_ : keys()[newest_].newer) = index;
    newest_ = index;
    ++size_;
    return *key;
  }

  void Remove(uint32_t index) {
    CachedKey& key = keys()[index];
    (key.older == kNowhere ? oldest_ : keys()[key.older].newer) = key.newer;
    (key.newer == kNowhere ? newest_ : keys()[key.newer].older) = key.older;
    key.~CachedKey();
    free_.push_back(index);
    --size_;
  }

 private:
  CachedKey* keys() const { return reinterpret_cast<CachedKey*>(memory_.data()); }

  const size_t capacity_;
  const crypto::SecretMemory memory_;
  std::vector<uint32_t> free_;
  uint32_t used_ = 0;  // places that were ever used
  size_t size_ = 0;
  uint32_t oldest_ = kNowhere;
  uint32_t newest_ = kNowhere;
};

}  // namespace kveil::keys
