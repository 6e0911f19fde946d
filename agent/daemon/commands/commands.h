// The admin commands of the running agent. To add one: declare it in admin/ (as admin/erase_command.h does), write its
// handler in a file of its own here, name it below and in commands.cc, and ask for it in a file of cli/.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "admin/admin_server.h"
#include "admin/audit_command.h"
#include "admin/connections_command.h"
#include "admin/epochs_command.h"
#include "admin/erase_again_command.h"
#include "admin/erase_command.h"
#include "admin/erase_many_command.h"
#include "admin/keys_command.h"
#include "admin/readmit_command.h"
#include "admin/reread_command.h"
#include "admin/status_command.h"
#include "admin/user_commands.h"
#include "audit/recorder.h"
#include "base/mutex.h"
#include "bundle/puller.h"
#include "guard/state/shared_state.h"
#include "intercept/kernel/redirect.h"
#include "keys/service/key_service.h"
#include "observe/health.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"
#include "proxy/server.h"
#include "receipts/store.h"

namespace kveil::daemon {

// What the commands work on; all of it outlives the admin server. Commands run at the same time.
struct CommandContext {
  observe::Metrics& metrics;
  const observe::Health& health;
  const policy::PolicyStore& policies;
  const bundle::Puller* puller;  // nullptr: they are not pulled
  keys::KeyService& keys;
  const receipts::Store& receipts;
  audit::Recorder* audit;  // nullptr: there is none
  const intercept::Redirect& redirect;
  const proxy::Server& server;
  const guard::SharedState& shared;
  std::chrono::steady_clock::time_point startedAt;
  std::function<void()> refreshHealth;  // looks at everything that `health` tells of
  std::function<bool()> isReady;
  std::function<size_t()> servedNamespaces;
};

// What erasures work on.
struct ErasureContext {
  keys::KeyService& keys;
  const receipts::Store& receipts;
  observe::Metrics& metrics;
};

// What commands about users work on.
struct UsersContext {
  keys::KeyService& keys;
  const policy::PolicyStore& policies;
};

// What the commands work on, once the agent has started. Until then it may wait for long: for a root key that is out of
// reach.
class CommandTarget {
 public:
  using Time = std::chrono::steady_clock::time_point;
  CommandTarget(const observe::Health& health, Time startedAt) : health_(health), startedAt_(startedAt) {}

  void Set(const CommandContext& context) {
    const MutexLock lock(mutex_);
    context_ = std::make_unique<CommandContext>(context);
  }
  // nullptr until the agent has started.
  const CommandContext* context() const {
    const MutexLock lock(mutex_);
    return context_.get();
  }
  const observe::Health& health() const { return health_; }
  Time startedAt() const { return startedAt_; }

