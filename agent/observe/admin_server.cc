// The admin socket's server: one thread, one poll, sockets that never block.
#include "observe/admin_server.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <list>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "nlohmann/json.hpp"
#include "observe/admin_message.h"
#include "observe/unix_socket.h"

namespace kveil::observe {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kAcceptPause(100);

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

// One client: its request as far as it came, then its answer as far as it went.
struct Client {
  UniqueFd socket;
  Clock::time_point deadline;
  std::string request;
  std::string answer;
  size_t sent = 0;
  bool mayErase = false;
  bool answering() const { return !answer.empty(); }
};

}  // namespace

struct AdminServer::State {
  Options options;
  int group = -1;
  int eraseGroup = -1;
  UniqueFd lock;
  UniqueFd listener;
  UniqueFd stop;
  struct Command {
    AdminHandler handler;
    AdminAccess access;
  };
  std::map<std::string, Command> commands;
  std::list<Client> clients;  // the oldest first
  Clock::time_point acceptAfter = Clock::time_point::min();
  std::thread thread;

  void Run();
  void AcceptOne();
  void Refuse(int socket) const;
  // Each returns false when the client is done with.
  bool Receive(Client& client);
  bool Send(Client& client);
  void Answer(Client& client, std::string text);
  absl::StatusOr<std::string> Dispatch(const Client& client, std::string_view request);
  std::string WhoMayLook() const;
  int PollTimeout() const;
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
  UniqueFd stop(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!stop.valid()) return ErrnoStatus("admin socket: eventfd");

  auto state = std::make_unique<State>();
  state->options = std::move(options);
  state->group = *group;
  state->eraseGroup = *eraseGroup;
  state->lock = *std::move(lock);
  state->listener = *std::move(listener);
  state->stop = std::move(stop);
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

AdminServer::~AdminServer() {
  if (state_->thread.joinable()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(state_->stop.get(), &one, sizeof(one));
    state_->thread.join();
  }
  // The lock's file stays: unlinking it would let two agents lock two files of the same name.
  ::unlink(state_->options.socketPath.c_str());
}

void AdminServer::Handle(std::string command, AdminHandler handler, AdminAccess access) {
  state_->commands[std::move(command)] = {std::move(handler), access};
}

void AdminServer::Start() {
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

int AdminServer::State::PollTimeout() const {
  Clock::time_point next = acceptAfter > Clock::now() ? acceptAfter : Clock::time_point::max();
  for (const Client& client : clients) next = std::min(next, client.deadline);
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

void AdminServer::State::Run() {
  std::vector<pollfd> waited;
  while (true) {
    const bool accepts = Clock::now() >= acceptAfter;
    waited.assign({{stop.get(), POLLIN, 0}, {accepts ? listener.get() : -1, POLLIN, 0}});
    for (const Client& client : clients) {
      waited.push_back({client.socket.get(), static_cast<short>(client.answering() ? POLLOUT : POLLIN), 0});
    }
    ::poll(waited.data(), waited.size(), PollTimeout());
    if (waited[0].revents != 0) return;

    const Clock::time_point now = Clock::now();
    size_t index = 2;
    for (auto client = clients.begin(); client != clients.end(); ++index) {
      bool keep = client->deadline > now;
      if (keep && waited[index].revents != 0) keep = client->answering() ? Send(*client) : Receive(*client);
      client = keep ? std::next(client) : clients.erase(client);
    }
    if (waited[1].revents != 0) AcceptOne();
  }
}

void AdminServer::State::AcceptOne() {
  UniqueFd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.valid()) {
    // Out of descriptors: the connection stays in the backlog, and asking again at once would not help.
    if (errno != EAGAIN && errno != EINTR) acceptAfter = Clock::now() + kAcceptPause;
    return;
  }
  const bool mayErase = PeerIsAllowed(socket.get(), eraseGroup);
  const bool mayLook = mayErase || PeerIsAllowed(socket.get(), group);
  if (!mayLook) return Refuse(socket.get());
  if (clients.size() >= options.connectionLimit) clients.pop_front();
  Client& client = clients.emplace_back();
  client.socket = std::move(socket);
  client.deadline = Clock::now() + options.timeout;
  client.mayErase = mayErase;
}

// At once and without a place, or strangers could take those of the others.
void AdminServer::State::Refuse(int socket) const {
  log::Warning("admin.denied");
  const std::string answer =
      ErrorAnswer(absl::PermissionDeniedError(StrCat("only ", WhoMayLook(), " may use the admin socket"))) + "\n";
  (void)!::send(socket, answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

std::string AdminServer::State::WhoMayLook() const {
  std::string who = "root";
  for (const std::string& name : {options.group, options.eraseGroup}) {
    if (!name.empty()) StrAppend(&who, " and the group ", name);
  }
  return who;
}

bool AdminServer::State::Receive(Client& client) {
  char chunk[4096];
  const ssize_t count = ::recv(client.socket.get(), chunk, sizeof(chunk), MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  client.request.append(chunk, count);
  const size_t end = client.request.find('\n');
  if (std::min(end, client.request.size()) > options.requestLimit) {
    Answer(client, ErrorAnswer(absl::ResourceExhaustedError("the request is too long")));
    return true;
  }
  if (end == std::string::npos) return true;
  const absl::StatusOr<std::string> answer = Dispatch(client, std::string_view(client.request).substr(0, end));
  Answer(client, answer.ok() ? *answer : ErrorAnswer(answer.status()));
  return true;
}

void AdminServer::State::Answer(Client& client, std::string text) {
  client.answer = std::move(text);
  client.answer.push_back('\n');
  client.deadline = Clock::now() + options.timeout;
}

bool AdminServer::State::Send(Client& client) {
  const ssize_t count = ::send(client.socket.get(), client.answer.data() + client.sent,
                               client.answer.size() - client.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  client.sent += count;
  return client.sent < client.answer.size();
}

absl::StatusOr<std::string> AdminServer::State::Dispatch(const Client& client, std::string_view request) {
  const nlohmann::json json = nlohmann::json::parse(request, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("command") || !json["command"].is_string()) {
    return absl::InvalidArgumentError("expected one line of JSON, {\"command\": NAME, ...}");
  }
  const auto command = commands.find(json["command"].get<std::string>());
  if (command == commands.end()) return absl::UnimplementedError("unknown command");
  if (command->second.access == AdminAccess::kErase && !client.mayErase) {
    log::Warning("admin.denied", {{"command", command->first}});
    return absl::PermissionDeniedError(
        StrCat("only root", options.eraseGroup.empty() ? "" : StrCat(" and the group ", options.eraseGroup), " may ",
               command->first, " (admin.eraseGroup)"));
  }
  try {
    return command->second.handler(request);
  } catch (const std::exception& error) {  // a JSON type that the handler did not expect
    return absl::InvalidArgumentError(error.what());
  }
}

}  // namespace kveil::observe
