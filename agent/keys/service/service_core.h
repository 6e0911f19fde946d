// What the key service does: everything that blocks, turn by turn, and no thread of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "crypto/secret.h"
#include "keys/service/confirmations.h"
#include "keys/service/key_service.h"
#include "keys/service/keyring.h"
#include "keys/service/revocations.h"
#include "keys/service/service_health.h"

namespace kveil::keys {

// Used by one thread, but for what any thread may ask. Whoever drives it does so in turns (`service_thread`):
//
//   ... waits for work, for the descriptor of Pause(), or until its time; then calls Hear() if that can be read
//   core.Turn(task, questions);
//
// and calls End() once at the end.
class ServiceCore {
 public:
  using Time = std::chrono::steady_clock::time_point;

  ServiceCore(KeyServiceOptions options, std::unique_ptr<Keyring> keyring);

  struct Question {
    Keyring::Lookup lookup;
    absl::AnyInvocable<void(FetchResult)> done;
  };
  // Does `task` if there is one, answers the questions, and does what it is time for.
  void Turn(absl::AnyInvocable<void()> task, std::vector<Question> questions);
  // How long there is nothing to do, unless work comes.
  struct Rest {
    Time until;
    int descriptor = -1;  // can be read when the registry has news; -1: do not listen now
    bool isTold = false;  // it has news already
  };
  Rest Pause() const;
  // The registry has news.
  void Hear();
  // Answers whoever still waits, and takes leave of the registry.
  void End();

  // As the methods of KeyService. For tasks.
  // So many users, by one of the keyring's methods.
  absl::StatusOr<ErasedUsers> Erase(size_t count, absl::FunctionRef<absl::StatusOr<ErasedUsers>(Keyring&)> erase);
  absl::StatusOr<ChangedUsers> ChangeUsers(absl::Span<const UserChange> changes, uint32_t uid);
  absl::StatusOr<FollowedRecords> FollowSource(const Registry::SourceMove& move, uint64_t opening,
                                               absl::Span<const ConsentRecord> records, bool mayLeaveOut);
  absl::StatusOr<int64_t> ReadLastErasure();
  absl::StatusOr<KeyService::AgentsRead> ReadAgents();
  absl::StatusOr<int64_t> TurnEpochs();
  void TryUnwrap(absl::AnyInvocable<void(absl::Status)> done);
  // What the keyring answers, which may open the registry anew for that.
  template <typename Question>
  std::invoke_result_t<Question, Keyring&> AskKeyring(Question question) {
    SetDeadline();
    auto answer = question(*keyring_);
    NoteReopened();
    return answer;
  }

  // Any thread may ask these.
  const KeyServiceOptions& options() const { return options_; }
  const Revocations& revocations() const { return revocations_; }
  const Keyring::Self& self() const { return self_; }
  const crypto::SecretKey& secret() const { return secret_; }
  RootKey& root() { return keyring_->root(); }
  RootKey::Stats rootKeyStats() const { return keyring_->root().stats(); }
  std::string kekNote() const { return keyring_->kekNote(); }
  std::vector<KeyService::KekStats> kekStats() const { return keyring_->kekStats(); }
  absl::Status health() const { return health_.Sum(); }
  std::vector<SourceState> sourceStates() const;
  KeyService::EpochNow epochNow() const;

 private:
  using Part = ServiceHealth::Part;
  struct Trial {
    absl::AnyInvocable<void(absl::Status)> done;
    Time patience;
  };

  void SetDeadline();
  void Answer(std::vector<Question> group);
  absl::Status ResolveGroup(std::vector<Question>& group, Time deadline);
  void AnswerTrials(Time now);
  void Tick();
  void StepEpochs();
  void ShowEpochs();
  absl::Status HearNews();
  void Confirm();
  bool PurgeErased(Time deadline);
  void NoteReopened();
  void NoteTroubles(const std::vector<Question>& group);

  const KeyServiceOptions options_;
  const std::unique_ptr<Keyring> keyring_;
  const crypto::SecretKey secret_;
  const Keyring::Self self_;
  Revocations revocations_;
  Confirmations confirmations_;
  uint64_t knownOpenings_;
  bool mustPurge_ = true;  // an erased key may still be in the files: of this process or one that was killed
  Time reopenNotBefore_;
  std::vector<Trial> trials_;  // that wait for the root key
  Time nextTick_;
  Time nextEpochs_;
  Time listenNotBefore_;
  ServiceHealth health_;

  mutable Mutex mutex_;
  std::vector<SourceState> sourceStates_ ABSL_GUARDED_BY(mutex_);
  KeyService::EpochNow epochNow_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kveil::keys
