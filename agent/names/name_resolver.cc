#include "names/name_resolver.h"

#include <netdb.h>

#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "base/text.h"
#include "names/dns_lookup.h"
#include "names/resolver_config.h"
#include "names/workload_files.h"

namespace kveil::names {
namespace {

using Clock = std::chrono::steady_clock;

// An idle thread ends after this long.
constexpr std::chrono::seconds kIdleLifetime{5};
constexpr std::chrono::minutes kRefusalIsNews{1};

struct Job;
using Jobs = std::list<std::shared_ptr<Job>>;

struct Job {
  NameResolver::Place place;
  std::vector<std::string> names;
  NameResolver::Done done;  // empty once it was called
  Clock::time_point deadline;
  std::optional<Jobs::iterator> unanswered;  // its place among those
};

// What one workload has to be done. In the table only while there is something.
struct OfWorkload {
  std::deque<std::shared_ptr<Job>> waiting;
  size_t running = 0;
};

NameResolver::Answers AllFailed(size_t count, const absl::Status& status) {
  return NameResolver::Answers(count, status);
}

}  // namespace

struct NameResolver::State : std::enable_shared_from_this<NameResolver::State> {
  explicit State(Options given) : options(std::move(given)) {}

  absl::Status Add(std::shared_ptr<Job> job);
  absl::Status StartWatcher() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void RunThread();
  void RunWatcher();
  std::shared_ptr<Job> Take();
  void Finished(const std::string& workload);
  void Offer(const std::string& workload, const OfWorkload& of) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void Answer(Job& job, Answers answers);
  Answers Do(const Job& job);
  absl::StatusOr<WorkloadFiles> FilesOf(const Place& place) const;
  void AskServers(const Job& job, const WorkloadFiles& files, Answers& answers);
  void AskHost(const Job& job, Answers& answers) const;
  absl::StatusOr<UniqueFd> MakeSocket(uint64_t cookie, int family, int type, int protocol);
  bool hasStopped() const {
    const std::shared_lock lock(stopMutex);
    return stopped;
  }

  const Options options;

  mutable std::shared_mutex stopMutex;  // held shared while a callback of the owner's runs
  bool stopped = false;                 // guarded by stopMutex

