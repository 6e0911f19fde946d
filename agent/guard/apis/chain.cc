#include "guard/apis/chain.h"

#include "guard/apis/guarded_apis.h"

namespace kveil::guard {

std::vector<std::unique_ptr<proxy::Interceptor>> BuildChain(SharedState& shared, WorkerScratch& scratch, io::Loop& loop,
                                                            const proxy::ConnectionInfo& connection) {
  const GuardContext context{shared, scratch, loop, connection};
  std::vector<std::unique_ptr<proxy::Interceptor>> chain;
  chain.reserve(GuardedApis().size());
  for (const GuardedApi& api : GuardedApis()) chain.push_back(api.make(context));
  return chain;
}

}  // namespace kveil::guard
