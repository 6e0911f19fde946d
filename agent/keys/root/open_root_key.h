// Opens the root key that the configuration names. A new provider gets its member and its branch here.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"

namespace kveil::keys {

class RootKey;

// Exactly one member is set, as in agent.json's `keys.root`.
struct RootKeyOptions {
  std::string file;  // path
};

// Opens the root key. A provider that makes its own key (`file`) does so if there is none and `mayCreate` is set, which
// it is beside a new registry only; without it, kNotFound. Other errors as in RootKey.
absl::StatusOr<std::unique_ptr<RootKey>> OpenRootKey(const RootKeyOptions& options, bool mayCreate,
                                                     std::chrono::steady_clock::time_point deadline);

// The name of the root key, if it is one that is made together with its registry, and is there. Then a registry that is
// missing was lost. nullopt for a root key that the operator makes: it says nothing about registries.
std::optional<std::string> RootKeyOfSomeRegistry(const RootKeyOptions& options);

}  // namespace kveil::keys
