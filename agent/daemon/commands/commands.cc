#include "daemon/commands/commands.h"

namespace kveil::daemon {

void HandleCommands(admin::AdminServer& server, const CommandContext& context) {
  server.Handle<admin::StatusCommand>(
      [context](const admin::StatusCommand::Request& request) { return Status(context, request); });
  server.Handle<admin::EraseCommand>(
      [context](const admin::EraseCommand::Request& request) { return Erase(context, request); });
}

}  // namespace kveil::daemon
