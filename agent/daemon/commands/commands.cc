#include "daemon/commands/commands.h"

#include "base/log.h"

namespace kveil::daemon {
namespace {

ErasureContext ErasureOf(const CommandContext& context) { return {context.keys, context.receipts, context.metrics}; }

absl::Status IsStarting() { return absl::UnavailableError("the agent is starting; nobody was erased"); }

// A command about users, for an agent that may not have started yet.
template <typename Command, typename Run>
void HandleUsers(admin::AdminServer& server, const CommandTarget& target, Run run) {
  server.Handle<Command>([&target, run](const typename Command::Request& request,
                                        const admin::Caller& caller) -> absl::StatusOr<typename Command::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting; nothing was changed");
    return run(UsersContext{context->keys, context->policies}, request, caller);
  });
}

template <typename Command, typename Run>
void HandleRotation(admin::AdminServer& server, const CommandTarget& target, Run run) {
  server.Handle<Command>([&target, run](const typename Command::Request& request,
                                        const admin::Caller& caller) -> absl::StatusOr<typename Command::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting; nothing was rotated");
    return run(context->keys, request, caller);
  });
}

void HandleKeys(admin::AdminServer& server, const CommandTarget& target) {
  using admin::ListKeysCommand;
  server.Handle<ListKeysCommand>([&target](const ListKeysCommand::Request& request,
                                           const admin::Caller&) -> absl::StatusOr<ListKeysCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting");
    return ListKeys(context->keys, request);
  });
  HandleRotation<admin::RotateRootKeyCommand>(server, target, RotateRootKey);
  HandleRotation<admin::RotateKeksCommand>(server, target, RotateKeks);
}

void HandleEpochs(admin::AdminServer& server, const CommandTarget& target) {
  using admin::ListEpochsCommand;
  using admin::TurnEpochsCommand;
  server.Handle<ListEpochsCommand>([&target](const ListEpochsCommand::Request& request,
                                             const admin::Caller&) -> absl::StatusOr<ListEpochsCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting");
    return ListEpochs(context->keys, request.keys.value_or(true));
  });
  server.Handle<TurnEpochsCommand>(
      [&target](const TurnEpochsCommand::Request&,
                const admin::Caller& caller) -> absl::StatusOr<TurnEpochsCommand::Response> {
        const CommandContext* const context = target.context();
        if (context == nullptr) return absl::UnavailableError("the agent is starting; no epoch was turned");
        return TurnEpochs(context->keys, caller);
      });
  using admin::GiveUpKeyCommand;
  server.Handle<GiveUpKeyCommand>([&target](const GiveUpKeyCommand::Request& request,
                                            const admin::Caller& caller) -> absl::StatusOr<GiveUpKeyCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting; no key was given up");
    return GiveUpKey(context->keys, context->receipts, request, caller);
  });
}

}  // namespace

void HandleCommands(admin::AdminServer& server, const CommandTarget& target) {
  using admin::AwaitErasureCommand;
  using admin::Caller;
  using admin::ConnectionsCommand;
  using admin::EraseCommand;
  using admin::EraseManyCommand;
  using admin::StatusCommand;
  server.Handle<StatusCommand>(
      [&target](const StatusCommand::Request& request, const Caller&) -> absl::StatusOr<StatusCommand::Response> {
        const CommandContext* const context = target.context();
        return context != nullptr ? Status(*context, request) : StatusAtStart(target);
      });
  server.Handle<ConnectionsCommand>([&target](const ConnectionsCommand::Request& request,
                                              const Caller&) -> absl::StatusOr<ConnectionsCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting");
    return Connections(context->server, request);
  });
  server.Handle<EraseCommand>(
      [&target](const EraseCommand::Request& request, const Caller& caller) -> absl::StatusOr<EraseCommand::Response> {
        const CommandContext* const context = target.context();
        if (context == nullptr) return IsStarting();
        return Erase(ErasureOf(*context), request, caller);
      });
  server.Handle<EraseManyCommand>([&target](const EraseManyCommand::Request& request,
                                            const Caller& caller) -> absl::StatusOr<EraseManyCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return IsStarting();
    return EraseMany(ErasureOf(*context), request, caller);
  });
  server.Handle<admin::EraseAgainCommand>(
      [&target](const admin::EraseAgainCommand::Request& request,
                const Caller& caller) -> absl::StatusOr<admin::EraseAgainCommand::Response> {
        const CommandContext* const context = target.context();
        if (context == nullptr) return IsStarting();
        return EraseAgain(ErasureOf(*context), request, caller);
      });
  server.Handle<AwaitErasureCommand>([&target](const AwaitErasureCommand::Request& request,
                                               const Caller& caller) -> absl::StatusOr<AwaitErasureCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return IsStarting();
    return AwaitErasure(ErasureOf(*context), request, caller);
  });
  server.Handle<admin::ReadmitCommand>(
      [&target](const admin::ReadmitCommand::Request& request,
                const Caller& caller) -> absl::StatusOr<admin::ReadmitCommand::Response> {
        const CommandContext* const context = target.context();
        if (context == nullptr) return absl::UnavailableError("the agent is starting; nobody was readmitted");
        return Readmit(ErasureOf(*context), request, caller);
      });
  server.Handle<admin::AuditCommand>([&target](const admin::AuditCommand::Request& request,
                                               const Caller& caller) -> absl::StatusOr<admin::AuditCommand::Response> {
    const CommandContext* const context = target.context();
    if (context == nullptr) return absl::UnavailableError("the agent is starting");
    if (request.user.has_value()) log::Info("audit.pseudonymsAsked", {{"uid", caller.uid}});
    return Audit(context->audit, context->keys, request);
  });
  HandleEpochs(server, target);
  HandleKeys(server, target);
  HandleUsers<admin::ChangeUsersCommand>(server, target, ChangeUsers);
  HandleUsers<admin::AwaitChangesCommand>(server, target, AwaitChanges);
  HandleUsers<admin::ReadUserCommand>(server, target, ReadUser);
  HandleUsers<admin::RereadCommand>(server, target, RereadConsents);
}

}  // namespace kveil::daemon
