// The server behind the admin socket and the metrics: one request and one answer per connection, for clients that may
// be slow. One thread, one poll, sockets that never block, so that no client holds up another. An answer may come later
// and from another thread, so that no request holds up another either.
//
//   absl::StatusOr<std::unique_ptr<RequestServer>> server = RequestServer::Make(std::move(listener), options);
//   (*server)->Start({.endOf = ..., .answer = ...});
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "base/unique_fd.h"

namespace kveil::observe {

class RequestServer {
 public:
  struct Options {
    // At once. One more takes the place of the oldest that is not waiting for its answer; where all wait, it is told
    // `full` and let go.
    size_t connections = 32;
    size_t requestBytes = 64 << 10;  // of one request
    // For a request to arrive, and for its answer to leave.
    std::chrono::milliseconds patience = std::chrono::seconds(5);
  };

  // Gives a client its answer, which is not empty. Any thread, once; after the server's end it does nothing.
  using Reply = std::function<void(std::string answer)>;

  // All of them run on the server's thread, one at a time.
  struct Callbacks {
    // Whether the client may ask; one that may not is let go at once and takes nobody's place. Empty: everybody may.
    std::function<bool(int socket)> mayAsk = {};
    // Where the request ends in what has come so far; npos: not all of it is there.
    std::function<size_t(std::string_view received)> endOf;
    // Has a request answered that the client with this socket has sent. Must not block: what takes time calls `reply`
    // later.
    std::function<void(std::string_view request, int socket, Reply reply)> answer;
    // The answer to a request of too many bytes, and what a client is told when there is no place. Empty: such a client
    // is let go without a word.
    std::string tooLong = {};
    std::string full = {};
  };

  // `listener` listens and does not block. kUnavailable with errno's text.
  static absl::StatusOr<std::unique_ptr<RequestServer>> Make(UniqueFd listener, const Options& options);
  // Ends the thread and lets all clients go. The answers that are there are sent, as far as the sockets take them.
  ~RequestServer();
  RequestServer(const RequestServer&) = delete;
  RequestServer& operator=(const RequestServer&) = delete;

  void Start(Callbacks callbacks);

 private:
  using Clock = std::chrono::steady_clock;
  // Its request as far as it came, then its answer as far as it went.
  struct Client {
    uint64_t id = 0;
    UniqueFd socket;
    Clock::time_point deadline;
    std::string request;
    bool isWaiting = false;  // for its answer
    std::string answer;
    size_t sent = 0;
    // All is sent. What the client still says is read away, or the kernel would reset the connection, and the client
    // might lose its answer.
    bool isEnding = false;
    bool isSending() const { return !answer.empty() && !isEnding; }
  };

  // What other threads put here for the server's thread. Replies share it, as they may outlive the server.
  struct Mailbox {
    Mutex mutex;
    std::vector<std::pair<uint64_t, std::string>> answers ABSL_GUARDED_BY(mutex);  // by Client::id
    bool isStopping ABSL_GUARDED_BY(mutex) = false;
    UniqueFd wake;  // an eventfd

    void Wake() const;
  };

  RequestServer(UniqueFd listener, std::shared_ptr<Mailbox> mailbox, const Options& options)
      : options_(options), listener_(std::move(listener)), mailbox_(std::move(mailbox)) {}
  void Run();
  bool TakeAnswers();  // returns false when the server stops
  void AcceptOne();
  bool MakeRoom(int newcomer);
  int PollTimeout() const;
  // Each returns false when the client is done with.
  bool Serve(Client& client) const;
  bool Receive(Client& client) const;
  bool Send(Client& client) const;

  const Options options_;
  const UniqueFd listener_;
  const std::shared_ptr<Mailbox> mailbox_;
  Callbacks callbacks_;
  std::list<Client> clients_;  // the oldest first
  uint64_t nextId_ = 0;
  Clock::time_point acceptAfter_ = Clock::time_point::min();
  std::thread thread_;
};

}  // namespace kveil::observe
