// Finds the keys of a slab, by name and by id, in steps that a caller may take for many keys at once: the memory of one
// key arrives while the next is asked for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "keys/cache/key_slab.h"

namespace kveil::keys {

class KeyTable {
 public:
  // `tag`: of what the key is found by, spread over all of its values.
  void Insert(uint32_t tag, uint32_t index) { refs_.insert({tag, index}); }
  void Remove(uint32_t tag, uint32_t index) { refs_.erase(Ref{tag, index}); }
  void Clear() { refs_.clear(); }

  // The index of the key with this tag for which `isIt`; kNowhere: there is none.
  template <typename IsIt>
  uint32_t Find(uint32_t tag, const IsIt& isIt) const {
    const auto found = refs_.find(Wanted<IsIt>{tag, isIt});
    return found == refs_.end() ? kNowhere : found->index;
  }

  // The first step, before any Find.
  void Prefetch(uint32_t tag) const { refs_.prefetch(Ref{tag, 0}); }
  // The second: in all probability the index that Find returns, without a look at the key.
  uint32_t Guess(uint32_t tag) const {
    return Find(tag, [](uint32_t) { return true; });
  }

 private:
  struct Ref {
    uint32_t tag;
    uint32_t index;
  };
  template <typename IsIt>
  struct Wanted {
    uint32_t tag;
    const IsIt& isIt;
  };
  struct Hash {
    using is_transparent = void;
    template <typename T>
    size_t operator()(const T& what) const {
      return what.tag * uint64_t{0x9E3779B97F4A7C15};
    }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Ref& left, const Ref& right) const { return left.index == right.index; }
    template <typename IsIt>
    bool operator()(const Ref& ref, const Wanted<IsIt>& wanted) const {
      return ref.tag == wanted.tag && wanted.isIt(ref.index);
    }
  };

  absl::flat_hash_set<Ref, Hash, Equal> refs_;
};

}  // namespace kveil::keys
