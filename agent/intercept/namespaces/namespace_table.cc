// Adds, serves and releases namespaces.
#include "intercept/namespaces/namespace_table.h"

#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/text.h"
#include "intercept.h"
#include "intercept/namespaces/existing_connections.h"
#include "intercept/namespaces/source_address.h"

namespace kveil::intercept {
namespace {

using State = Namespaces::NamespaceStatus::State;

// How long each refresh of the addresses may take; namespaces that it does not come to are the next one's.
constexpr std::chrono::milliseconds kRefreshTime(50);
// Targets of a family towards which a namespace has another address than towards the first.
constexpr size_t kMostOtherSources = 64;

constexpr size_t kMostUnknown = 1024;

}  // namespace

NamespaceTable::NamespaceTable(Redirect& redirect, SocketMaker& sockets, CgroupTree cgroups,
                               Namespaces::Callbacks callbacks, std::function<void(uint64_t, int)> watch,
                               DescriptorStore* store)
    : redirect_(redirect),
      sockets_(sockets),
      cgroups_(std::move(cgroups)),
      callbacks_(std::move(callbacks)),
      watch_(std::move(watch)),
      kept_(store, cgroups_.id()),
      unknownSince_(kMostUnknown, kUnknownLifetime) {}

absl::Status NamespaceTable::AddOwn() {
  if (Add(NamespaceFile(::getpid()), 0, 0, "") != Found::kYes)
    return notOpened_.empty() ? absl::InternalError("no namespace of our own") : notOpened_.begin()->second;
  const Entry& own = entries_.begin()->second;
  return own.status.state == State::kServed ? absl::OkStatus() : own.status.problem;
}

NamespaceTable::Entry* NamespaceTable::FindByInode(uint64_t inode) {
  const auto known = cookies_.find(inode);
  return known == cookies_.end() ? nullptr : &entries_.at(known->second);
}

absl::StatusOr<uint64_t> NamespaceTable::CookieOf(int namespaceFd) {
  const absl::StatusOr<UniqueFd> socket = sockets_.Make(namespaceFd, AF_UNIX, SOCK_DGRAM, 0);
  if (!socket.ok()) return socket.status();
  return NamespaceCookie(socket->get());
}

NamespaceTable::Found NamespaceTable::Add(const std::string& file, pid_t pid, uint64_t cookie,
                                          const std::string& share) {
  absl::StatusOr<UniqueFd> fd = OpenNamespace(file);
  if (absl::IsNotFound(fd.status())) return Found::kNo;  // ended meanwhile
  const uint64_t owner = fd.ok() && pid != 0 ? NamespaceOwner(fd->get()) : kHostOwnsNamespace;
  if (!HasRoom(owner, share)) return Found::kNo;
  std::optional<ServingTime::Piece> piece;  // the share's is the caller's
  if (!isStarting_ && owner != kHostOwnsNamespace) {
    const bool isScan = cookie == 0;
    if (!HasTurn(share, owner) || (isScan && !HasTimeToSpare(share, owner))) return Found::kLater;
    piece.emplace(servingTime_, OwnerText(owner));
  }
  const absl::StatusOr<uint64_t> found = fd.ok() ? CookieOf(fd->get()) : fd.status();
  if (!found.ok()) {
    const uint64_t inode = NamespaceInode(file);
    // The file of a process that is just being reaped is there and cannot be opened: EACCES.
    const bool hasEnded = inode == 0;
    if (hasEnded || FindByInode(inode) != nullptr) return Found::kNo;
    const MutexLock lock(mutex_);
    notOpened_[inode] = found.status();
    return Found::kNo;
  }
  if (cookie != 0 && *found != cookie) return Found::kNo;
  if (entries_.contains(*found)) return Found::kYes;

  struct stat info;
  Entry entry;
  entry.status.netnsCookie = *found;
  entry.status.inode = ::fstat(fd->get(), &info) == 0 ? info.st_ino : 0;
  entry.status.state = State::kFailed;
  entry.fd = std::make_shared<const UniqueFd>(*std::move(fd));
  entry.status.isOwn = pid == 0;
  entry.owner = owner;
  entry.share = share;
  entry.payer = share;
  entry.witnessedAt = Clock::now();
  Entry* added;
  {
    const MutexLock lock(mutex_);
    notOpened_.erase(entry.status.inode);
    cookies_[entry.status.inode] = *found;
    added = &entries_.emplace(*found, std::move(entry)).first->second;
  }
  if (pid != 0) Keep(*added, pid, file);
  TryToServe(*added);
  return Found::kYes;
}

size_t NamespaceTable::CountOf(const std::string& share) const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), [&share](const auto& entry) {
    return entry.second.owner != kHostOwnsNamespace && entry.second.share == share;
  }));
}

