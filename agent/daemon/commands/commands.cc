#include "daemon/commands/commands.h"

#include "base/log.h"

namespace kveil::daemon {
namespace {

using admin::AdminServer;
using admin::Caller;

constexpr char kNobodyErased[] = "the agent is starting; nobody was erased";
constexpr char kNothingRotated[] = "the agent is starting; nothing was rotated";
constexpr char kNothingChanged[] = "the agent is starting; nothing was changed";

ErasureContext ErasureOf(const CommandContext& context) { return {context.keys, context.receipts, context.metrics}; }

// A command that an agent does when it has started. Until then it answers `starting`.
template <typename Command, typename Run>
void Handle(AdminServer& server, const CommandTarget& target, const char* starting, Run run) {
  server.Handle<Command>([&target, starting, run](const typename Command::Request& request,
                                                  const Caller& caller) -> absl::StatusOr<typename Command::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError(starting);
    return run(*context, request, caller);
  });
}

// One that `run` does with the agent's users.
template <typename Command, typename Run>
void HandleUsers(AdminServer& server, const CommandTarget& target, Run run) {
  Handle<Command>(server, target, kNothingChanged,
                  [run](const CommandContext& context, const auto& request, const Caller& caller) {
                    return run(UsersContext{context.keys, context.policies}, request, caller);
                  });
}

template <typename Command, typename Run>
void HandleErasure(AdminServer& server, const CommandTarget& target, const char* starting, Run run) {
  Handle<Command>(server, target, starting,
                  [run](const CommandContext& context, const auto& request, const Caller& caller) {
                    return run(ErasureOf(context), request, caller);
                  });
}

template <typename Command, typename Run>
void HandleRotation(AdminServer& server, const CommandTarget& target, Run run) {
  Handle<Command>(server, target, kNothingRotated,
                  [run](const CommandContext& context, const auto& request, const Caller& caller) {
                    return run(context.keys, request, caller);
                  });
}

void HandleKeys(AdminServer& server, const CommandTarget& target) {
  Handle<admin::ListKeysCommand>(server, target, "the agent is starting",
                                 [](const CommandContext& context, const auto& request, const Caller&) {
                                   return ListKeys(context.keys, request);
                                 });
  HandleRotation<admin::RotateRootKeyCommand>(server, target, RotateRootKey);
  HandleRotation<admin::RotateKeksCommand>(server, target, RotateKeks);
}

void HandleEpochs(AdminServer& server, const CommandTarget& target) {
  Handle<admin::ListEpochsCommand>(server, target, "the agent is starting",
                                   [](const CommandContext& context, const auto& request, const Caller&) {
                                     return ListEpochs(context.keys, request.keys.value_or(true));
                                   });
  Handle<admin::TurnEpochsCommand>(server, target, "the agent is starting; no epoch was turned",
                                   [](const CommandContext& context, const auto&, const Caller& caller) {
                                     return TurnEpochs(context.keys, caller);
                                   });
  Handle<admin::GiveUpKeyCommand>(server, target, "the agent is starting; no key was given up",
                                  [](const CommandContext& context, const auto& request, const Caller& caller) {
                                    return GiveUpKey(context.keys, context.receipts, request, caller);
                                  });
}

}  // namespace

void HandleCommands(AdminServer& server, const CommandTarget& target) {
  using admin::StatusCommand;
  server.Handle<StatusCommand>(
      [&target](const StatusCommand::Request& request, const Caller&) -> absl::StatusOr<StatusCommand::Response> {
        const CommandContext* const context = target.context();
        return context != nullptr ? Status(*context, request) : StatusAtStart(target);
      });
  Handle<admin::ConnectionsCommand>(server, target, "the agent is starting",
                                    [](const CommandContext& context, const auto& request, const Caller&) {
                                      return Connections(context.server, request);
                                    });
  HandleErasure<admin::EraseCommand>(server, target, kNobodyErased, Erase);
  HandleErasure<admin::EraseManyCommand>(server, target, kNobodyErased, EraseMany);
  HandleErasure<admin::EraseAgainCommand>(server, target, kNobodyErased, EraseAgain);
  HandleErasure<admin::AwaitErasureCommand>(server, target, kNobodyErased, AwaitErasure);
  HandleErasure<admin::ReadmitCommand>(server, target, "the agent is starting; nobody was readmitted", Readmit);
  Handle<admin::AuditCommand>(server, target, "the agent is starting",
                              [](const CommandContext& context, const auto& request, const Caller& caller) {
                                if (request.user.has_value()) log::Info("audit.pseudonymsAsked", {{"uid", caller.uid}});
                                return Audit(context.audit, context.keys, request);
                              });
  HandleEpochs(server, target);
  HandleKeys(server, target);
  HandleUsers<admin::ChangeUsersCommand>(server, target, ChangeUsers);
  HandleUsers<admin::AwaitChangesCommand>(server, target, AwaitChanges);
  HandleUsers<admin::ReadUserCommand>(server, target, ReadUser);
  HandleUsers<admin::RereadCommand>(server, target, RereadConsents);
}

}  // namespace kveil::daemon
