// What is known of the client of one connection beyond what the kernel attests.
#pragma once

#include <string>
#include <string_view>

#include "guard/client/masking.h"
#include "policy/policy.h"

namespace kveil::guard {

// Shared by the interceptors of a connection. What a client says of itself may be untrue: it chooses between two forms
// of the same answer and grants nothing.
struct ClientFacts {
  // The client, by its own name, cannot stand that records are left out of a batch.
  bool needsMasking = false;

  // The name that the broker has authenticated (SASL), as the client sent it; empty until then. A broker may be
  // configured to make another principal of it.
  std::string principal;

  // Takes note of a client id or of a client's software name.
  void LearnName(std::string_view name) {
    // segmentio/kafka-go panics or delivers records again for ever, rskafka stands still: both take the next offset
    // from the records alone. The first tells its name in the client id that it has unless the application chose
    // another.
    needsMasking = needsMasking || name.find("segmentio/kafka-go") != std::string_view::npos || name == "rskafka";
  }

  // What becomes of the hidden records of a topic in what this client reads.
  Masking MaskingOf(const policy::TopicPolicy& topic) const {
    const bool unlessSaid = needsMasking && topic.onErased == policy::OnHidden::kAuto;
    Masking masking;
    masking.erased = unlessSaid || topic.onErased == policy::OnHidden::kMask;
    masking.plaintext = needsMasking && topic.onErased != policy::OnHidden::kDrop;
    return masking;
  }
};

}  // namespace kveil::guard
