// Looks names up as a workload does, without holding anybody up.
//
//   NameResolver resolver(std::move(options));
//   resolver.LookUp(place, {"b1.internal", "b2.internal"}, [](NameResolver::Answers answers) { ... });
//
// Looking up blocks on name servers and on file systems, so it has threads: a bounded number, of which each workload
// gets a few, in turns. Everything is answered by its deadline, with an error if need be; a thread that a file system
// does not let go is left where it is, and counts towards the bound.
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
    std::vector<pid_t> processes;  // of the first that is still in that namespace the files are read
    std::string workload;          // whose bound it counts towards
  };
  using Answers = std::vector<absl::StatusOr<Addresses>>;  // in the order of the names
  using Done = absl::AnyInvocable<void(Answers)>;

  struct Options {
    // A non-blocking socket in that namespace, which no program of the agent redirects. Not called after Stop.
    std::function<absl::StatusOr<UniqueFd>(uint64_t netnsCookie, int family, int type, int protocol)> makeSocket;
    // As the agent itself resolves a name: where the workload is in the agent's own network namespace, what neither its
    // files nor its name servers know may be known to what else this host is configured to ask.
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

  // Any thread; returns at once. `done` is called once, within the limit, on some thread; it must not block. Errors,
  // one a name: kNotFound, kUnavailable (nobody told in time), kResourceExhausted (too many wait), and what
  // ReadWorkloadFiles says.
  void LookUp(Place place, std::vector<std::string> names, Done done);

  // Answers everything that waits with an error; from then on every call, too.
  void Stop();

  // An error for a minute after calls had to be refused because too many waited.
  absl::Status Health() const;
  size_t threads() const;

  static absl::StatusOr<Addresses> ByTheHost(const std::string& name);

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace kveil::names
