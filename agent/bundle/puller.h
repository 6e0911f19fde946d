// Pulls a bundle of signed policies from an HTTPS server, again and again.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "base/stop_signal.h"
#include "bundle/bundle_file.h"
#include "config/pull_config.h"
#include "http/client.h"

namespace kveil::bundle {

// What was pulled is in a folder of its own, as a whole: it is written beside it, verified, judged there by `check`,
// and then takes the folder's place in one step. Whatever goes wrong, the folder stays as it is.
class Puller {
 public:
  struct Options {
    config::PullConfig source;
    std::string folder;                    // where the policies are; made with the first that are pulled
    std::vector<std::string> trustedKeys;  // PEM files; one of these keys has to have signed what is pulled
    // Whether policies of this version may take force. Asked before anything of them is written.
    std::function<absl::Status(const Manifest&)> accepts;
    // Whether the policies of this folder, whose signature was verified, may take force.
    std::function<absl::Status(const std::string& folder)> check;
    // Called when there are others in the folder than before. Why they are not in force, if they should be.
    std::function<absl::Status()> replaced;
    // Whether what is in the folder is in force. If not, the server is asked for all of it again.
    std::function<bool()> isInForce;
    std::chrono::milliseconds timeout{60'000};  // of one request
    // After one that failed, at most; doubled up to the interval with each further one.
    std::chrono::milliseconds firstPause{1'000};
  };
  // None of them is called after the end, all on the thread that pulls.
  explicit Puller(Options options);
  ~Puller();
  Puller(const Puller&) = delete;
  Puller& operator=(const Puller&) = delete;

  // Asks once, now. OK: what the server has is in the folder. Otherwise why it is not: kUnavailable, there is no
  // answer, or none that is of use, or it cannot be written; kFailedPrecondition, kInvalidArgument: a file that the
  // request needs cannot be used, or the bundle may not take force; or the error of `replaced`. `mayGoOn`: asked about
  // once a second; false ends the request. Not for two threads at a time, nor after Start.
  absl::Status Pull(const std::function<bool()>& mayGoOn = {});

  // From now on a thread asks: at once if Pull was never successful, and then after half of the interval or more.
  void Start();

  struct Status {
    absl::Status problem;                 // of the last question; OK while none was answered, too, if Pull never failed
    std::optional<absl::Time> confirmed;  // when the server last said that the folder has what it has
    uint64_t failures = 0;                // since the start
  };
  Status status() const;  // any thread

 private:
  void Follow();
  absl::Status Ask(const std::function<bool()>& mayGoOn);
  absl::StatusOr<http::Request> MakeRequest(const std::string& etag) const;
  absl::Status Take(std::string_view text);
  absl::Status Place(const BundleFile& bundle);
  bool Has(const BundleFile& bundle) const;

  const Options options_;
  const std::string name_;  // of the server and the bundle, for messages: the URL without its query
  http::Client client_;
  std::string etag_;  // of what is in the folder; empty: not known
  StopSignal stop_;
  mutable Mutex mutex_;
  Status status_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace kveil::bundle
