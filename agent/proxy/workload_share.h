// What one workload may take of what all workloads of a worker, or of the agent, share.
//
// A workload gets more only as long as it then holds at most four times what is free. So one alone gets about four
// fifths of everything, and two that want everything get four ninths each. However many there are, something is left
// for the next one.
#pragma once

#include <cstddef>
#include <list>

#include "io/event.h"
#include "io/mutex.h"

namespace kveil::proxy {

// Whether a workload that holds `has` may take `more` of what is `free`. The first thing it asks for is always allowed;
// for that it waits its turn like all the others.
inline bool IsWithinShare(size_t has, size_t more, size_t free) {
  constexpr size_t kTimesTheRest = 4;
  return has == 0 || (more <= free && has + more <= kTimesTheRest * free);
}

// What the connections of one workload hold of their worker's memory, and how many of them wait for more. One thread.
struct WorkloadShare {
  size_t buffers = 0;  // receive buffers
  size_t bytes = 0;    // of the memory budget
  size_t waiting = 0;
  size_t handshakes = 0;  // TLS with applications, under way
  // Of the connections that wait to begin theirs, in their order. Each looks whether it is the first when its event is
  // set, and may leave at any time.
  std::list<io::Event*> waitingToGreet;
  // A connection takes its turn before it waits. So whatever is given back is looked at once, however many wait.
  io::Mutex buffersTurn;
  io::Mutex bytesTurn;
  io::Event changed;  // something was given back, by this workload or, a moment ago, by others
};

}  // namespace kveil::proxy
