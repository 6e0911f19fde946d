// One agent's connection to registry tables that several agents share. It is to agents what PostgresRegistry is: calls
// take time, answers come late or not at all, connections break.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "keys/registry/registry.h"
#include "registry_tables.h"

namespace kveil::keys {

// What is between an agent and the server.
class RegistryWire {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  virtual ~RegistryWire() = default;

  // Connects anew. False: not by the deadline.
  virtual bool Connect(Deadline deadline) = 0;
  // What the server does, with its clock: a transaction.
  using Request = std::function<void(RegistryTables&, RegistryTables::Millis now)>;
  enum class Answer {
    kHere,
    kLate,    // than the deadline. The request may have been done, or be done yet; Await tells
    kBroken,  // so is the connection. The request may have been done; if not, it never will be
  };
  virtual Answer Ask(Request request, Deadline deadline) = 0;
  // For the answer that was late.
  virtual Answer Await(Deadline deadline) = 0;
  // That answer is waited for no more, nor the connection used.
  virtual void GiveUp() = 0;
  // Whether word of news has come since the last call.
  virtual bool TakeNotification() = 0;
  virtual bool isNotified() const = 0;

  virtual Deadline now() const = 0;
};

class SimulatedRegistry : public Registry {
 public:
  static absl::StatusOr<std::unique_ptr<Registry>> Open(std::unique_ptr<RegistryWire> wire, bool mustExist,
                                                        Deadline deadline);

  const std::string& name() const override { return name_; }
  void SetDeadline(Deadline deadline) override { deadline_ = deadline; }
  absl::Status EnsureOpen() override;
  void Reopen() override { isBroken_ = true; }
  uint64_t openings() const override { return openings_; }

