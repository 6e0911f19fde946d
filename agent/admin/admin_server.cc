// The admin socket: who may ask, and who answers which command.
#include "admin/admin_server.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <utility>
#include <vector>

#include "admin/admin_message.h"
#include "admin/command_threads.h"
#include "base/log.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "base/unix_socket.h"
#include "nlohmann/json.hpp"
#include "observe/request_server.h"

namespace kveil::admin {

using observe::RequestServer;
namespace {

// -1 for no group.
absl::StatusOr<int> GroupId(std::string_view field, const std::string& name) {
  if (name.empty()) return -1;
  std::vector<char> buffer(65536);
  group entry = {};
  group* found = nullptr;
  const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    return absl::NotFoundError(StrCat(field, ": no group \"", name, "\" on this machine", error == 0 ? "" : ": ",
                                      error == 0 ? "" : std::strerror(error)));
  }
  return static_cast<int>(entry.gr_gid);
}

absl::Status ErrnoStatus(std::string_view what) {
  const int error = errno;
  const std::string message = StrCat(what, ": ", std::strerror(error));
  return error == EACCES || error == EPERM ? absl::PermissionDeniedError(message) : absl::UnavailableError(message);
}

// The folder of a socket is often on a file system that is empty after a start of the machine.
void MakeParentFolder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash != std::string::npos && slash != 0) ::mkdir(path.substr(0, slash).c_str(), 0755);
}

// Held for as long as the server lives; two agents that start at the same time cannot both have it.
absl::StatusOr<UniqueFd> TakeLock(const std::string& socketPath) {
  const std::string path = socketPath + ".lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return ErrnoStatus(StrCat("admin socket: cannot open ", path));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno == EWOULDBLOCK)
    return absl::AlreadyExistsError(StrCat("another agent runs with the admin socket ", socketPath));
  return ErrnoStatus(StrCat("admin socket: cannot lock ", path));
}

// Removes a socket that nobody listens at; whatever else lies there stays.
absl::Status ClearStaleSocket(const std::string& path, const sockaddr_un& address) {
  struct stat facts = {};
  if (::lstat(path.c_str(), &facts) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(StrCat("admin socket: cannot look at ", path));
  }
  if (!S_ISSOCK(facts.st_mode)) {
    return absl::InvalidArgumentError(StrCat("admin socket: ", path, " is there and is not a socket; remove it"));
  }
  UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int connected = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  if (connected == 0 || errno == EAGAIN) {  // EAGAIN: a listener whose backlog is full
    return absl::AlreadyExistsError(StrCat("another agent listens at the admin socket ", path));
  }
  if (errno != ECONNREFUSED) return ErrnoStatus(StrCat("admin socket: cannot probe ", path));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(StrCat("admin socket: cannot replace ", path));
  return absl::OkStatus();
}

// `group` -1: root's.
absl::StatusOr<UniqueFd> Bind(const std::string& path, const sockaddr_un& address, int group, mode_t mode) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoStatus("admin socket");
  ::fchmod(listener.get(), mode);  // bind gives the file this mode (less the umask), so it is never wider
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(StrCat("admin socket: cannot bind ", path));
  }
  if (::lchown(path.c_str(), static_cast<uid_t>(-1), static_cast<gid_t>(group)) != 0 ||
      ::chmod(path.c_str(), mode) != 0 || ::listen(listener.get(), 64) != 0) {
    return ErrnoStatus(StrCat("admin socket: cannot set up ", path));
  }
  return listener;
}

std::string ErrorLine(const absl::Status& status) { return ErrorAnswer(status) + "\n"; }

}  // namespace

struct AdminServer::State {
  Options options;
  int group = -1;
  int eraseGroup = -1;
  UniqueFd lock;
  std::map<std::string, AnyCommand> commands;
  std::unique_ptr<CommandThreads> threads;
  std::unique_ptr<RequestServer> server;  // last: its thread uses the rest

  bool MayErase(int socket) const { return PeerIsAllowed(socket, eraseGroup); }
  bool MayLook(int socket) const { return MayErase(socket) || PeerIsAllowed(socket, group); }
  void Refuse(int socket) const;
  absl::Status Begin(std::string_view request, int socket, const RequestServer::Reply& reply);
  std::string WhoMayLook() const;
};

