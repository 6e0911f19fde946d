#include "keys/registry/copied_tables.h"

namespace kveil::keys {

absl::Span<const CopiedTable> CopiedTables() {
  constexpr auto kBytes = CopiedColumn::Type::kBytes;
  constexpr auto kText = CopiedColumn::Type::kText;
  constexpr auto kTime = CopiedColumn::Type::kTime;
  static const std::vector<CopiedTable> kTables = {
      {"epochs",
       "epochs",
       1,
       {{"epoch", "epoch"},
        {"wrappedKey", "wrapped_key", kBytes},
        {"created", "created", kTime},
        {"destroyed", "destroyed", kTime}}},
      {"turns",
       "turns",
       1,
       {{"epoch", "epoch"},
        {"used", "used", kTime},
        {"agent", "agent", kBytes},
        {"seen", "seen", kTime},
        {"place", "place", kBytes},
        {"ended", "ended", kTime}}},
      {"keyspaces", "keyspaces", 1, {{"name", "name", kText}}},
      {"scope_keys",
       "scopeKeys LEFT JOIN wrappedKeys ON number = wrappedKey",
       1,
       {{"keyId", "key_id", kBytes},
        {"scope", "scope"},
        {"subject", "subject", kBytes},
        {"keyWindow", "key_window"},
        {"epoch", "epoch"},
        {"bytes", "wrapped_key", kBytes},
        {"state", "state"},
        {"created", "created"},
        {"erased", "erased"}}},
      {"erasures",
       "erasures",
       1,
       {{"number", "number"},
        {"subject", "subject", kBytes},
        {"keyspace", "keyspace", kText},
        {"erased", "erased"},
        {"keyCount", "key_count"}}},
      {"users",
       "users",
       1,
       {{"subject", "subject", kBytes}, {"number", "number"}, {"changed", "changed"}, {"facts", "facts", kBytes}}},
      {"history",
       "history",
       2,
       {{"subject", "subject", kBytes}, {"number", "number"}, {"time", "time"}, {"change", "change", kBytes}}},
      {"sources",
       "sources",
       1,
       {{"keyspace", "keyspace", kText},
        {"term", "term"},
        {"agent", "agent", kBytes},
        {"follower", "follower", kText},
        {"seen", "seen", kTime},
        {"generation", "generation"},
        {"state", "state", kBytes},
        {"current", "current", kTime},
        {"staleAfter", "stale_after"}}},
  };
  return kTables;
}

}  // namespace kveil::keys
