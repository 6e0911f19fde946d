#include "guard/apis/chain.h"

#include "guard/apis/api_versions_guard.h"
#include "guard/apis/fetch_guard.h"
#include "guard/apis/metadata_guard.h"
#include "guard/apis/produce_guard.h"
#include "guard/apis/sasl_guard.h"
#include "guard/apis/share_guard.h"

namespace kveil::guard {

std::vector<std::unique_ptr<proxy::Interceptor>> BuildChain(SharedState& shared, WorkerScratch& scratch, io::Loop& loop,
                                                            const proxy::ConnectionInfo& connection) {
  std::vector<std::unique_ptr<proxy::Interceptor>> chain;
  const auto client = std::make_shared<ClientFacts>();
  chain.push_back(std::make_unique<ApiVersionsGuard>(client));
  chain.push_back(std::make_unique<MetadataGuard>(shared, loop, connection));
  chain.push_back(std::make_unique<ProduceGuard>(shared, scratch, loop, connection));
  chain.push_back(std::make_unique<FetchGuard>(shared, scratch, loop, connection, client));
  chain.push_back(std::make_unique<ShareGuard>(shared, scratch, loop, connection));
  chain.push_back(std::make_unique<SaslGuard>(connection, client));
  return chain;
}

}  // namespace kveil::guard
