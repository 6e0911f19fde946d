// One connection that waits for each answer; and the topic that a run of the generator uses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"

namespace kveil::load {

// "HOST:PORT", "[::1]:9092"; names are resolved. kInvalidArgument, kNotFound.
absl::StatusOr<SocketAddress> Resolve(std::string_view hostAndPort);

class Client {
 public:
  // kUnavailable: nobody answers there.
  static absl::StatusOr<Client> Connect(const SocketAddress& broker);

  // Sends a request and waits for the answer, 30 seconds at most; it is valid until the next call.
  absl::StatusOr<Bytes> Call(Bytes request);

 private:
  explicit Client(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::Status Receive(MutableBytes all);

  UniqueFd fd_;
  ByteBuffer answer_;
};

struct Topic {
  std::string name;
  std::vector<SocketAddress> leaders;  // of its partitions
  std::vector<int64_t> ends;           // of each partition, the offset of the next record
};

// Creates the topic unless it is there, and produces the value to each of its first so many partitions, as soon as it
// has a leader that takes it, within 30 seconds. An agent then has the keys, too, as far as they are a topic's.
absl::StatusOr<Topic> PrepareTopic(const SocketAddress& bootstrap, const std::string& name, int32_t partitions,
                                   std::string_view value);

}  // namespace kveil::load