AdminServer::AdminServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Listen(Options options) {
  const absl::StatusOr<sockaddr_un> address = UnixAddress(options.socketPath);
  if (!address.ok()) return address.status();
  const absl::StatusOr<int> group = GroupId("admin.group", options.group);
  if (!group.ok()) return group.status();
  const absl::StatusOr<int> eraseGroup = GroupId("admin.eraseGroup", options.eraseGroup);
  if (!eraseGroup.ok()) return eraseGroup.status();
  MakeParentFolder(options.socketPath);
  absl::StatusOr<UniqueFd> lock = TakeLock(options.socketPath);
  if (!lock.ok()) return lock.status();
  if (absl::Status status = ClearStaleSocket(options.socketPath, *address); !status.ok()) return status;
  // A file has one group. Where two may connect, everybody reaches the socket and is asked who he is.
  const bool hasTwo = *group != -1 && *eraseGroup != -1 && *group != *eraseGroup;
  absl::StatusOr<UniqueFd> listener =
      Bind(options.socketPath, *address, std::max(*group, *eraseGroup), hasTwo ? 0666 : 0660);
  if (!listener.ok()) return listener.status();
  absl::StatusOr<std::unique_ptr<RequestServer>> server = RequestServer::Make(
      *std::move(listener),
      {.connections = options.connectionLimit, .requestBytes = options.requestLimit, .patience = options.timeout});
  if (!server.ok()) return server.status();

  auto state = std::make_unique<State>();
  state->options = std::move(options);
  state->group = *group;
  state->eraseGroup = *eraseGroup;
  state->lock = *std::move(lock);
  state->threads = std::make_unique<CommandThreads>(state->options.mostOfOneCommand);
  state->server = *std::move(server);
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

AdminServer::~AdminServer() { Stop(); }

void AdminServer::Stop() {
  if (state_->server == nullptr) return;
  state_->threads->Stop();  // before the server ends, which sends their answers
  state_->server.reset();
  // The lock's file stays: unlinking it would let two agents lock two files of the same name.
  ::unlink(state_->options.socketPath.c_str());
}

void AdminServer::Add(std::string name, AnyCommand command) {
  state_->commands.insert_or_assign(std::move(name), std::move(command));
}

void AdminServer::Start() {
  RequestServer::Callbacks callbacks;
  callbacks.mayAsk = [state = state_.get()](int socket) {
    const bool may = state->MayLook(socket);
    if (!may) state->Refuse(socket);
    return may;
  };
  callbacks.endOf = [](std::string_view received) { return received.find('\n'); };
  callbacks.answer = [state = state_.get()](std::string_view request, int socket, const RequestServer::Reply& reply) {
    if (const absl::Status begun = state->Begin(request, socket, reply); !begun.ok()) reply(ErrorLine(begun));
  };
  callbacks.tooLong = ErrorLine(absl::ResourceExhaustedError("the request is too long"));
  callbacks.full = ErrorLine(absl::ResourceExhaustedError(
      StrCat(state_->options.connectionLimit, " commands are running already; try again when one of them has ended")));
  state_->server->Start(std::move(callbacks));
}

// At once, so that strangers take nobody's place.
void AdminServer::State::Refuse(int socket) const {
  log::Warning("admin.denied");
  const std::string answer =
      ErrorLine(absl::PermissionDeniedError(StrCat("only ", WhoMayLook(), " may use the admin socket")));
  (void)!::send(socket, answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

std::string AdminServer::State::WhoMayLook() const {
  std::string who = "root";
  for (const std::string& name : {options.group, options.eraseGroup}) {
    if (!name.empty()) StrAppend(&who, " and the group ", name);
  }
  return who;
}

// Checks the request, and has it answered on a thread of its own unless it fails.
absl::Status AdminServer::State::Begin(std::string_view request, int socket, const RequestServer::Reply& reply) {
  nlohmann::json json = nlohmann::json::parse(request, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("command") || !json["command"].is_string()) {
    return absl::InvalidArgumentError("expected one line of JSON, {\"command\": NAME, ...}");
  }
  const std::string name = json["command"].get<std::string>();
  const auto command = commands.find(name);
  if (command == commands.end()) return absl::UnimplementedError("unknown command");
  if (command->second.access == Access::kErase && !MayErase(socket)) {
    log::Warning("admin.denied", {{"command", name}});
    return absl::PermissionDeniedError(
        StrCat("only root", options.eraseGroup.empty() ? "" : StrCat(" and the group ", options.eraseGroup), " may ",
               name, " (admin.eraseGroup)"));
  }
  json.erase("command");
  absl::StatusOr<AnyCommand::Work> work = command->second.read(json);
  if (!work.ok()) return absl::Status(work.status().code(), StrCat(name, ": ", ToStd(work.status().message())));
  const Caller caller{PeerUid(socket), [this] { return threads->isStopping(); }};
  return threads->Run(name, [work = *std::move(work), reply, caller]() mutable {
    absl::StatusOr<std::string> answer = absl::UnknownError("");
    try {
      answer = work(caller);
    } catch (const std::exception& error) {  // out of a library; it must not end the agent
      answer = absl::InternalError(error.what());
    }
    reply(answer.ok() ? *answer + "\n" : ErrorLine(answer.status()));
  });
}

absl::Status AdminServer::Health() const {
  const auto refused = state_->threads->lastRefusal();
  if (!refused.has_value() || std::chrono::steady_clock::now() - *refused > std::chrono::minutes(1)) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(StrCat("an admin command was turned away, as ", state_->options.mostOfOneCommand,
                                             " of the same kind were running"));
}

}  // namespace kveil::admin