bool NamespaceTable::HasRoom(uint64_t owner, const std::string& share) {
  if (owner == kHostOwnsNamespace) return true;
  const auto isOwners = [owner](const auto& entry) { return entry.second.owner == owner; };
  const auto ofOwner = static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), isOwners));
  if (ofOwner < kMostNamespacesOfOwner && CountOf(share) < kMostNamespacesOfOwner) return true;
  const std::string crowd = ofOwner < kMostNamespacesOfOwner ? StrCat("cgroup ", share) : OwnerText(owner);
  crowdedNow_.insert(crowd);
  const MutexLock lock(mutex_);
  crowded_.insert(crowd);
  return false;
}

NamespaceTable::Clock::time_point NamespaceTable::TurnOf(const std::string& share, uint64_t owner,
                                                         Clock::time_point now) {
  const Clock::time_point turn = servingTime_.TurnOf(share, now);
  return owner == kHostOwnsNamespace ? turn : std::max(turn, servingTime_.TurnOf(OwnerText(owner), now));
}

bool NamespaceTable::HasTurn(const std::string& share, uint64_t owner) {
  const Clock::time_point now = Clock::now();
  if (TurnOf(share, owner, now) <= now) return true;
  const std::string who = servingTime_.HasTurn(share, now) ? OwnerText(owner) : StrCat("cgroup ", share);
  const MutexLock lock(mutex_);
  waited_ = Latecomer{.who = who, .at = now};
  return false;
}

// Namespaces from which nobody connects are served while half of the burst is left for those from which somebody does.
bool NamespaceTable::HasTimeToSpare(const std::string& share, uint64_t owner) {
  const Clock::time_point now = Clock::now();
  return TurnOf(share, owner, now) <= now - ServingTime::kPrice * ServingTime::kBurst / 2;
}

NamespaceTable::Clock::time_point NamespaceTable::DueAt(const Entry& entry) {
  return std::max(entry.nextAttempt, TurnOf(entry.payer, entry.PayingOwner(), Clock::now()));
}

bool NamespaceTable::IsDue(Entry& entry) {
  return Clock::now() >= entry.nextAttempt && HasTurn(entry.payer, entry.PayingOwner());
}

void NamespaceTable::Serve(Entry& entry) {
  if (!IsDue(entry)) return;
  const Piece piece(servingTime_, entry.payer, entry.PayingOwner());
  TryToServe(entry);
}

void NamespaceTable::TryToServe(Entry& entry) {
  entry.nextAttempt = Clock::now() + kRetryAfter;
  // A new namespace without any address lets one listen at 127.0.0.1, too, to which there is no way yet.
  if (absl::Status up = LoopbackOf(entry); !up.ok()) {
    (void)redirect_.HideListeners(entry.status.netnsCookie);  // of an earlier agent, which may be kept
    return SetProblem(entry, State::kFailed, std::move(up));
  }
  absl::StatusOr<Listeners> listeners = TakeKept(entry);
  if (!listeners->v4.valid()) listeners = MakeListenersIn(entry, Families::kBoth);
  if (!listeners.ok()) return SetProblem(entry, State::kFailed, listeners.status());
  const absl::Status prepared = Prepare(entry, *listeners);
  if (!prepared.ok()) return SetProblem(entry, State::kFailed, prepared);
  // What could not be done for connections or addresses does not keep a namespace from being served.
  absl::Status incomplete = ResetExisting(entry);
  incomplete.Update(NoteSources(entry));
  entry.retryAfter = kRetryAfter;
  SetProblem(entry, State::kServed, incomplete);
  HandOut(entry, *std::move(listeners));
}

// A namespace may get its IPv6 later than its first connection.
void NamespaceTable::ServeV6(Entry& entry) {
  if (!IsDue(entry)) return;
  const Piece piece(servingTime_, entry.payer, entry.PayingOwner());
  absl::StatusOr<Listeners> listeners = MakeListenersIn(entry, Families::kOnlyV6);
  const absl::Status prepared = listeners.ok() ? Prepare(entry, *listeners) : listeners.status();
  SetProblem(entry, State::kServed, prepared);
  if (prepared.ok()) HandOut(entry, *std::move(listeners));
}

