// Looks names up as a workload does, without blocking the caller.
//
//   NameResolver resolver(std::move(options));
//   resolver.LookUp(place, {"b1.internal", "b2.internal"}, [](NameResolver::Answers answers) { ... });
//
// A lookup blocks on name servers and file systems, so it runs on one of a bounded number of threads. Each workload
// gets a few of them, in turns. Every call is answered by its deadline, if need be with an error. A thread that is
// stuck in a file system is left there, and counts towards the bound.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "names/hosts_file.h"

namespace kveil::names {

class NameResolver {
 public:
  // Where a name is looked up.
  struct Place {
    uint64_t netnsCookie = 0;
    uint64_t netnsInode = 0;
    bool isOwn = false;            // the agent's own network namespace
    std::vector<pid_t> processes;  // the files of the first that is still in that namespace are read
    std::string workload;          // whose bounds the lookup counts towards
  };
  using Answers = std::vector<absl::StatusOr<Addresses>>;  // in the order of the names
  using Done = absl::AnyInvocable<void(Answers)>;

  struct Options {
    // Makes a non-blocking socket in that namespace that the agent's programs do not redirect. Not called after Stop.
    std::function<absl::StatusOr<UniqueFd>(uint64_t netnsCookie, int family, int type, int protocol)> makeSocket;
    // Resolves a name as the agent itself does. Asked if the workload is in the agent's own network namespace and
    // neither its files nor its name servers know the name: this host may be configured to ask something else.
    std::function<absl::StatusOr<Addresses>(const std::string& name)> ownLookUp = ByTheHost;
    size_t mostThreads = 16;
    size_t mostThreadsOfAWorkload = 2;
    size_t mostWaiting = 2'000;
    size_t mostWaitingOfAWorkload = 100;
    std::chrono::milliseconds limit{5'000};  // from the call to its answer
  };

  explicit NameResolver(Options options);
  ~NameResolver();  // Stop()
  NameResolver(const NameResolver&) = delete;
  NameResolver& operator=(const NameResolver&) = delete;

  // Any thread; returns at once. Calls `done` once, within the limit, on any thread, perhaps before it returns; `done`
  // must not block. Errors, one per name: kNotFound, kUnavailable (no answer in time), kResourceExhausted (too many are
  // waiting), kCancelled (stopped), and those of ReadWorkloadFiles.
  void LookUp(Place place, std::vector<std::string> names, Done done);

  // Answers everything that waits, and every later call, with kCancelled.
  void Stop();

  // kResourceExhausted for a minute after a call was refused because too many waited, or a thread could not start.
  absl::Status Health() const;
  size_t threads() const;

  // getaddrinfo(3). kNotFound.
  static absl::StatusOr<Addresses> ByTheHost(const std::string& name);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace kveil::names
