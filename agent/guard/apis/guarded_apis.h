// The one table of the Kafka APIs whose messages the agent reads. From it follow which guard gets which request, what a
// client is offered, and the table in docs/kafka-compatibility.md. tests/kafka/golden/apis holds it against the message
// definitions of the newest kafka-clients jar: an API there that carries records, names brokers or gives topic ids
// their names must be here, or among the exemptions there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "guard/apis/guard_context.h"
#include "kafka/api.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

// What the agent does with the messages of an API. An API may have several uses.
enum class Use : uint8_t {
  kRecords = 1,    // seals or opens their records
  kBrokers = 2,    // makes the brokers that they name targets before the client hears of them
  kTopicIds = 4,   // learns topic ids and their names
  kPrincipal = 8,  // learns whom the broker has authenticated
  kOffer = 16,     // limits the versions that the client is offered
};

struct GuardedApi {
  kafka::ApiKey key{};
  kafka::VersionRange versions;  // that the agent reads
  uint8_t uses = 0;
  // Makes the guard of this API for a connection.
  std::unique_ptr<proxy::Interceptor> (*make)(const GuardContext& context) = nullptr;

  constexpr bool Has(Use use) const { return (uses & static_cast<uint8_t>(use)) != 0; }
};

// In the order of their keys.
absl::Span<const GuardedApi> GuardedApis();
// Returns nullptr for an API that the agent does not look into.
const GuardedApi* FindGuardedApi(kafka::ApiKey api);
// "records, brokers": for documents and tests.
std::string UsesText(const GuardedApi& api);

// The newest version that a client may use: of a guarded API the newest that the agent reads, of any other the newest
// that this build knows, because nobody can say today what later ones will carry. -1 if the client may use no version.
int16_t NewestAllowed(kafka::ApiKey api);

}  // namespace kveil::guard
