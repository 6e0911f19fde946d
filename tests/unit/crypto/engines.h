// The engines that this build and this CPU have: libipsec-mb is not on every architecture.
#pragma once

#include <vector>

#include "crypto/aead.h"

namespace kveil::crypto {

inline std::vector<Engine> AvailableEngines() {
  std::vector<Engine> engines;
  for (const Engine engine : {Engine::kIpsecMb, Engine::kOpenSsl}) {
    if (EngineAvailable(engine)) engines.push_back(engine);
  }
  return engines;
}

}  // namespace kveil::crypto
