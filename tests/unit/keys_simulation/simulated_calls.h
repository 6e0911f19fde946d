// Calls of providers that are a network away, as tasks of the simulation.
#pragma once

#include "scheduler.h"

namespace kveil::keys {

// From now on, every CallPool runs its calls as tasks of this scheduler: simulated_calls.cc takes the place of
// keys/root/call_pool.cc. nullptr: there is none.
void RunCallsOn(Scheduler* scheduler);

}  // namespace kveil::keys
