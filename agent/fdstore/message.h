// What the agent and the store of its descriptors say to each other: messages of a SOCK_SEQPACKET socket (unix(7)),
// each with a name, some with a descriptor (SCM_RIGHTS).
//
// Each side begins with kHello. Then the store gives all that it keeps, a kKeep each, and then kAll. From then on only
// the agent speaks: kKeep, also in place of an earlier one of that name, kForget, and kHello again while there is
// nothing else to say. Whoever hears a verb that it does not know ignores the message. So a verb that may be ignored
// needs no new version; with another version, both sides give up.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::fdstore {

inline constexpr unsigned kVersion = 1;  // of what they say
inline constexpr size_t kLongestName = 255;
// Two for each of 2,048 network namespaces, as systemd's store has by systemd/kveil.service.
inline constexpr size_t kMostKept = 4096;

enum class Verb : char { kHello = 'h', kKeep = 'k', kForget = 'f', kAll = 'a' };

struct Message {
  Verb verb = Verb::kAll;  // also one that this version does not know
  std::string name;
  UniqueFd fd;  // of kKeep; not valid when this process may not have more descriptors
};

// False: there is no room for it now, of a socket that does not block. An error: the other side has gone. `fd` -1:
// none.
absl::StatusOr<bool> Send(int socket, Verb verb, std::string_view name = "", int fd = -1);

// Does not wait. None: there is nothing now. An error: the other side has gone, or says more than fits a message.
absl::StatusOr<std::optional<Message>> Receive(int socket);

// What kHello says: the version, which is first in every version, and in this one also `most`.
struct Hello {
  unsigned version = kVersion;
  size_t most = kMostKept;  // of the store: how many descriptors it can keep
};
absl::StatusOr<bool> SendHello(int socket, const Hello& hello);
// kFailedPrecondition: the other side has another version. kInvalidArgument: this is no kHello.
absl::StatusOr<Hello> ReadHello(const Message& message);

}  // namespace kveil::fdstore