// What an earlier agent has left here, if it can be used: what connected meanwhile waits in it.
Listeners NamespaceTable::TakeKept(Entry& entry) {
  Listeners kept = kept_.Take(entry.status.netnsCookie);
  if (kept.v4.valid()) {
    absl::Status usable = redirect_.TagAsOwn(kept.v4.get());  // a new version of the map is empty
    if (kept.v6.valid()) usable.Update(redirect_.TagAsOwn(kept.v6.get()));
    usable.Update(Prepare(entry, kept));
    if (usable.ok()) return kept;
  }
  kept_.Forget(entry.status.netnsCookie);
  return {};
}

// Forks, so the next attempt waits longer.
absl::StatusOr<Listeners> NamespaceTable::MakeListenersIn(Entry& entry, Families families) {
  entry.nextAttempt = Clock::now() + entry.retryAfter;
  entry.retryAfter = std::min(2 * entry.retryAfter, kMostRetryAfter);
  return MakeListeners(redirect_.listenerPlace(), entry.fd->get(), families);
}

absl::Status NamespaceTable::Prepare(Entry& entry, const Listeners& listeners) {
  const uint64_t cookie = entry.status.netnsCookie;
  absl::Status status = redirect_.MarkServed(cookie);
  for (const UniqueFd* listener : {&listeners.v4, &listeners.v6}) {
    if (listener->valid()) status.Update(redirect_.CheckNoted(listener->get(), cookie));
  }
  return status;
}

