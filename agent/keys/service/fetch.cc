// Takes large questions apart.
#include "keys/service/fetch.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace kveil::keys {

Misses Misses::Take(size_t count) {
  if (size() <= count) return std::exchange(*this, {});
  Misses taken;
  const auto takeLast = [&](auto& from, auto& to) {
    const auto first = from.end() - static_cast<ptrdiff_t>(std::min(from.size(), count - taken.size()));
    std::move(first, from.end(), std::back_inserter(to));
    from.erase(first, from.end());
  };
  takeLast(scopes, taken.scopes);
  takeLast(ids, taken.ids);
  return taken;
}

Misses Misses::OnePerKek() const {
  Misses some;
  std::set<KekName> names;
  for (const OwnedScopeName& scope : scopes) {
    std::optional<KekName> kek = KekOf(scope.view());
    if (!kek.has_value() || names.insert(*std::move(kek)).second) some.scopes.push_back(scope);
  }
  absl::flat_hash_set<crypto::KeyId> keks;
  for (const KeyRef& ref : ids) {
    if (!ref.kek.has_value() || keks.insert(*ref.kek).second) some.ids.push_back(ref);
  }
  return some;
}

}  // namespace kveil::keys
