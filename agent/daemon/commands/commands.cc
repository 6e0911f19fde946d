#include "daemon/commands/commands.h"

namespace kveil::daemon {

void HandleCommands(admin::AdminServer& server, const CommandTarget& target) {
  using admin::EraseCommand;
  using admin::StatusCommand;
  server.Handle<StatusCommand>(
      [&target](const StatusCommand::Request& request) -> absl::StatusOr<StatusCommand::Response> {
        const CommandContext* const context = target.context();
        return context != nullptr ? Status(*context, request) : StatusAtStart(target);
      });
  server.Handle<EraseCommand>(
      [&target](const EraseCommand::Request& request) -> absl::StatusOr<EraseCommand::Response> {
        const CommandContext* const context = target.context();
        if (context == nullptr) return absl::UnavailableError("the agent is starting; nobody was erased");
        return Erase(*context, request);
      });
}

}  // namespace kveil::daemon
