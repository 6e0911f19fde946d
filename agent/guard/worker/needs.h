// What a pass over a batch's records lacks.
//
// A pass never suspends. A stage that looks something up and does not find it in the worker's memory notes it here.
// When the pass is over, FetchNeeds (fetch_needs.h) fetches everything at once, and a new pass starts from the first
// record. To add a kind of need (schemas, identities): a member here, its fetch in fetch_needs.cc, and the
// stage that notes it.
#pragma once

#include "guard/worker/problem.h"
#include "keys/service/fetch.h"

namespace kveil::guard {

struct Needs {
  keys::Misses keys;

  bool empty() const { return keys.empty(); }

  // Some of them, which tell as much as all: no more than one fetch asks for.
  Needs Some() const {
    Needs some;
    some.keys = keys.OnePerKek().Take(keys::kMostKeysOfAFetch);
    return some;
  }

  // What to say when they could not be fetched in time.
  Problem NotToBeHad() const { return {observe::RefuseReason::kKeysUnavailable, "the keys cannot be reached now"}; }
};

}  // namespace kveil::guard
