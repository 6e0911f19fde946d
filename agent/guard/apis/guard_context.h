// What the guards of one connection are made from.
#pragma once

#include <memory>

#include "guard/client/client_facts.h"
#include "guard/state/shared_state.h"
#include "guard/worker/worker_scratch.h"
#include "io/loop.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// The guards keep these references, so what they refer to must outlive them.
struct GuardContext {
  SharedState& shared;
  WorkerScratch& scratch;
  io::Loop& loop;
  const proxy::ConnectionInfo& connection;
  // What the guards of the connection learn about its client and tell one another.
  std::shared_ptr<ClientFacts> client = std::make_shared<ClientFacts>();
};

}  // namespace kveil::guard
