// What is known of the client of one connection beyond what the kernel attests.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "guard/client/masking.h"
#include "guard/client/sasl_exchange.h"
#include "guard/client/share_member.h"
#include "identity/claims.h"
#include "policy/policy.h"

namespace kveil::guard {

// The guards of a connection share it. What a client says about itself may be untrue: it grants nothing, unless a
// policy asks for it by name (`claimed`), and otherwise only chooses between two forms of the same answer.
struct ClientFacts {
  // Whether the client, by its own name, fails if records are left out of a batch.
  bool needsMasking = false;

  // The name that the broker has authenticated (SASL), as the client sent it. Empty until then, and again from a later
  // handshake until the broker has accepted that exchange. A broker may be configured to make another principal of it.
  std::string principal;

  // The SASL exchange that the client's latest handshake began. An answer belongs to the exchange of its request.
  std::shared_ptr<SaslExchange> exchange = std::make_shared<SaslExchange>();

  // Whose share session this connection has begun last (KIP-932), of all members of groups.
  ShareMember shareMember;

  // What the client claims with a request of this client id. `subject`: of the certificate that it has shown. A request
  // keeps what is returned until its response: what the connection claims later is not what it was made by.
  std::shared_ptr<const identity::Claims> ClaimsWith(std::string_view clientId, const std::string& subject) {
    if (clientId.size() > identity::kLongestClientId) clientId = {};
    if (claims_ == nullptr || claims_->clientId != clientId || claims_->principal != principal ||
        claims_->certificate != subject) {
      claims_ = std::make_shared<const identity::Claims>(
          identity::Claims{.principal = principal, .certificate = subject, .clientId = std::string(clientId)});
    }
    return claims_;
  }

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
    masking.erased = unlessSaid || policy::IsKept(topic.onErased);
    masking.plaintext = needsMasking && topic.onErased != policy::OnHidden::kDrop;
    // Never for the client's name: a masked record shows its key and headers to who may not read it.
    masking.denied = policy::IsKept(topic.onDenied);
    return masking;
  }

 private:
  std::shared_ptr<const identity::Claims> claims_;  // of the latest request
};

}  // namespace kveil::guard
