// What is known of the client of one connection beyond what the kernel attests.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "guard/client/masking.h"
#include "guard/client/sasl_exchange.h"
#include "policy/policy.h"

namespace kveil::guard {

// The guards of a connection share it. What a client says about itself may be untrue: it only chooses between two forms
// of the same answer and grants nothing.
struct ClientFacts {
  // Whether the client, by its own name, fails if records are left out of a batch.
  bool needsMasking = false;

  // The name that the broker has authenticated (SASL), as the client sent it. Empty until then. A broker may be
  // configured to make another principal of it.
  std::string principal;

  // The SASL exchange that the client's latest handshake began. An answer belongs to the exchange of its request.
  std::shared_ptr<SaslExchange> exchange = std::make_shared<SaslExchange>();

  // Notes a client id or the name of the client's software.
  void LearnName(std::string_view name) {
    // segmentio/kafka-go panics or delivers records again for ever, rskafka stands still: both take the next offset
    // from the records alone. The first tells its name in the client id that it has unless the application chose
    // another.
    needsMasking = needsMasking || name.find("segmentio/kafka-go") != std::string_view::npos || name == "rskafka";
  }

  // How hidden records of a topic are shown to this client.
  Masking MaskingOf(const policy::TopicPolicy& topic) const {
    const bool unlessSaid = needsMasking && topic.onErased == policy::OnHidden::kAuto;
    Masking masking;
    masking.needed = needsMasking;
    masking.erased = unlessSaid || topic.onErased == policy::OnHidden::kMask;
    masking.plaintext = needsMasking && topic.onErased != policy::OnHidden::kDrop;
    // Never for the client's name: a masked record shows its key and headers to who may not read it.
    masking.denied = topic.onDenied == policy::OnHidden::kMask;
    return masking;
  }
};

}  // namespace kveil::guard