  absl::StatusOr<std::optional<Identity>> ReadIdentity() override;
  using Registry::ReadEpochs;
  absl::StatusOr<std::vector<Epoch>> ReadEpochs(bool withDestroyed) override;
  absl::Status Initialise(const Identity& identity, const Epoch& first, absl::Time now) override;
  absl::StatusOr<std::vector<Found>> FindMany(absl::Span<const RowName> names) override;
  absl::StatusOr<std::vector<Found>> FindManyById(absl::Span<const crypto::KeyId> ids) override;
  absl::StatusOr<std::vector<Inserted>> InsertOrGet(absl::Span<const NewRow> rows, absl::Time now) override;
  absl::StatusOr<bool> AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore, const ByteBuffer& secret,
                                absl::Time now) override;
  absl::StatusOr<bool> UseEpoch(int64_t number, absl::Time now) override;
  absl::StatusOr<std::optional<TurnPlace>> LeadTurn(int64_t epoch, const AgentId& self,
                                                    std::chrono::milliseconds lease) override;
  absl::StatusOr<std::vector<Found>> ReadRowsAfter(const TurnPlace& place, size_t most) override;
  absl::StatusOr<bool> MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before, const TurnPlace& after,
                                absl::Span<const Row> rows) override;
  absl::StatusOr<bool> EndTurn(int64_t epoch, const AgentId& self, absl::Time now) override;
  absl::StatusOr<bool> GiveUpRow(const Row& row, absl::Time now) override;
  absl::StatusOr<bool> ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) override;
  absl::StatusOr<EpochCounts> CountKeys() override;
  absl::StatusOr<KeyList> ListKeys(std::string_view from, size_t most) override;
  absl::StatusOr<std::vector<KekKey>> FindKekKeys(absl::Span<const crypto::KeyId> ids) override;
  absl::StatusOr<std::optional<KekKey>> FindKekKey(const KekName& name, int64_t window) override;
  absl::StatusOr<KekKey> InsertOrGetKekKey(const KekKey& key, absl::Time now) override;
  absl::StatusOr<std::vector<KekKey>> ListKekKeys(std::string_view provider, std::string_view name,
                                                  const crypto::KeyId& after, size_t most) override;
  absl::StatusOr<bool> ReplaceKekKey(const KekKey& before, const ByteBuffer& after) override;
  absl::StatusOr<std::vector<Erased>> EraseUsers(std::optional<std::string_view> keyspace, size_t count,
                                                 SubjectOf subjectOf, absl::Time now) override;
  absl::StatusOr<std::vector<Erased>> EraseSubjects(std::string_view keyspace, absl::Span<const Subject> subjects,
                                                    absl::Time now) override;
  absl::StatusOr<std::vector<Readmission>> Readmit(absl::Span<const Subject> subjects, absl::Time now) override;
  absl::Status PurgeErased() override { return absl::UnimplementedError(name_); }
  absl::StatusOr<std::vector<KnownFacts>> ReadFacts(absl::Span<const Subject> subjects) override;
  absl::StatusOr<std::vector<int64_t>> WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) override;
  absl::StatusOr<std::vector<Source>> ReadSources(bool withStates) override;
  absl::StatusOr<std::optional<Source>> LeadSource(std::string_view keyspace, const AgentId& self,
                                                   std::string_view name, std::chrono::milliseconds lease) override;
  absl::Status ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) override;
  absl::StatusOr<Moved> MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts, absl::Time now) override;
  absl::StatusOr<std::vector<PastChange>> ReadHistory(const Subject& subject) override;
  absl::StatusOr<std::vector<std::string>> ReadKeyspaces() override;
  absl::StatusOr<News> Poll() override;
  // As PostgresRegistry: not while an answer is outstanding.
  bool isTold() const override { return isOpen_ && !isBroken_ && !isLate_ && wire_->isNotified(); }
  int64_t lastNumber() const override { return toldNumber_; }
  absl::Status NoteAgent(const Agent& self) override;
  absl::Status ForgetAgent(const AgentId& id) override;
  absl::StatusOr<std::vector<Agent>> ReadAgents() override;
  bool isShared() const override { return true; }
  absl::Status CheckWritable(absl::Time now) override;
  absl::Status CheckRoom() const override { return absl::OkStatus(); }

 private:
  using Tables = RegistryTables;
  using Millis = RegistryTables::Millis;

  explicit SimulatedRegistry(std::unique_ptr<RegistryWire> wire) : wire_(std::move(wire)) {}
  absl::Status Connect(bool mustExist);
  absl::Status Unavailable(std::string_view why) const;
  absl::Status TakeNews(const Tables::Polled& polled);

  // Has the server do something, and gives its answer. `late`: what is done with an answer that comes after that.
  template <typename Work, typename Result = std::invoke_result_t<Work, Tables&, Millis>>
  absl::StatusOr<Result> Call(Work work, std::function<void(const Result&)> late = nullptr) {
    if (!isOpen_ || isBroken_ || isLate_) return Unavailable("is not open");
    const auto answer = std::make_shared<std::optional<Result>>();
    const RegistryWire::Answer got = wire_->Ask(
        [answer, work = std::move(work)](Tables& tables, Millis now) { *answer = work(tables, now); }, deadline_);
    if (got == RegistryWire::Answer::kHere) return **std::move(answer);
    if (got == RegistryWire::Answer::kBroken) {
      isBroken_ = true;
      return Unavailable("has closed the connection");
    }
    isLate_ = true;
    askedAt_ = wire_->now();
    takeLate_ = [answer, late = std::move(late)] {
      if (late && answer->has_value()) late(**answer);
    };
    return Unavailable("does not answer in time");
  }

  const std::string name_ = "simulated registry";
  const std::unique_ptr<RegistryWire> wire_;
  bool isOpen_ = false;
  bool isBroken_ = false;
  bool isLate_ = false;  // an answer is outstanding
  std::function<void()> takeLate_;
  Deadline askedAt_;
  Deadline deadline_;
  std::optional<RegistryId> id_;
  int64_t file_ = 0;
  int64_t lastNumber_ = 0;  // that was polled
  int64_t toldNumber_ = 0;  // that was handed out
  News news_;               // polled, and not handed out yet
  uint64_t openings_ = 0;
};

}  // namespace kveil::keys