 private:
  const observe::Health& health_;
  const Time startedAt_;
  mutable Mutex mutex_;
  std::unique_ptr<const CommandContext> context_ ABSL_GUARDED_BY(mutex_);  // set once
};

// `target` outlives the server.
void HandleCommands(admin::AdminServer& server, const CommandTarget& target);

// audit.cc
// A user of a keyspace in lower-case hexadecimal digits, as receipts and the audit trail name him.
std::string PseudonymOf(const keys::Subject& subject);
// kInvalidArgument: it is none.
absl::StatusOr<keys::Subject> SubjectOf(const std::string& pseudonym);
// What hexadecimal digits spell. nullopt: they are none, or an odd number.
std::optional<std::string> BytesOfHex(const std::string& digits);
// How the trail's users are named.
audit::Recorder::PseudonymsOf PseudonymsFrom(keys::KeyService& keys);
// What tells the registry apart from others: those have other secrets.
absl::StatusOr<std::string> RegistryMark(keys::KeyService& keys);
// `recorder`: nullptr if there is no trail.
absl::StatusOr<admin::AuditCommand::Response> Audit(audit::Recorder* recorder, keys::KeyService& keys,
                                                    const admin::AuditCommand::Request& request);

// status.cc
absl::StatusOr<admin::StatusCommand::Response> Status(const CommandContext& context,
                                                      const admin::StatusCommand::Request& request);
admin::StatusCommand::Response StatusAtStart(const CommandTarget& target);
// connections.cc
absl::StatusOr<admin::ConnectionsCommand::Response> Connections(const proxy::Server& server,
                                                                const admin::ConnectionsCommand::Request& request);
// epochs.cc. Errors: those of keys::KeyService::ListEpochs, TurnEpochs and GiveUpKey; kInvalidArgument: of the request.
absl::StatusOr<admin::ListEpochsCommand::Response> ListEpochs(keys::KeyService& keys, bool withKeys = true);
absl::StatusOr<admin::TurnEpochsCommand::Response> TurnEpochs(keys::KeyService& keys, const admin::Caller& caller);
absl::StatusOr<admin::GiveUpKeyCommand::Response> GiveUpKey(keys::KeyService& keys, const receipts::Store& receipts,
                                                            const admin::GiveUpKeyCommand::Request& request,
                                                            const admin::Caller& caller);
// keys.cc. Errors: kInvalidArgument; those of keys::KeyService::ListKeys.
absl::StatusOr<admin::ListKeysCommand::Response> ListKeys(keys::KeyService& keys,
                                                          const admin::ListKeysCommand::Request& request);
// Errors: kInvalidArgument; those of keys::KeyService::RotateRootKey and RotateKekKeys.
absl::StatusOr<admin::RotateRootKeyCommand::Response> RotateRootKey(keys::KeyService& keys,
                                                                    const admin::RotateRootKeyCommand::Request& request,
                                                                    const admin::Caller& caller);
absl::StatusOr<admin::RotateKeksCommand::Response> RotateKeks(keys::KeyService& keys,
                                                              const admin::RotateKeksCommand::Request& request,
                                                              const admin::Caller& caller);
// erase.cc. Waits for the other agents. Errors: those of keys::KeyService::EraseUsers; Erase: kNotFound, the user has
// no key and was never erased.
absl::StatusOr<admin::EraseCommand::Response> Erase(const ErasureContext& context,
                                                    const admin::EraseCommand::Request& request,
                                                    const admin::Caller& caller);
absl::StatusOr<admin::EraseManyCommand::Response> EraseMany(const ErasureContext& context,
                                                            const admin::EraseManyCommand::Request& request,
                                                            const admin::Caller& caller);
absl::StatusOr<admin::EraseAgainCommand::Response> EraseAgain(const ErasureContext& context,
                                                              const admin::EraseAgainCommand::Request& request,
                                                              const admin::Caller& caller);
absl::StatusOr<admin::AwaitErasureCommand::Response> AwaitErasure(const ErasureContext& context,
                                                                  const admin::AwaitErasureCommand::Request& request,
                                                                  const admin::Caller& caller);
// readmit.cc. Errors: those of keys::KeyService::Readmit; kNotFound: the user is not erased.
absl::StatusOr<admin::ReadmitCommand::Response> Readmit(const ErasureContext& context,
                                                        const admin::ReadmitCommand::Request& request,
                                                        const admin::Caller& caller);
// users.cc. Errors: those of keys::KeyService::ChangeUsers and ReadUser; kInvalidArgument says what is wrong with the
// request, and nothing was changed.
absl::StatusOr<admin::ChangeUsersCommand::Response> ChangeUsers(const UsersContext& context,
                                                                const admin::ChangeUsersCommand::Request& request,
                                                                const admin::Caller& caller);
absl::StatusOr<admin::AwaitChangesCommand::Response> AwaitChanges(const UsersContext& context,
                                                                  const admin::AwaitChangesCommand::Request& request,
                                                                  const admin::Caller& caller);
absl::StatusOr<admin::ReadUserCommand::Response> ReadUser(const UsersContext& context,
                                                          const admin::ReadUserCommand::Request& request,
                                                          const admin::Caller& caller);
// kNotFound: no topic was ever followed for the keyspace. Other errors are those of keys::KeyService::RereadSource.
absl::StatusOr<admin::RereadCommand::Response> RereadConsents(const UsersContext& context,
                                                              const admin::RereadCommand::Request& request,
                                                              const admin::Caller& caller);

}  // namespace kveil::daemon