absl::StatusOr<size_t> NamespaceTable::ResetIn(int namespaceFd) {
  const absl::StatusOr<UniqueFd> socket = sockets_.Make(namespaceFd, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  if (!socket.ok()) return socket.status();
  return ResetConnections(
      socket->get(), [this](const SocketAddress& peer) { return redirect_.IsTarget(peer); },
      [this](uint64_t cgroupId) { return cgroups_.Contains(cgroupId); });
}

absl::Status NamespaceTable::ResetExisting(Entry& entry) {
  if (redirect_.config().existing != config::Existing::kReset || entry.handedOut) return absl::OkStatus();
  const absl::StatusOr<size_t> count = ResetIn(entry.fd->get());
  if (!count.ok()) {
    absl::Status problem = absl::FailedPreconditionError(
        StrCat("connections that are older than the agent could not be reset, and may go on in clear text (",
               ToStd(count.status().message()), "); load the kernel module tcp_diag and restart the agent"));
    const MutexLock lock(mutex_);
    entry.status.resetProblem = problem;
    return problem;
  }
  if (*count > 0) {
    log::Info("intercept.reset",
              {{"namespace", entry.status.netnsCookie}, {"connections", *count}, {"share", entry.payer}});
  }
  const MutexLock lock(mutex_);
  entry.status.resetConnections += *count;
  return absl::OkStatus();
}

absl::Status NamespaceTable::LoopbackOf(const Entry& entry) {
  const absl::StatusOr<UniqueFd> socket = sockets_.Make(entry.fd->get(), AF_INET, SOCK_DGRAM, 0);
  return socket.ok() ? CheckLoopback(socket->get()) : absl::InternalError(socket.status().message());
}

// If loopback cannot be used, 127.0.0.1 takes the default route. The kernel half keeps connects from leaving that way,
// except those of sockets that are bound to another address.
void NamespaceTable::NoteLoopback(Entry& entry) {
  const uint64_t cookie = entry.status.netnsCookie;
  absl::Status loopback = LoopbackOf(entry);
  if (absl::IsInternal(loopback)) return;  // that is not known now
  if (loopback.ok() == entry.loopback.ok()) return;
  if (loopback.ok()) {
    loopback.Update(redirect_.ShowListeners(cookie, entry.hidden));
  } else {
    entry.hidden = redirect_.HideListeners(cookie);
  }
  const log::Fields fields = {
      {"namespace", cookie}, {"process", entry.status.process}, {"loopback", loopback}, {"share", entry.payer}};
  loopback.ok() ? log::Info("namespace.served", fields) : log::Warning("namespace.failed", fields);
  const MutexLock lock(mutex_);
  entry.loopback = std::move(loopback);
}

absl::Status NamespaceTable::NoteSources(Entry& entry) {
  const uint64_t cookie = entry.status.netnsCookie;
  Sources wanted;
  for (const int family : {AF_INET, AF_INET6}) {
    const auto found = SourcesTowards(sockets_, entry.fd->get(), redirect_.config().targets, family);
    const auto first = std::find_if(found.begin(), found.end(), [](const auto& one) { return one.has_value(); });
    if (first == found.end()) continue;
    wanted.emplace(std::make_pair(uint16_t{KVEIL_ANY_TARGET}, family), **first);
    size_t others = 0;
    for (size_t i = 0; i < found.size() && others < kMostOtherSources; ++i) {
      if (!found[i].has_value() || *found[i] == **first) continue;
      wanted.emplace(std::make_pair(static_cast<uint16_t>(i), family), *found[i]);
      ++others;
    }
  }
  if (!entry.sources.has_value()) redirect_.ForgetSources(cookie);  // an earlier agent's
  const Sources known = entry.sources.value_or(Sources());
  absl::Status status;
  for (const auto& [key, address] : wanted) {
    const auto before = known.find(key);
    if (before != known.end() && before->second == address) continue;
    status.Update(redirect_.SetSourceAddress(cookie, key.first, key.second, address));
  }
  for (const auto& [key, address] : known) {
    if (!wanted.contains(key)) status.Update(redirect_.SetSourceAddress(cookie, key.first, key.second, std::nullopt));
  }
  entry.sources = std::move(wanted);
  return status;
}

void NamespaceTable::RefreshAddresses() {
  const Clock::time_point end = Clock::now() + kRefreshTime;
  // Goes on where the last call has stopped.
  auto next = entries_.upper_bound(lastRefreshed_);
  for (size_t i = 0; i < entries_.size() && Clock::now() < end; ++i, ++next) {
    if (next == entries_.end()) next = entries_.begin();
    lastRefreshed_ = next->first;
    if (next->second.status.state != State::kServed) continue;
    NoteLoopback(next->second);
    (void)NoteSources(next->second);
  }
}

void NamespaceTable::HandOut(Entry& entry, Listeners listeners) {
  std::vector<UniqueFd> list;
  {
    const MutexLock lock(mutex_);
    entry.handedOut = true;
    entry.status.ipv6 = entry.status.ipv6 || listeners.v6.valid();
  }
  kept_.Keep(entry.status.netnsCookie, listeners);
  if (listeners.v4.valid()) list.push_back(std::move(listeners.v4));
  if (listeners.v6.valid()) list.push_back(std::move(listeners.v6));
  callbacks_.serve(entry.status.netnsCookie, std::move(list));
}

void NamespaceTable::SetProblem(Entry& entry, State state, absl::Status problem) {
  if (problem != entry.status.problem || state != entry.status.state) {
    const log::Fields fields = {{"namespace", entry.status.netnsCookie},
                                {"process", entry.status.process},
                                {"problem", problem},
                                {"share", entry.payer}};
    if (problem.ok()) {
      log::Info("namespace.served",
                {{"namespace", entry.status.netnsCookie}, {"process", entry.status.process}, {"share", entry.payer}});
    } else {
      log::Warning(state == State::kServed ? "namespace.served" : "namespace.failed", fields);
    }
  }
  const MutexLock lock(mutex_);
  entry.status.state = state;
  entry.status.problem = std::move(problem);
}

void NamespaceTable::LetGo(Entry& entry) {
  const uint64_t cookie = entry.status.netnsCookie;
  if (!entry.handedOut) return Erase(cookie);
  log::Info("namespace.releasing", {{"namespace", cookie}, {"share", entry.payer}});
  {
    const MutexLock lock(mutex_);
    entry.status.state = State::kReleasing;
    entry.status.process = 0;
    entry.witness = {};
  }
  callbacks_.release(cookie);
}

void NamespaceTable::OnReleased(uint64_t cookie) {
  const auto known = entries_.find(cookie);
  if (known == entries_.end() || known->second.status.state != State::kReleasing) return;
  Erase(cookie);
  scanWanted_ = true;  // somebody may have come back meanwhile
}

void NamespaceTable::Erase(uint64_t cookie) {
  const Piece piece(servingTime_, entries_.at(cookie).payer, entries_.at(cookie).PayingOwner());
  kept_.Forget(cookie);
  redirect_.ForgetNamespace(cookie);
  const MutexLock lock(mutex_);
  cookies_.erase(entries_.at(cookie).status.inode);
  entries_.erase(cookie);
}

void NamespaceTable::ForgetOthers() {
  kept_.ForgetUnless([this](uint64_t cookie) { return entries_.contains(cookie); });
  const absl::StatusOr<std::vector<uint64_t>> cookies = redirect_.ServedNamespaces();
  if (!cookies.ok()) return;
  for (const uint64_t cookie : *cookies) {
    if (!entries_.contains(cookie)) redirect_.ForgetNamespace(cookie);
  }
}

std::shared_ptr<const UniqueFd> NamespaceTable::Find(uint64_t cookie) const {
  const MutexLock lock(mutex_);
  const auto known = entries_.find(cookie);
  return known == entries_.end() || !known->second.handedOut ? nullptr : known->second.fd;
}

}  // namespace kveil::intercept
