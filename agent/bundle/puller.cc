#include "bundle/puller.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "base/status_macros.h"
#include "base/sync_folder.h"
#include "base/text.h"
#include "bundle/signature.h"
#include "config/read_file.h"
#include "crypto/secret_file.h"
#include "http/jitter.h"

namespace kveil::bundle {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr int kOk = 200, kNotModified = 304;

absl::Status NotWritten(const std::string& path, std::string_view why) {
  return absl::UnavailableError(StrCat(path, ": cannot be written: ", why));
}

// Removes what may be left of an earlier attempt.
absl::Status MakeEmpty(const std::string& folder) {
  std::error_code error;
  fs::remove_all(folder, error);
  if (error) return NotWritten(folder, error.message());
  if (::mkdir(folder.c_str(), 0700) != 0) return NotWritten(folder, std::strerror(errno));
  return absl::OkStatus();
}

// In one step, also on disk: whoever looks sees all of the one or all of the other. `fresh` has the former ones then,
// if there were any.
absl::Status Exchange(const std::string& fresh, const std::string& folder) {
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) != 0 &&
      (errno != ENOENT || ::rename(fresh.c_str(), folder.c_str()) != 0)) {
    return NotWritten(folder, std::strerror(errno));
  }
  if (!SyncFolder(folder.substr(0, folder.rfind('/')))) return NotWritten(folder, std::strerror(errno));
  return absl::OkStatus();
}

absl::Status HttpError(int status) {
  const char* const more = status / 100 == 3                ? ", and redirects are not followed"
                           : status == 401 || status == 403 ? " (see tokenFile, certificate and key)"
                                                            : "";
  return absl::UnavailableError(StrCat("the server answers with HTTP ", status, more));
}

}  // namespace

Puller::Puller(Options options)
    : options_(std::move(options)),
      name_(options_.source.url.substr(0, options_.source.url.find('?'))),
      client_({.ca = options_.source.ca,
               .certificate = options_.source.certificate,
               .key = options_.source.key,
               .longestResponse = options_.source.maxSize}) {}

Puller::~Puller() {
  stop_.Stop();
  client_.Stop();
  if (thread_.joinable()) thread_.join();
}

void Puller::Start() {
  thread_ = std::thread([this] {
    ::prctl(PR_SET_NAME, "kveil-pull");
    Follow();
  });
}

void Puller::Follow() {
  const milliseconds half = options_.source.interval / 2;
  milliseconds pause(0), failed = options_.firstPause;
  if (status().confirmed.has_value()) pause = half + http::UpTo(half);
  while (stop_.Sleep(pause)) {
    if (Pull().ok()) {
      pause = half + http::UpTo(half);
      failed = options_.firstPause;
    } else {
      pause = http::UpTo(failed);
      failed = std::min(2 * failed, options_.source.interval);
    }
  }
}

absl::Status Puller::Pull(const std::function<bool()>& mayGoOn) {
  absl::Status asked = Ask(mayGoOn);
  if (!asked.ok()) {
    asked =
        absl::Status(asked.code(), StrCat("the policies cannot be pulled from ", name_, ": ", ToStd(asked.message())));
  }
  const MutexLock lock(mutex_);
  status_.problem = asked;
  if (asked.ok()) {
    status_.confirmed = absl::Now();
  } else {
    ++status_.failures;
  }
  return asked;
}

Puller::Status Puller::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

absl::Status Puller::Ask(const std::function<bool()>& mayGoOn) {
  if (!options_.isInForce()) etag_.clear();  // what is in the folder may not be what it was
  ASSIGN_OR_RETURN(http::Request request, MakeRequest(etag_));
  request.mayGoOn = mayGoOn;
  ASSIGN_OR_RETURN(const http::Response response,
                   client_.Send(request, http::Client::Deadline::clock::now() + options_.timeout));
  if (response.status == kNotModified) {
    if (!etag_.empty()) return absl::OkStatus();
    return absl::UnavailableError("the server answers that nothing has changed, and was not asked that");
  }
  if (response.status != kOk) return HttpError(response.status);
  etag_.clear();
  RETURN_IF_ERROR(Take(crypto::AsText(response.body)));
  etag_ = response.etag;
  return absl::OkStatus();
}

absl::StatusOr<http::Request> Puller::MakeRequest(const std::string& etag) const {
  http::Request request;
  request.url = options_.source.url;
  if (!options_.source.tokenFile.empty()) {
    ASSIGN_OR_RETURN(const crypto::SecretText token, crypto::ReadSecret(options_.source.tokenFile));
    request.headers.push_back(http::BearerHeader(token));
  }
  if (!etag.empty()) request.headers.push_back(crypto::MakeSecretText(StrCat("If-None-Match: ", etag)));
  return request;
}

absl::Status Puller::Take(std::string_view text) {
  ASSIGN_OR_RETURN(const std::vector<evidence::SigningKey> trusted, ReadKeys(options_.trustedKeys, options_.folder));
  ASSIGN_OR_RETURN(const BundleFile bundle, ParseBundle(text, "the response"));
  ASSIGN_OR_RETURN(const Manifest manifest, Verify(bundle, trusted, "the bundle"));
  if (Has(bundle) && options_.isInForce()) return absl::OkStatus();
  RETURN_IF_ERROR(options_.accepts(manifest));
  return Place(bundle);
}

// What is signed is the same, byte by byte.
bool Puller::Has(const BundleFile& bundle) const {
  const auto has = [this](const char* name, size_t most, const std::string& bytes) {
    const absl::StatusOr<std::string> there = config::ReadTextFile(config::PathIn(options_.folder, name), most);
    return there.ok() && *there == bytes;
  };
  return has(kManifestName, kLongestManifest, bundle.manifest) &&
         has(kSignatureName, kLongestSignature, bundle.signature);
}

absl::Status Puller::Place(const BundleFile& bundle) {
  const std::string fresh = options_.folder + ".new";
  RETURN_IF_ERROR(MakeEmpty(fresh));
  RETURN_IF_ERROR(Unpack(bundle, fresh));
  if (const absl::Status checked = options_.check(fresh); !checked.ok()) {
    // Where they are now they will not be found.
    return absl::Status(checked.code(), absl::StrReplaceAll(checked.message(), {{fresh + "/", ""}}));
  }
  RETURN_IF_ERROR(Exchange(fresh, options_.folder));
  std::error_code ignored;  // they are removed with the next
  fs::remove_all(fresh, ignored);
  return options_.replaced();
}

}  // namespace kveil::bundle
