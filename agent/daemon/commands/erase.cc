#include "absl/time/time.h"
#include "daemon/commands/commands.h"

namespace kveil::daemon {

absl::StatusOr<admin::EraseCommand::Response> Erase(const CommandContext& context,
                                                    const admin::EraseCommand::Request& request) {
  const absl::StatusOr<keys::EraseResult> erased = context.keys.Erase(request.keyspace, request.user);
  if (!erased.ok()) return erased.status();
  context.metrics.UsersErased(1);
  admin::EraseCommand::Response response;
  response.erased.keyspaces = erased->keyspaces;
  response.erased.keys = erased->keyCount;
  response.erased.time = absl::FormatTime(absl::RFC3339_sec, erased->erasedAt, absl::UTCTimeZone());
  response.erased.filesClean = erased->filesClean;
  return response;
}

}  // namespace kveil::daemon
