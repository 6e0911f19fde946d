// The one list of the Kafka APIs whose messages the agent reads: from it follow which interceptor gets what, what a
// client is offered, and the table in docs/kafka-compatibility.md. tests/kafka/golden/apis holds it against the message
// definitions of the newest kafka-clients jar: an API there that carries records, names brokers or names topic ids has
// to be here, or among the exemptions there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "kafka/api.h"

namespace kveil::guard {

// What is done with the messages of an API; an API may have several.
enum class Use : uint8_t {
  kRecords = 1,    // records are sealed or opened
  kBrokers = 2,    // brokers that it names become targets before the client hears of them
  kTopicIds = 4,   // topic ids and their names are learned
  kPrincipal = 8,  // whom the broker authenticated
  kOffer = 16,     // the versions that the client is offered
};

// Which interceptor handles an API.
enum class Handler : uint8_t { kApiVersions, kLearning, kProduce, kFetch, kShareFetch, kSasl };

struct GuardedApi {
  kafka::ApiKey key{};
  Handler handler{};
  kafka::VersionRange versions;  // that the agent reads
  uint8_t uses = 0;

  constexpr bool Has(Use use) const { return (uses & static_cast<uint8_t>(use)) != 0; }
};

// In order of their numbers.
absl::Span<const GuardedApi> GuardedApis();
// nullptr for an API that the agent does not look into.
const GuardedApi* FindGuardedApi(kafka::ApiKey api);
std::vector<kafka::ApiKey> ApisOf(Handler handler);
// "sealing or opening records, learning brokers": for documents and tests.
std::string UsesText(const GuardedApi& api);

// The newest version that a client may use. The agent reads what it guards, and relays no API and no version that it
// does not know: what they carry, nobody can say today. -1 for an API of which no version may be used.
int16_t NewestAllowed(kafka::ApiKey api);

}  // namespace kveil::guard
