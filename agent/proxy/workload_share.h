// What one workload may take of what all workloads of a worker, or of the agent, share.
//
// A workload gets more only while what it then has is at most four times what is free. So one alone gets about four
// fifths, two that want everything four ninths each, and however many there are, something is left for the next one.
#pragma once

#include <cstddef>

#include "io/event.h"
#include "io/mutex.h"

namespace kveil::proxy {

// Whether a workload that has `has` may take `more` where so much is free. The first thing it asks for is always
// allowed: it then waits its turn as everybody does.
inline bool IsWithinShare(size_t has, size_t more, size_t free) {
  constexpr size_t kTimesTheRest = 4;
  return has == 0 || (more <= free && has + more <= kTimesTheRest * free);
}

// What the connections of one workload hold of their worker's memory, and who of them waits for more. One thread.
struct WorkloadShare {
  size_t buffers = 0;  // receive buffers
  size_t bytes = 0;    // of the memory budget
  size_t waiting = 0;
  // Who waits takes its turn first, so that one look is enough for what is given back, however many wait.
  io::Mutex buffersTurn;
  io::Mutex bytesTurn;
  io::Event changed;  // something was given back, by this workload or, a moment ago, by others
};

}  // namespace kveil::proxy
