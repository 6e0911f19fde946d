#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/text.h"
#include "base/time_text.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {
namespace {

using admin::StatusCommand;

std::vector<StatusCommand::Condition> Conditions(const std::vector<observe::Health::Problem>& problems) {
  std::vector<StatusCommand::Condition> conditions;
  for (const observe::Health::Problem& problem : problems) conditions.push_back({problem.name, problem.message});
  return conditions;
}

StatusCommand::HeldConnects HeldConnects(const intercept::Redirect& redirect) {
  const intercept::HeldConnects held = redirect.heldConnects();
  return {held.held, held.released, held.ended};
}

StatusCommand::Policies Policies(const policy::PolicyStore& store, const bundle::Puller* puller) {
  const std::shared_ptr<const policy::Policy> policies = store.Current();
  StatusCommand::Policies shown{policies->fileCount(), policies->size(),
                                store.generation(),    static_cast<uint64_t>(policies->version()),
                                policies->digest(),    std::string(store.lastError().message())};
  const auto confirmed = puller == nullptr ? std::nullopt : puller->status().confirmed;
  if (confirmed.has_value()) shown.confirmed = UtcText(*confirmed);
  return shown;
}

StatusCommand::Unselected Unselected(const guard::SharedState& shared) {
  const guard::UnselectedWrites::Report report = shared.unselectedWrites.report();
  StatusCommand::Unselected unselected;
  for (const guard::UnselectedWrites::Topic& topic : report.topics) {
    unselected.topics.push_back({topic.name, topic.workload});
  }
  unselected.more = report.hasMore;
  return unselected;
}

StatusCommand::Records Records(const observe::Metrics& metrics) {
  const observe::Metrics::Totals totals = metrics.totals();
  return {totals.sealed, totals.opened, totals.dropped, totals.refused};
}

uint64_t UptimeSeconds(std::chrono::steady_clock::time_point startedAt) {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - startedAt);
  return static_cast<uint64_t>(uptime.count());
}

}  // namespace

StatusCommand::Response StatusAtStart(const CommandTarget& target) {
  StatusCommand::Response response;
  response.version = KVEIL_VERSION;
  response.uptimeSeconds = UptimeSeconds(target.startedAt());
  response.problems = Conditions(target.health().problems());
  response.problems.push_back(
      {"start", "the agent is starting; connects to the targets are refused until it is ready"});
  response.kernel = "?";
  return response;
}

absl::StatusOr<StatusCommand::Response> Status(const CommandContext& context, const StatusCommand::Request&) {
  // What is answered is a second old at most, or as old as what it rests on, such as the last scan.
  context.refreshHealth();
  StatusCommand::Response response;
  response.ready = context.isReady();
  response.version = KVEIL_VERSION;
  response.uptimeSeconds = UptimeSeconds(context.startedAt);
  response.namespaces = context.servedNamespaces();
  response.connections = context.server.connectionCount();
  response.heldConnects = HeldConnects(context.redirect);
  response.policies = Policies(context.policies, context.puller);
  response.problems = Conditions(context.health.problems());
  response.notes = Conditions(context.health.notes());
  response.unselected = Unselected(context.shared);
  response.kernel = StrCat("io_uring, ", context.redirect.Description());
  response.records = Records(context.metrics);
  return response;
}

}  // namespace kveil::daemon