  mutable Mutex mutex;
  std::condition_variable_any wake, wakeWatcher;
  absl::flat_hash_map<std::string, OfWorkload> workloads ABSL_GUARDED_BY(mutex);
  std::deque<std::string> turns
      ABSL_GUARDED_BY(mutex);              // of workloads that wait and may have another thread, each once
  Jobs unanswered ABSL_GUARDED_BY(mutex);  // by deadline, as all are given as long
  size_t waiting ABSL_GUARDED_BY(mutex) = 0;
  size_t threads ABSL_GUARDED_BY(mutex) = 0;
  size_t idle ABSL_GUARDED_BY(mutex) = 0;
  bool watches ABSL_GUARDED_BY(mutex) = false;
  bool ends ABSL_GUARDED_BY(mutex) = false;
  std::optional<Clock::time_point> refusedAt ABSL_GUARDED_BY(mutex);
  std::string refused ABSL_GUARDED_BY(mutex);
};

absl::StatusOr<UniqueFd> NameResolver::State::MakeSocket(uint64_t cookie, int family, int type, int protocol) {
  const std::shared_lock lock(stopMutex);
  if (stopped) return absl::CancelledError("the agent ends");
  return options.makeSocket(cookie, family, type, protocol);
}

void NameResolver::State::Offer(const std::string& workload, const OfWorkload& of) {
  if (!of.waiting.empty() && of.running < options.mostThreadsOfAWorkload) turns.push_back(workload);
}

absl::Status NameResolver::State::Add(std::shared_ptr<Job> job) {
  const MutexLock lock(mutex);
  if (ends) return absl::CancelledError("the agent ends");
  if (const absl::Status watching = StartWatcher(); !watching.ok()) return watching;
  const std::string workload = job->place.workload;
  const auto known = workloads.find(workload);
  const size_t ofWorkload = known == workloads.end() ? 0 : known->second.waiting.size();
  if (waiting >= options.mostWaiting || ofWorkload >= options.mostWaitingOfAWorkload) {
    refusedAt = Clock::now();
    refused =
        ofWorkload >= options.mostWaitingOfAWorkload
            ? StrCat("workload ", workload, " has ", ofWorkload, " lookups of broker names waiting, and gets no more")
            : StrCat(waiting, " lookups of broker names are waiting, and no more are taken");
    return absl::ResourceExhaustedError(refused);
  }
  OfWorkload& of = workloads[workload];
  job->unanswered = unanswered.insert(unanswered.end(), job);
  of.waiting.push_back(std::move(job));
  ++waiting;
  // Otherwise it has its turn already, or gets it when one of its threads is done.
  if (of.waiting.size() == 1) Offer(workload, of);
  if (idle == 0 && threads < options.mostThreads) StartThread();
  wake.notify_one();
  wakeWatcher.notify_one();
  return absl::OkStatus();
}

absl::Status NameResolver::State::StartWatcher() {
  if (watches) return absl::OkStatus();
  try {
    std::thread([self = shared_from_this()] { self->RunWatcher(); }).detach();
    watches = true;
    return absl::OkStatus();
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(StrCat("no thread to look a broker's name up: ", error.what()));
  }
}

// Without a thread, what waits is answered at its deadline.
void NameResolver::State::StartThread() {
  try {
    std::thread([self = shared_from_this()] { self->RunThread(); }).detach();
    ++threads;
  } catch (const std::system_error& error) {
    refusedAt = Clock::now();
    refused = StrCat("no thread to look a broker's name up: ", error.what());
  }
}

void NameResolver::State::RunThread() {
  for (;;) {
    std::shared_ptr<Job> job = Take();
    if (job == nullptr) return;
    Answers answers = Do(*job);
    Finished(job->place.workload);
    Answer(*job, std::move(answers));
  }
}

std::shared_ptr<Job> NameResolver::State::Take() {
  const Clock::time_point end = Clock::now() + kIdleLifetime;
  const MutexLock lock(mutex);
  ++idle;
  while (!ends && turns.empty()) {
    if (wake.wait_until(mutex, end) == std::cv_status::timeout) break;
  }
  --idle;
  if (ends || turns.empty()) {
    --threads;
    return nullptr;
  }
  const std::string workload = std::move(turns.front());
  turns.pop_front();
  OfWorkload& of = workloads[workload];
  std::shared_ptr<Job> job = std::move(of.waiting.front());
  of.waiting.pop_front();
  --waiting;
  ++of.running;
  Offer(workload, of);
  if (!turns.empty() && idle == 0 && threads < options.mostThreads) StartThread();
  return job;
}

void NameResolver::State::Finished(const std::string& workload) {
  const MutexLock lock(mutex);
  const auto found = workloads.find(workload);
  const bool wasFull = found->second.running-- == options.mostThreadsOfAWorkload;
  if (wasFull) Offer(workload, found->second);
  if (found->second.running == 0 && found->second.waiting.empty()) workloads.erase(found);
  wake.notify_one();
}

// By a thread or by the watcher: the first one answers.
void NameResolver::State::Answer(Job& job, Answers answers) {
  Done done;
  {
    const MutexLock lock(mutex);
    done = std::exchange(job.done, nullptr);
    if (job.unanswered.has_value()) unanswered.erase(*std::exchange(job.unanswered, std::nullopt));
  }
  if (done) done(std::move(answers));
}

void NameResolver::State::RunWatcher() {
  const MutexLock lock(mutex);
  for (;;) {
    if (unanswered.empty()) {
      if (ends) return;
      wakeWatcher.wait(mutex);
      continue;
    }
    const std::shared_ptr<Job> first = unanswered.front();
    if (!ends && Clock::now() < first->deadline) {
      wakeWatcher.wait_until(mutex, first->deadline);
      continue;
    }
    const absl::Status why = ends ? absl::CancelledError("the agent ends")
                                  : absl::UnavailableError("nobody told the broker's address in time");
    mutex.unlock();
    Answer(*first, AllFailed(first->names.size(), why));
    mutex.lock();
  }
}

absl::StatusOr<WorkloadFiles> NameResolver::State::FilesOf(const Place& place) const {
  absl::Status status = absl::NotFoundError("no process of the workload is there any more");
  for (const pid_t process : place.processes) {
    absl::StatusOr<WorkloadFiles> files = ReadWorkloadFiles(process, place.netnsInode);
    if (files.ok() || !absl::IsNotFound(files.status())) return files;
    status = files.status();
  }
  return status;
}

NameResolver::Answers NameResolver::State::Do(const Job& job) {
  if (Clock::now() >= job.deadline)
    return AllFailed(job.names.size(), absl::UnavailableError("it waited for too long"));
  const absl::StatusOr<WorkloadFiles> files = FilesOf(job.place);
  if (!files.ok()) return AllFailed(job.names.size(), files.status());
  absl::flat_hash_map<std::string, Addresses> inFile;
  for (const std::string& name : job.names) inFile[Comparable(name)];
  FindInHosts(files->hosts, inFile);
  Answers answers;
  for (const std::string& name : job.names) {
    const Addresses& found = inFile[Comparable(name)];
    if (found.empty()) {
      answers.push_back(absl::NotFoundError(StrCat("the workload's hosts file does not have ", name)));
    } else {
      answers.push_back(found);
    }
  }
  AskServers(job, *files, answers);
  if (job.place.isOwn) AskHost(job, answers);
  return answers;
}

// Those that have no answer yet; all where the servers come before the file.
void NameResolver::State::AskServers(const Job& job, const WorkloadFiles& files, Answers& answers) {
  const bool askAll = AsksServersFirst(files.nsswitch);
  std::vector<std::string> names;
  std::vector<size_t> indexes;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (answers[i].ok() && !askAll) continue;
    names.push_back(job.names[i]);
    indexes.push_back(i);
  }
  if (names.empty()) return;
  DnsOptions dns;
  dns.config = ParseResolverConfig(files.resolverConfig);
  dns.deadline = job.deadline;
  dns.mustStop = [this] { return hasStopped(); };
  dns.makeSocket = [this, cookie = job.place.netnsCookie](int family, int type, int protocol) {
    return MakeSocket(cookie, family, type, protocol);
  };
  Answers told = LookUpInDns(names, dns);
  for (size_t i = 0; i < told.size(); ++i) {
    absl::StatusOr<Addresses>& answer = answers[indexes[i]];
    // If both know it, the workload may take either.
    if (answer.ok() && told[i].ok()) {
      answer->insert(answer->end(), told[i]->begin(), told[i]->end());
    } else if (!answer.ok()) {
      answer = std::move(told[i]);
    }
  }
}

