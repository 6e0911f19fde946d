// Takes large questions apart.
#include "keys/service/fetch.h"

#include <algorithm>
#include <iterator>
#include <utility>

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

}  // namespace kveil::keys
