// What the agent and the store of its descriptors say to each other: messages of a SOCK_SEQPACKET socket (unix(7)),
// each with a name, some with a descriptor (SCM_RIGHTS).
//
// On a new connection, the store first gives all that it keeps, a kKeep each, and then kAll. From then on only the
// agent speaks: kKeep, also in place of an earlier one of that name, and kForget.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace kveil::fdstore {

inline constexpr size_t kLongestName = 255;
// Two for each of 2,048 network namespaces, as systemd's store has by systemd/kveil.service.
inline constexpr size_t kMostKept = 4096;

enum class Verb : char { kKeep = 'k', kForget = 'f', kAll = 'a' };

struct Message {
  Verb verb = Verb::kAll;
  std::string name;
  UniqueFd fd;  // of kKeep; not valid when this process may not have more descriptors
};

// False: there is no room for it now, of a socket that does not block. An error: the other side has gone. `fd` -1:
// none.
absl::StatusOr<bool> Send(int socket, Verb verb, std::string_view name = "", int fd = -1);

// Does not wait. None: there is nothing now. An error: the other side has gone, or says what has no meaning.
absl::StatusOr<std::optional<Message>> Receive(int socket);

}  // namespace kveil::fdstore