void NameResolver::State::AskHost(const Job& job, Answers& answers) const {
  for (size_t i = 0; i < answers.size(); ++i) {
    if (answers[i].ok() || Clock::now() >= job.deadline || hasStopped()) continue;
    absl::StatusOr<Addresses> told = options.ownLookUp(job.names[i]);
    if (told.ok()) answers[i] = std::move(told);
  }
}

NameResolver::NameResolver(Options options) : state_(std::make_shared<State>(std::move(options))) {}
NameResolver::~NameResolver() { Stop(); }

void NameResolver::LookUp(Place place, std::vector<std::string> names, Done done) {
  auto job = std::make_shared<Job>();
  job->place = std::move(place);
  job->names = std::move(names);
  job->done = std::move(done);
  job->deadline = Clock::now() + state_->options.limit;
  const absl::Status added = state_->Add(job);
  if (!added.ok()) state_->Answer(*job, AllFailed(job->names.size(), added));
}

void NameResolver::Stop() {
  {
    const std::unique_lock lock(state_->stopMutex);
    state_->stopped = true;
  }
  std::vector<std::shared_ptr<Job>> left;
  {
    const MutexLock lock(state_->mutex);
    state_->ends = true;
    left.assign(state_->unanswered.begin(), state_->unanswered.end());
  }
  state_->wake.notify_all();
  state_->wakeWatcher.notify_all();
  for (const std::shared_ptr<Job>& job : left) {
    state_->Answer(*job, AllFailed(job->names.size(), absl::CancelledError("the agent ends")));
  }
}

absl::Status NameResolver::Health() const {
  const MutexLock lock(state_->mutex);
  const bool isNews = state_->refusedAt.has_value() && Clock::now() - *state_->refusedAt < kRefusalIsNews;
  return isNews ? absl::ResourceExhaustedError(state_->refused) : absl::OkStatus();
}

size_t NameResolver::threads() const {
  const MutexLock lock(state_->mutex);
  return state_->threads;
}

absl::StatusOr<Addresses> NameResolver::ByTheHost(const std::string& name) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(name.c_str(), nullptr, &hints, &found);
  if (error != 0) return absl::NotFoundError(StrCat(name, " does not resolve: ", ::gai_strerror(error)));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  Addresses addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    absl::StatusOr<SocketAddress> address = SocketAddress::From(entry->ai_addr, entry->ai_addrlen);
    if (address.ok()) addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace kveil::names
