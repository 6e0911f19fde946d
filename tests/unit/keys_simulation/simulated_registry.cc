#include "simulated_registry.h"

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::keys {
namespace {

// How long an answer may be outstanding, and how often an erasure is repeated that a new keyspace came across: as
// PostgresRegistry.
constexpr std::chrono::seconds kPatience{3};
constexpr int kMostAttempts = 5;

std::vector<RegistryTables::NewFacts> Owned(absl::Span<const Registry::NewFacts> facts) {
  std::vector<RegistryTables::NewFacts> owned;
  for (const Registry::NewFacts& one : facts) {
    owned.push_back({one.subject, std::string(one.keyspace), one.facts, one.number, one.history});
  }
  return owned;
}

template <typename T>
std::vector<T> Owned(absl::Span<const T> values) {
  return {values.begin(), values.end()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Registry>> SimulatedRegistry::Open(std::unique_ptr<RegistryWire> wire, bool mustExist,
                                                                  Deadline deadline) {
  std::unique_ptr<SimulatedRegistry> registry(new SimulatedRegistry(std::move(wire)));
  registry->SetDeadline(deadline);
  RETURN_IF_ERROR(registry->Connect(mustExist));
  return registry;
}

absl::Status SimulatedRegistry::Unavailable(std::string_view why) const {
  return absl::UnavailableError(StrCat(name_, " ", why));
}

absl::Status SimulatedRegistry::EnsureOpen() {
  if (isOpen_ && !isBroken_ && isLate_) {
    const RegistryWire::Answer got = wire_->Await(deadline_);
    if (got == RegistryWire::Answer::kLate) {
      if (wire_->now() - askedAt_ > kPatience) isBroken_ = true;
      return Unavailable("does not answer");
    }
    isLate_ = false;
    if (got == RegistryWire::Answer::kBroken) isBroken_ = true;
    if (got == RegistryWire::Answer::kHere) std::exchange(takeLate_, nullptr)();
    if (isBroken_) return Unavailable("has closed the connection");
  }
  if (isOpen_ && !isBroken_) return absl::OkStatus();
  return Connect(/*mustExist=*/true);
}

absl::Status SimulatedRegistry::Connect(bool mustExist) {
  wire_->GiveUp();
  isOpen_ = false;
  isLate_ = false;
  takeLate_ = nullptr;
  if (!wire_->Connect(deadline_)) return Unavailable("cannot be reached");
  isOpen_ = true;
  isBroken_ = false;
  struct Session {
    std::optional<Identity> identity;
    int64_t file, last;
  };
  absl::StatusOr<Session> session = Call([](Tables& tables, Millis) {
    return Session{tables.ReadIdentity(), tables.file, tables.Poll(std::numeric_limits<int64_t>::max()).last};
  });
  if (session.ok() && mustExist && session->file == 0) {
    session = absl::NotFoundError(StrCat(name_, " is missing"));
  }
  if (session.ok() && id_.has_value() && (!session->identity.has_value() || session->identity->id != *id_)) {
    session = Unavailable("was replaced by another registry");
  }
  if (!session.ok()) {
    isBroken_ = true;
    return session.status();
  }
  if (session->file == 0) {
    const auto made = Call([](Tables& tables, Millis) { return tables.file = std::max<int64_t>(tables.file, 1); });
    if (!made.ok()) return made.status();
    session->file = *made;
  }
  if (session->identity.has_value()) id_ = session->identity->id;
  file_ = session->file;
  lastNumber_ = toldNumber_ = session->last;
  news_ = {};
  ++openings_;
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Registry::Identity>> SimulatedRegistry::ReadIdentity() {
  auto identity = Call([](Tables& tables, Millis) { return tables.ReadIdentity(); });
  if (identity.ok() && identity->has_value()) id_ = (*identity)->id;
  return identity;
}

absl::StatusOr<std::vector<Registry::Epoch>> SimulatedRegistry::ReadEpochs(bool withDestroyed) {
  return Call([=](Tables& tables, Millis now) { return tables.ReadEpochs(withDestroyed, now); });
}

absl::Status SimulatedRegistry::Initialise(const Identity& identity, const Epoch& first, absl::Time /*now*/) {
  const auto made = Call([=](Tables& tables, Millis now) {
    tables.Initialise(identity, first, now);
    return true;
  });
  return made.status();
}

absl::StatusOr<std::vector<Registry::Found>> SimulatedRegistry::FindMany(absl::Span<const RowName> names) {
  if (names.empty()) return std::vector<Found>();
  return Call([owned = Owned(names)](Tables& tables, Millis) { return tables.FindMany(owned); });
}

absl::StatusOr<std::vector<Registry::Found>> SimulatedRegistry::FindManyById(absl::Span<const crypto::KeyId> ids) {
  if (ids.empty()) return std::vector<Found>();
  return Call([owned = Owned(ids)](Tables& tables, Millis) { return tables.FindManyById(owned); });
}

absl::StatusOr<std::vector<Registry::Inserted>> SimulatedRegistry::InsertOrGet(absl::Span<const NewRow> rows,
                                                                               absl::Time now) {
  if (rows.empty()) return std::vector<Inserted>();
  std::vector<Tables::NewRow> owned;
  for (const NewRow& row : rows) owned.push_back({row.row, std::string(row.keyspace)});
  return Call([now, owned = std::move(owned)](Tables& tables, Millis) { return tables.InsertOrGet(owned, now); });
}

absl::StatusOr<bool> SimulatedRegistry::AddEpoch(const Epoch& epoch, const ByteBuffer& secretBefore,
                                                 const ByteBuffer& secret, absl::Time /*now*/) {
  return Call([=](Tables& tables, Millis now) { return tables.AddEpoch(epoch, secretBefore, secret, now); });
}

absl::StatusOr<bool> SimulatedRegistry::UseEpoch(int64_t number, absl::Time /*now*/) {
  return Call([=](Tables& tables, Millis now) { return tables.UseEpoch(number, now); });
}

absl::StatusOr<std::optional<Registry::TurnPlace>> SimulatedRegistry::LeadTurn(int64_t epoch, const AgentId& self,
                                                                               std::chrono::milliseconds lease) {
  return Call([=](Tables& tables, Millis now) { return tables.LeadTurn(epoch, self, lease.count(), now); });
}

absl::StatusOr<std::vector<Registry::Found>> SimulatedRegistry::ReadRowsAfter(const TurnPlace& place, size_t most) {
  return Call([=](Tables& tables, Millis) { return tables.ReadRowsAfter(place, most); });
}

absl::StatusOr<bool> SimulatedRegistry::MoveTurn(int64_t epoch, const AgentId& self, const TurnPlace& before,
                                                 const TurnPlace& after, absl::Span<const Row> rows) {
  return Call([=, owned = Owned(rows)](Tables& tables, Millis now) {
    return tables.MoveTurn(epoch, self, before, after, owned, now);
  });
}

absl::StatusOr<bool> SimulatedRegistry::EndTurn(int64_t epoch, const AgentId& self, absl::Time /*now*/) {
  return Call([=](Tables& tables, Millis now) { return tables.EndTurn(epoch, self, now); });
}

absl::StatusOr<bool> SimulatedRegistry::GiveUpRow(const Row& row, absl::Time now) {
  return Call([=](Tables& tables, Millis) { return tables.GiveUpRow(row, now); });
}

absl::StatusOr<Registry::EpochCounts> SimulatedRegistry::CountKeys() {
  return Call([](Tables& tables, Millis) { return tables.CountKeys(); });
}

absl::StatusOr<std::vector<Registry::Erased>> SimulatedRegistry::EraseUsers(std::optional<std::string_view> keyspace,
                                                                            size_t count, SubjectOf subjectOf,
                                                                            absl::Time now) {
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    std::vector<std::string> keyspaces;
    if (keyspace.has_value()) {
      keyspaces.emplace_back(*keyspace);
    } else {
      ASSIGN_OR_RETURN(keyspaces, ReadKeyspaces());
    }
    std::vector<Tables::Subjects> users(count);
    for (size_t user = 0; user < count; ++user) {
      for (const std::string& one : keyspaces) users[user][one] = subjectOf(user, one);
    }
    auto erased = Call([=, mustBeAll = !keyspace.has_value()](Tables& tables, Millis) {
      return tables.EraseUsers(users, mustBeAll, /*isAlways=*/false, now);
    });
    if (!erased.ok()) return erased.status();
    if (erased->has_value()) return **std::move(erased);
  }
  return Unavailable("gets new keyspaces all the time");
}

absl::StatusOr<std::vector<Registry::Erased>> SimulatedRegistry::EraseSubjects(std::string_view keyspace,
                                                                               absl::Span<const Subject> subjects,
                                                                               absl::Time now) {
  std::vector<Tables::Subjects> users;
  for (const Subject& subject : subjects) users.push_back({{std::string(keyspace), subject}});
  const auto areUsers = Call([=](Tables& tables, Millis) { return tables.AreUsersOrUnknown(users); });
  if (!areUsers.ok()) return areUsers.status();
  if (!*areUsers) return NotAUser();
  return Call(
      [=](Tables& tables, Millis) { return *tables.EraseUsers(users, /*mustBeAll=*/false, /*isAlways=*/true, now); });
}

absl::StatusOr<std::vector<Registry::Readmission>> SimulatedRegistry::Readmit(absl::Span<const Subject> subjects,
                                                                              absl::Time /*now*/) {
  return Call([owned = Owned(subjects)](Tables& tables, Millis now) { return tables.Readmit(owned, now); });
}

absl::StatusOr<Registry::KeyList> SimulatedRegistry::ListKeys(std::string_view from, size_t most) {
  return Call([=, from = std::string(from)](Tables& tables, Millis) { return tables.ListKeys(from, most); });
}

absl::StatusOr<std::vector<Registry::KekKey>> SimulatedRegistry::FindKekKeys(absl::Span<const crypto::KeyId> ids) {
  return Call([owned = Owned(ids)](Tables& tables, Millis) { return tables.FindKekKeys(owned); });
}

absl::StatusOr<std::optional<Registry::KekKey>> SimulatedRegistry::FindKekKey(const KekName& name, int64_t window) {
  return Call([=](Tables& tables, Millis) { return tables.FindKekKey(name, window); });
}

absl::StatusOr<Registry::KekKey> SimulatedRegistry::InsertOrGetKekKey(const KekKey& key, absl::Time /*now*/) {
  return Call([=](Tables& tables, Millis) { return tables.InsertOrGetKekKey(key); });
}

absl::StatusOr<std::vector<Registry::KekKey>> SimulatedRegistry::ListKekKeys(std::string_view provider,
                                                                             std::string_view name,
                                                                             const crypto::KeyId& after, size_t most) {
  return Call([=, provider = std::string(provider), name = std::string(name)](Tables& tables, Millis) {
    return tables.ListKekKeys(provider, name, after, most);
  });
}

absl::StatusOr<bool> SimulatedRegistry::ReplaceKekKey(const KekKey& before, const ByteBuffer& after) {
  return Call([=](Tables& tables, Millis) { return tables.ReplaceKekKey(before, after); });
}

absl::StatusOr<bool> SimulatedRegistry::ReplaceWrapped(absl::Span<const Rewrapped> rewrapped) {
  return Call([owned = Owned(rewrapped)](Tables& tables, Millis) { return tables.ReplaceWrapped(owned); });
}

absl::StatusOr<std::vector<Registry::KnownFacts>> SimulatedRegistry::ReadFacts(absl::Span<const Subject> subjects) {
  if (subjects.empty()) return std::vector<KnownFacts>();
  return Call([owned = Owned(subjects)](Tables& tables, Millis) { return tables.ReadFacts(owned); });
}

absl::StatusOr<std::vector<int64_t>> SimulatedRegistry::WriteFacts(absl::Span<const NewFacts> facts, absl::Time now) {
  return Call([=, owned = Owned(facts)](Tables& tables, Millis) { return tables.WriteFacts(owned, now); });
}

absl::StatusOr<std::vector<Registry::Source>> SimulatedRegistry::ReadSources(bool withStates) {
  return Call([=](Tables& tables, Millis now) { return tables.ReadSources(withStates, now); });
}

absl::StatusOr<std::optional<Registry::Source>> SimulatedRegistry::LeadSource(std::string_view keyspace,
                                                                              const AgentId& self,
                                                                              std::string_view name,
                                                                              std::chrono::milliseconds lease) {
  auto led = Call([=, keyspace = std::string(keyspace), name = std::string(name)](Tables& tables, Millis now) {
    return tables.LeadSource(keyspace, self, name, lease.count(), now);
  });
  if (!led.ok()) return led.status();
  if (led->isFull) return Unavailable("has too many consent topics");
  return std::move(led->source);
}

absl::Status SimulatedRegistry::ReleaseSource(std::string_view keyspace, int64_t term, const AgentId& self) {
  const auto released = Call([=, keyspace = std::string(keyspace)](Tables& tables, Millis) {
    tables.ReleaseSource(keyspace, term, self);
    return true;
  });
  return released.status();
}

absl::StatusOr<Registry::Moved> SimulatedRegistry::MoveSource(const SourceMove& move, absl::Span<const NewFacts> facts,
                                                              absl::Time now) {
  Tables::SourceMove owned{std::string(move.keyspace),
                           std::string(move.state),
                           std::string(move.before),
                           move.term,
                           move.generation,
                           std::nullopt,
                           move.staleAfter.count(),
                           move.agent};
  if (move.age.has_value()) owned.age = move.age->count();
  return Call([=, ownedFacts = Owned(facts)](Tables& tables, Millis at) {
    return tables.MoveSource(owned, ownedFacts, now, at);
  });
}

absl::StatusOr<std::vector<Registry::PastChange>> SimulatedRegistry::ReadHistory(const Subject& subject) {
  return Call([=](Tables& tables, Millis) { return tables.ReadHistory(subject); });
}

absl::StatusOr<std::vector<std::string>> SimulatedRegistry::ReadKeyspaces() {
  return Call([](Tables& tables, Millis) { return tables.ReadKeyspaces(); });
}

absl::Status SimulatedRegistry::TakeNews(const Tables::Polled& polled) {
  if (polled.file != file_ || polled.last < lastNumber_) {
    isBroken_ = true;
    return Unavailable("was restored or rebuilt; it is opened anew");
  }
  news_.erased.insert(news_.erased.end(), polled.news.erased.begin(), polled.news.erased.end());
  news_.changed.insert(news_.changed.end(), polled.news.changed.begin(), polled.news.changed.end());
  news_.mayHaveMore = polled.news.mayHaveMore;
  lastNumber_ = polled.news.mayHaveMore ? polled.newest : polled.last;
  return absl::OkStatus();
}

absl::StatusOr<Registry::News> SimulatedRegistry::Poll() {
  if (toldNumber_ == lastNumber_) {
    if (isOpen_ && !isLate_) wire_->TakeNotification();
    const absl::StatusOr<Tables::Polled> polled =
        Call([after = lastNumber_](Tables& tables, Millis) { return tables.Poll(after); },
             std::function<void(const Tables::Polled&)>([this](const Tables::Polled& late) { (void)TakeNews(late); }));
    if (!polled.ok()) return polled.status();
    RETURN_IF_ERROR(TakeNews(*polled));
  }
  toldNumber_ = lastNumber_;
  return std::exchange(news_, {});
}

absl::Status SimulatedRegistry::NoteAgent(const Agent& self) {
  const auto isNoted = Call([=](Tables& tables, Millis now) { return tables.NoteAgent(self, now); });
  if (!isNoted.ok()) return isNoted.status();
  return *isNoted ? absl::OkStatus() : Unavailable("knows too many agents");
}

absl::Status SimulatedRegistry::ForgetAgent(const AgentId& id) {
  const auto forgotten = Call([=](Tables& tables, Millis) {
    tables.ForgetAgent(id);
    return true;
  });
  return forgotten.status();
}

absl::StatusOr<std::vector<Registry::Agent>> SimulatedRegistry::ReadAgents() {
  return Call([](Tables& tables, Millis now) { return tables.ReadAgents(now); });
}

absl::Status SimulatedRegistry::CheckWritable(absl::Time /*now*/) {
  return Call([](Tables&, Millis) { return true; }).status();
}

}  // namespace kveil::keys
