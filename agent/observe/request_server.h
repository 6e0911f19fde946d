// The server behind the admin socket and the metrics: one request and one answer per connection, for clients that may
// be slow. One thread, one poll, sockets that never block, so that no client holds up another.
//
//   absl::StatusOr<std::unique_ptr<RequestServer>> server = RequestServer::Make(std::move(listener), options);
//   (*server)->Start({.endOf = ..., .answer = ...});
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::observe {

class RequestServer {
 public:
  struct Options {
    size_t connections = 32;         // at once; one more takes the place of the oldest
    size_t requestBytes = 64 << 10;  // of one request
    // For a request to arrive, and for its answer to leave.
    std::chrono::milliseconds patience = std::chrono::seconds(5);
  };

  // All of them run on the server's thread, one at a time.
  struct Callbacks {
    // Whether the client may ask; one that may not is let go at once and takes nobody's place. Empty: every one may.
    std::function<bool(int socket)> mayAsk = {};
    // Where the request ends in what has come so far; npos: not all of it is there.
    std::function<size_t(std::string_view received)> endOf;
    // The answer to a request, for the client with this socket. Not empty.
    std::function<std::string(std::string_view request, int socket)> answer;
    // The answer to a request of too many bytes. Empty: such a client is let go without a word.
    std::string tooLong = {};
  };

  // `listener` listens and does not block. kUnavailable with errno's text.
  static absl::StatusOr<std::unique_ptr<RequestServer>> Make(UniqueFd listener, const Options& options);
  ~RequestServer();  // ends the thread, and lets all clients go
  RequestServer(const RequestServer&) = delete;
  RequestServer& operator=(const RequestServer&) = delete;

  void Start(Callbacks callbacks);

 private:
  using Clock = std::chrono::steady_clock;
  // Its request as far as it came, then its answer as far as it went.
  struct Client {
    UniqueFd socket;
    Clock::time_point deadline;
    std::string request;
    std::string answer;
    size_t sent = 0;
    // All is sent. What the client still says is read away, or the kernel would reset the connection, and the client
    // might lose its answer.
    bool isEnding = false;
    bool isSending() const { return !answer.empty() && !isEnding; }
  };

  RequestServer(UniqueFd listener, UniqueFd stop, const Options& options)
      : options_(options), listener_(std::move(listener)), stop_(std::move(stop)) {}
  void Run();
  void AcceptOne();
  int PollTimeout() const;
  // Each returns false when the client is done with.
  bool Receive(Client& client) const;
  bool Send(Client& client) const;

  const Options options_;
  const UniqueFd listener_;
  const UniqueFd stop_;
  Callbacks callbacks_;
  std::list<Client> clients_;  // the oldest first
  Clock::time_point acceptAfter_ = Clock::time_point::min();
  std::thread thread_;
};

}  // namespace kveil::observe
