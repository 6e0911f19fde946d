#include "registry_tables.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

#include "base/text.h"

namespace kveil::keys {
namespace {

constexpr RegistryTables::Millis kAgentsKept = std::chrono::milliseconds(Registry::kAgentsKept).count();

}  // namespace

std::vector<Registry::Epoch> RegistryTables::ReadEpochs(bool withDestroyed, Millis now) const {
  std::vector<Registry::Epoch> epochs;
  for (const auto& [number, row] : epochs_) {
    const bool isPast = newestEpoch() - number > static_cast<int64_t>(Registry::kMostPastEpochs);
    if (row.destroyed.has_value() && (!withDestroyed || isPast)) continue;
    const auto turn = turns_.find(number);
    Registry::Epoch& epoch = epochs.emplace_back();
    epoch.number = number;
    epoch.wrappedKey = row.wrappedKey;
    epoch.isUsed = turn == turns_.end() || turn->second.used.has_value();
    epoch.age = std::chrono::milliseconds(now - row.created);
    if (turn != turns_.end()) epoch.erasuresBefore = turn->second.erasuresBefore;
    std::optional<Millis> end = row.destroyed;
    if (!end.has_value() && turn != turns_.end()) end = turn->second.ended;
    if (end.has_value()) epoch.endAge = std::chrono::milliseconds(now - *end);
  }
  return epochs;
}

void RegistryTables::Initialise(const Registry::Identity& identity, const Registry::Epoch& first, Millis now) {
  if (identity_.has_value()) return;
  identity_ = identity;
  epochs_[first.number] = {first.wrappedKey, now, std::nullopt};
}

int64_t RegistryTables::EpochInUse() const {
  int64_t used = 0;
  for (const auto& [number, row] : epochs_) {
    const auto turn = turns_.find(number);
    if (turn == turns_.end() || turn->second.used.has_value()) used = number;
  }
  return used;
}

Registry::Row RegistryTables::WithFacts(const Registry::Row& row) const {
  Registry::Row found = row;
  const auto facts = facts_.find(row.name.subject);
  if (!row.erased && facts != facts_.end()) found.facts = facts->second.facts;
  return found;
}

std::vector<Registry::Found> RegistryTables::FindMany(const std::vector<Registry::RowName>& names) const {
  std::vector<Registry::Found> found;
  for (const Registry::RowName& name : names) {
    const auto id = active_.find({name.subject, name.window});
    found.emplace_back(id == active_.end() ? std::nullopt : std::optional(WithFacts(rows_.at(id->second))));
  }
  return found;
}

std::vector<Registry::Found> RegistryTables::FindManyById(const std::vector<crypto::KeyId>& ids) const {
  std::vector<Registry::Found> found;
  for (const crypto::KeyId& id : ids) {
    const auto row = rows_.find(id);
    found.emplace_back(row == rows_.end() ? std::nullopt : std::optional(WithFacts(row->second)));
  }
  return found;
}

std::vector<Registry::Inserted> RegistryTables::InsertOrGet(const std::vector<NewRow>& rows, absl::Time when) {
  using State = Registry::Inserted::State;
  std::vector<Registry::Inserted> inserted(rows.size());
  for (const NewRow& one : rows) {
    if (one.row.scope == Scope::kUser) keyspaces_.insert(one.keyspace);
  }
  const int64_t epoch = EpochInUse();
  for (size_t i = 0; i < rows.size(); ++i) {
    const Registry::Row& row = rows[i].row;
    const auto known = active_.find({row.name.subject, row.name.window});
    if (known != active_.end()) {
      inserted[i] = {State::kExists, WithFacts(rows_.at(known->second)), {}};
      continue;
    }
    if (row.epoch != epoch) {
      inserted[i].state = State::kStale;
      continue;
    }
    Registry::Row& added = rows_[row.id] = row;
    bySubject_.emplace(row.name.subject, row.id);
    times_[row.id].made = when;
    times_[row.id].madeAfter = sequence_;
    if (row.scope == Scope::kUser && erasures_.contains(row.name.subject)) {
      added.erased = true;
      added.wrappedKey.clear();
      times_[row.id].erased = when;
      times_[row.id].erasure = erasures_.at(row.name.subject).number;
      inserted[i].state = State::kErased;
      continue;
    }
    active_[{row.name.subject, row.name.window}] = row.id;
    inserted[i].facts = WithFacts(added).facts;
  }
  return inserted;
}

bool RegistryTables::AddEpoch(const Registry::Epoch& epoch, const ByteBuffer& secretBefore, const ByteBuffer& secret,
                              Millis now) {
  const auto left =
      std::count_if(epochs_.begin(), epochs_.end(), [](const auto& row) { return !row.second.destroyed.has_value(); });
  if (left != 1 || newestEpoch() != epoch.number - 1 || identity_->wrappedSecret != secretBefore) return false;
  epochs_[epoch.number] = {epoch.wrappedKey, now, std::nullopt};
  TurnRow& turn = turns_[epoch.number] = {};
  turn.erasuresBefore = 0;
  for (const auto& [subject, erasure] : erasures_) {
    turn.erasuresBefore = std::max(*turn.erasuresBefore, erasure.number);
  }
  identity_->wrappedSecret = secret;
  return true;
}

bool RegistryTables::UseEpoch(int64_t number, Millis now) {
  const auto turn = turns_.find(number);
  if (turn == turns_.end() || number != newestEpoch() || turn->second.used.has_value()) return false;
  turn->second.used = now;
  return true;
}

std::optional<Registry::TurnPlace> RegistryTables::LeadTurn(int64_t epoch, const Registry::AgentId& self, Millis lease,
                                                            Millis now) {
  const auto turn = turns_.find(epoch);
  if (turn == turns_.end() || epoch != newestEpoch() || !turn->second.used.has_value()) return std::nullopt;
  if (turn->second.agent != self && std::abs(now - turn->second.seen) < lease) return std::nullopt;
  turn->second.agent = self;
  turn->second.seen = now;
  return turn->second.place;
}

RegistryTables::TurnRow* RegistryTables::LedBy(int64_t epoch, const Registry::AgentId& self) {
  const auto turn = turns_.find(epoch);
  if (turn == turns_.end() || epoch != newestEpoch() || turn->second.agent != self) return nullptr;
  return &turn->second;
}

std::vector<Registry::Found> RegistryTables::ReadRowsAfter(const Registry::TurnPlace& place, size_t most) const {
  std::vector<Registry::Found> found;
  for (const auto& [id, row] : rows_) {
    if (found.size() == most) break;
    if (AsText(id.bytes) > place) found.emplace_back(row);
  }
  return found;
}

bool RegistryTables::MoveTurn(int64_t epoch, const Registry::AgentId& self, const Registry::TurnPlace& before,
                              const Registry::TurnPlace& after, const std::vector<Registry::Row>& rows, Millis now) {
  TurnRow* const turn = LedBy(epoch, self);
  if (turn == nullptr || !turn->used.has_value() || turn->place != before) return false;
  turn->place = after;
  turn->seen = now;
  for (const Registry::Row& moved : rows) {
    const auto row = rows_.find(moved.id);
    if (row == rows_.end() || row->second.erased || row->second.epoch >= epoch) continue;
    row->second.epoch = epoch;
    row->second.wrappedKey = moved.wrappedKey;
  }
  return true;
}

bool RegistryTables::EndTurn(int64_t epoch, const Registry::AgentId& self, Millis now) {
  TurnRow* const turn = LedBy(epoch, self);
  if (turn == nullptr || turn->place != Registry::kTurnDone || turn->ended.has_value()) return false;
  turn->seen = now;
  const bool hasRows = std::any_of(rows_.begin(), rows_.end(),
                                   [&](const auto& row) { return !row.second.erased && row.second.epoch < epoch; });
  if (hasRows) return false;
  turn->ended = now;
  for (auto& [number, row] : epochs_) {
    if (number >= epoch || row.destroyed.has_value()) continue;
    row.wrappedKey.clear();
    row.destroyed = now;
  }
  return true;
}

bool RegistryTables::GiveUpRow(const Registry::Row& row, absl::Time when) {
  const auto found = rows_.find(row.id);
  if (found == rows_.end() || found->second.erased || found->second.wrappedKey != row.wrappedKey) return false;
  found->second.erased = true;
  found->second.wrappedKey.clear();
  times_[row.id].erased = when;
  ++revision_;
  active_.erase({found->second.name.subject, found->second.name.window});
  return true;
}

Registry::EpochCounts RegistryTables::CountKeys() const {
  std::map<int64_t, uint64_t> counted;
  for (const auto& [id, row] : rows_) counted[row.epoch] += row.erased ? 0 : 1;
  Registry::EpochCounts counts;
  for (const auto& [epoch, keys] : counted) counts.counts.push_back({epoch, keys});
  return counts;
}

Registry::KeyList RegistryTables::ListKeys(const std::string& from, size_t most) const {
  Registry::KeyList list;
  for (const auto& [id, row] : rows_) {
    if (AsText(id.bytes) < from) continue;
    if (list.keys.size() == most) {
      list.next = AsText(id.bytes);
      break;
    }
    const Times& times = times_.at(id);
    list.keys.push_back({id, row.scope, row.name, row.epoch, times.made, times.erased});
  }
  return list;
}

std::vector<Registry::KekKey> RegistryTables::FindKekKeys(const std::vector<crypto::KeyId>& ids) const {
  std::vector<Registry::KekKey> found;
  for (const auto& [name, key] : kekKeys_) {
    if (std::find(ids.begin(), ids.end(), key.id) != ids.end()) found.push_back(key);
  }
  return found;
}

std::optional<Registry::KekKey> RegistryTables::FindKekKey(const KekName& name, int64_t window) const {
  const auto key = kekKeys_.find({name, window});
  return key == kekKeys_.end() ? std::nullopt : std::optional(key->second);
}

std::vector<Registry::KekKey> RegistryTables::ListKekKeys(const std::string& provider, const std::string& name,
                                                          const crypto::KeyId& after, size_t most) const {
  std::map<std::array<uint8_t, 16>, Registry::KekKey> found;
  for (const auto& [place, key] : kekKeys_) {
    const bool isIt = key.name.provider == provider && (name.empty() || key.name.key == name);
    if (isIt && key.id.bytes > after.bytes) found.emplace(key.id.bytes, key);
  }
  std::vector<Registry::KekKey> keys;
  for (const auto& [id, key] : found) {
    if (keys.size() < most) keys.push_back(key);
  }
  return keys;
}

bool RegistryTables::ReplaceKekKey(const Registry::KekKey& before, const ByteBuffer& after) {
  const auto key = kekKeys_.find({before.name, before.window});
  if (key == kekKeys_.end() || key->second.wrappedKey != before.wrappedKey) return false;
  key->second.wrappedKey = after;
  return true;
}

bool RegistryTables::ReplaceWrapped(const std::vector<Registry::Rewrapped>& rewrapped) {
  size_t left = 1;  // the secret
  for (const auto& [number, epoch] : epochs_) left += epoch.destroyed.has_value() ? 0 : 1;
  if (left != rewrapped.size()) return false;
  for (const bool isMade : {false, true}) {
    for (const Registry::Rewrapped& one : rewrapped) {
      const auto epoch = epochs_.find(one.epoch);
      if (one.epoch != 0 && epoch == epochs_.end()) return false;
      ByteBuffer& wrapped = one.epoch == 0 ? identity_->wrappedSecret : epoch->second.wrappedKey;
      if (isMade) {
        wrapped = one.after;
      } else if (wrapped != one.before) {
        return false;
      }
    }
  }
  return true;
}

Registry::KekKey RegistryTables::InsertOrGetKekKey(const Registry::KekKey& key) {
  return kekKeys_.try_emplace({key.name, key.window}, key).first->second;
}

std::optional<std::vector<Registry::Erased>> RegistryTables::EraseUsers(const std::vector<Subjects>& users,
                                                                        bool mustBeAll, bool isAlways,
                                                                        absl::Time when) {
  for (const std::string& keyspace : keyspaces_) {
    if (mustBeAll && (users.empty() || !users.front().contains(keyspace))) return std::nullopt;
  }
  std::vector<Registry::Erased> erased(users.size());
  for (size_t user = 0; user < users.size(); ++user) {
    Registry::Erased& one = erased[user];
    for (const auto& [keyspace, subject] : users[user]) {
      const auto before = erasures_.find(subject);
      bool isKnown = false;
      if (const auto facts = facts_.find(subject); facts != facts_.end()) {
        isKnown = true;
        news_.erase(facts->second.number);
        facts_.erase(facts);
      }
      history_.erase(subject);
      if (before != erasures_.end()) {
        one.earlier.push_back({keyspace, before->second.time});
        one.erasedBefore = std::min(one.erasedBefore.value_or(absl::InfiniteFuture()), before->second.time);
        one.number = std::max(one.number, before->second.number);
        continue;
      }
      size_t keys = 0;
      const int64_t number = sequence_ + 1;
      const auto [first, last] = bySubject_.equal_range(subject);
      for (auto id = first; id != last; ++id) {
        Registry::Row& row = rows_.at(id->second);
        if (row.erased) continue;
        row.erased = true;
        row.wrappedKey.clear();
        times_[row.id].erased = when;
        times_[row.id].erasure = number;
        active_.erase({row.name.subject, row.name.window});
        ++keys;
      }
      if (keys == 0 && !isKnown && !isAlways) continue;
      one.keyCount += keys;
      one.keyspaces.push_back(keyspace);
      one.number = sequence_ = number;
      ++revision_;
      lastErasures_[subject] = number;
      erasures_[subject] = {sequence_, when};
      news_[sequence_] = {subject, true};
    }
  }
  return erased;
}

std::vector<Registry::Readmission> RegistryTables::Readmit(const std::vector<Subject>& subjects, Millis now) {
  int64_t confirmed = sequence_;
  for (const auto& [id, row] : agents_) {
    if (row.seen >= now - 2 * row.agent.cacheTtl.count()) confirmed = std::min(confirmed, row.agent.confirmed);
  }
  using State = Registry::Readmission::State;
  std::vector<Registry::Readmission> readmissions;
  for (const Subject& subject : subjects) {
    Registry::Readmission& one = readmissions.emplace_back();
    const auto erasure = erasures_.find(subject);
    if (erasure == erasures_.end()) continue;
    const bool isOver = erasure->second.number <= confirmed;
    one = {isOver ? State::kReadmitted : State::kUnderWay, erasure->second.time};
    if (!isOver) continue;
    news_.erase(erasure->second.number);
    erasures_.erase(erasure);
    facts_[subject] = {++sequence_, ""};
    news_[sequence_] = {subject, false};
    readmissions_[subject] = sequence_;
    ++revision_;
  }
  return readmissions;
}

std::vector<Registry::KnownFacts> RegistryTables::ReadFacts(const std::vector<Subject>& subjects) const {
  std::vector<Registry::KnownFacts> known;
  for (const Subject& subject : subjects) {
    Registry::KnownFacts& one = known.emplace_back();
    if (const auto facts = facts_.find(subject); facts != facts_.end()) {
      one.facts = facts->second.facts;
      one.number = facts->second.number;
    }
    if (const auto erasure = erasures_.find(subject); erasure != erasures_.end()) one.erased = erasure->second.time;
    if (const auto end = readmissions_.find(subject); end != readmissions_.end()) one.readmission = end->second;
  }
  return known;
}

bool RegistryTables::MayWrite(const NewFacts& facts) const {
  const auto known = facts_.find(facts.subject);
  return !erasures_.contains(facts.subject) && (known == facts_.end() ? 0 : known->second.number) == facts.number;
}

std::vector<int64_t> RegistryTables::WriteFacts(const std::vector<NewFacts>& facts, absl::Time when) {
  std::vector<int64_t> numbers;
  for (const NewFacts& one : facts) {
    keyspaces_.insert(one.keyspace);
    if (!MayWrite(one)) {
      numbers.push_back(0);
      continue;
    }
    news_.erase(one.number);
    numbers.push_back(++sequence_);
    facts_[one.subject] = {sequence_, one.facts};
    news_[sequence_] = {one.subject, false};
    if (one.history.empty()) continue;
    std::vector<Registry::PastChange>& history = history_[one.subject];
    history.push_back({sequence_, when, one.history});
    if (history.size() > Registry::kMostPastChanges) history.erase(history.begin());
  }
  return numbers;
}

std::vector<Registry::PastChange> RegistryTables::ReadHistory(const Subject& subject) const {
  const auto history = history_.find(subject);
  return history == history_.end() ? std::vector<Registry::PastChange>() : history->second;
}

Registry::Source RegistryTables::Shown(const SourceRow& row, bool withState, Millis now) const {
  Registry::Source source = row.source;
  if (!withState) source.state.clear();
  source.age.reset();
  if (row.current.has_value()) source.age = Registry::SourceAge(std::chrono::milliseconds(now - *row.current));
  return source;
}

std::vector<Registry::Source> RegistryTables::ReadSources(bool withStates, Millis now) const {
  std::vector<Registry::Source> sources;
  for (const auto& [keyspace, row] : sources_) sources.push_back(Shown(row, withStates, now));
  return sources;
}

RegistryTables::Led RegistryTables::LeadSource(const std::string& keyspace, const Registry::AgentId& self,
                                               const std::string& name, Millis lease, Millis now) {
  const auto known = sources_.find(keyspace);
  if (known == sources_.end() && sources_.size() == Registry::kMostSources) {
    return {true, std::nullopt};
  }
  if (known != sources_.end() && known->second.agent != self && std::abs(now - known->second.seen) < lease) {
    return {};
  }
  SourceRow& row = sources_[keyspace];
  row.source.keyspace = keyspace;
  ++row.source.term;
  row.source.follower = name;
  row.agent = self;
  row.seen = now;
  return {false, Shown(row, true, now)};
}

void RegistryTables::ReleaseSource(const std::string& keyspace, int64_t term, const Registry::AgentId& self) {
  const auto row = sources_.find(keyspace);
  if (row != sources_.end() && row->second.source.term == term && row->second.agent == self) row->second.seen = 0;
}

Registry::Moved RegistryTables::MoveSource(const SourceMove& move, const std::vector<NewFacts>& facts, absl::Time when,
                                           Millis now) {
  const auto row = sources_.find(move.keyspace);
  if (row == sources_.end()) return {};
  Registry::Source& source = row->second.source;
  if (source.term != move.term || source.state != move.before || row->second.agent != move.agent) return {};
  for (const NewFacts& one : facts) {
    if (!MayWrite(one)) return {};
  }
  row->second.seen = now;
  source.state = move.state;
  source.staleAfter = std::chrono::milliseconds(move.staleAfter);
  if (move.age.has_value()) {
    row->second.current = now - *move.age;
  } else if (source.generation != move.generation) {
    row->second.current.reset();
  }
  source.generation = move.generation;
  return {true, WriteFacts(facts, when)};
}

RegistryTables::Polled RegistryTables::Poll(int64_t after) const {
  Polled polled;
  polled.file = file;
  polled.last = news_.empty() ? 0 : news_.rbegin()->first;
  polled.newest = after;
  size_t count = 0;
  for (auto one = news_.upper_bound(after); one != news_.end() && count < Registry::kMostNewsOfAPoll; ++one, ++count) {
    polled.newest = one->first;
    const auto [first, last] = bySubject_.equal_range(one->second.subject);
    for (auto id = first; id != last; ++id) {
      if (rows_.at(id->second).erased != one->second.isErased) continue;
      (one->second.isErased ? polled.news.erased : polled.news.changed).push_back(id->second);
    }
  }
  polled.news.mayHaveMore = count == Registry::kMostNewsOfAPoll;
  return polled;
}

bool RegistryTables::NoteAgent(const Registry::Agent& self, Millis now) {
  if (!agents_.contains(self.id)) {
    std::erase_if(agents_, [&](const auto& row) {
      return row.second.seen < now - row.second.agent.cacheTtl.count() - kAgentsKept;
    });
    if (isFull || agents_.size() >= Registry::kMostAgents) return false;
  }
  AgentRow& row = agents_[self.id];
  if (row.agent.confirmed != self.confirmed) ++confirmations_;
  row = {self, now};
  return true;
}

std::vector<Registry::Agent> RegistryTables::ReadAgents(Millis now) const {
  std::vector<Registry::Agent> agents;
  for (const auto& [id, row] : agents_) {
    if (row.seen < now - row.agent.cacheTtl.count() - kAgentsKept) continue;
    agents.push_back(row.agent);
    agents.back().lastSeen = std::chrono::milliseconds(now - row.seen);
  }
  std::stable_sort(agents.begin(), agents.end(), [](const auto& left, const auto& right) {
    return std::tie(left.name, left.id) < std::tie(right.name, right.id);
  });
  return agents;
}

bool RegistryTables::AreUsersOrUnknown(const std::vector<Subjects>& users) const {
  for (const Subjects& user : users) {
    for (const auto& [keyspace, subject] : user) {
      const auto row = bySubject_.find(subject);
      if (row != bySubject_.end() && rows_.at(row->second).scope != Scope::kUser) return false;
    }
  }
  return true;
}

std::optional<RegistryTables::KeyLife> RegistryTables::LifeOf(const crypto::KeyId& id) const {
  const auto row = rows_.find(id);
  if (row == rows_.end()) return std::nullopt;
  const Times& times = times_.at(id);
  return KeyLife{&row->second, times.madeAfter, row->second.erased && times.erasure == 0, times.erasure};
}

RegistryTables::SubjectLife RegistryTables::LifeOf(const Subject& subject) const {
  SubjectLife life;
  life.isErased = erasures_.contains(subject);
  if (const auto last = lastErasures_.find(subject); last != lastErasures_.end()) life.erasure = last->second;
  if (const auto end = readmissions_.find(subject); end != readmissions_.end()) life.readmission = end->second;
  return life;
}

int64_t RegistryTables::ConfirmedBy(const std::string& name) const {
  for (const auto& [id, row] : agents_) {
    if (row.agent.name == name) return row.agent.confirmed;
  }
  return 0;
}

bool RegistryTables::IsErased(const crypto::KeyId& id) const {
  const auto row = rows_.find(id);
  return row != rows_.end() && row->second.erased;
}

absl::Status RegistryTables::Check() const {
  for (const auto& [id, row] : rows_) {
    if (row.erased) continue;
    if (erasures_.contains(row.name.subject)) return absl::InternalError("an erased user has a key");
    const auto epoch = epochs_.find(row.epoch);
    if (epoch == epochs_.end() || epoch->second.destroyed.has_value()) {
      return absl::InternalError(StrCat("a key is left in epoch ", row.epoch, ", which is destroyed"));
    }
  }
  return absl::OkStatus();
}

}  // namespace kveil::keys
