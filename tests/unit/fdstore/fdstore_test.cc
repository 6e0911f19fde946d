// The store of an agent's descriptors and the agent's side of it, over a socket in a folder of the test.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/text.h"
#include "base/unix_socket.h"
#include "fdstore/client.h"
#include "fdstore/message.h"
#include "fdstore/server.h"

namespace kveil::fdstore {
namespace {

using std::chrono::milliseconds;
constexpr std::chrono::seconds kLimit{60};

bool Eventually(const std::function<bool()>& isSo) {
  const auto until = std::chrono::steady_clock::now() + kLimit;
  while (!isSo()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

struct Pipe {
  Pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    read = UniqueFd(ends[0]);
    write = UniqueFd(ends[1]);
  }
  // Whether `fd` is its end to write to.
  bool Is(int fd) const {
    char byte = 0;
    return ::write(fd, "x", 1) == 1 && ::read(read.get(), &byte, 1) == 1;
  }
  // Whether nobody has the end to write to any more.
  bool IsClosed() const {
    char byte = 0;
    return ::read(read.get(), &byte, 1) == 0;
  }
  UniqueFd read, write;
};

// `kveil fdstore` in a thread.
class Store {
 public:
  explicit Store(Server::Options options) {
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Listen(std::move(options));
    EXPECT_TRUE(server.ok()) << server.status();
    thread_ = std::thread([server = *std::move(server), end = end_.read.get()] { server->Run(end); });
  }
  ~Store() {
    end_.write.Reset();
    thread_.join();
  }

 private:
  Pipe end_;
  std::thread thread_;
};

// Waits for a message; an error if there comes none.
absl::StatusOr<Message> Heard(int socket) {
  absl::StatusOr<std::optional<Message>> message = std::nullopt;
  Eventually([&] { return !(message = Receive(socket)).ok() || message->has_value(); });
  if (!message.ok()) return message.status();
  if (!message->has_value()) return absl::DeadlineExceededError("nothing");
  return *std::move(*message);
}

// What a store does, by hand.
class StoreByHand {
 public:
  explicit StoreByHand(const std::string& path) : listener_(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    const sockaddr_un address = *UnixAddress(path);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
  }
  UniqueFd Accept() const { return UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

 private:
  const UniqueFd listener_;
};

// Runs it in a thread that is another user. (The system call concerns one thread, unlike the C library's function.)
void AsAnotherUser(const std::function<void()>& run) {
  std::thread([&] {
    ASSERT_EQ(::syscall(SYS_setresuid, -1, 65534, -1), 0);
    run();
  }).join();
}

class FdstoreTest : public ::testing::Test {
 protected:
  ~FdstoreTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Store> StartStore(milliseconds keepFor = kLimit, size_t most = kMostKept,
                                    milliseconds patience = kLimit, milliseconds silence = kLimit) {
    return std::make_unique<Store>(
        Server::Options{.path = path_, .keepFor = keepFor, .patience = patience, .silence = silence, .most = most});
  }
  // A process without a Client, and so without duplicates of its own.
  UniqueFd Connect() const {
    const sockaddr_un address = *UnixAddress(path_);
    UniqueFd made(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(made.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return made;
  }
  // One that says hello, if it is not too late for the store.
  UniqueFd ConnectAsAgent() const {
    UniqueFd made = Connect();
    (void)SendHello(made.get(), {});
    return made;
  }
  // One that is served.
  UniqueFd ServedAgent() const {
    UniqueFd made;
    const auto hears = [&](Verb verb) {
      const auto heard = Heard(made.get());
      return heard.ok() && heard->verb == verb;
    };
    EXPECT_TRUE(Eventually([&] {
      made = ConnectAsAgent();
      return hears(Verb::kHello) && hears(Verb::kAll);
    }));
    return made;
  }
  // As an agent starts.
  std::unique_ptr<Client> StartAgent(std::vector<KeptDescriptor>* kept = nullptr) {
    auto client = std::make_unique<Client>(path_, kLimit);
    std::vector<KeptDescriptor> taken = client->TakeKept();
    if (kept != nullptr) *kept = std::move(taken);
    return client;
  }
  std::vector<KeptDescriptor> WhatTheNextAgentGets() {
    std::vector<KeptDescriptor> kept;
    StartAgent(&kept);
    return kept;
  }

  static std::string MakeFolder() {
    std::string folder = StrCat(::testing::TempDir(), "fdstore_", ::getpid());
    std::filesystem::create_directory(folder);
    return folder;
  }
  const std::string folder_ = MakeFolder();
  const std::string path_ = folder_ + "/store/socket";
};

TEST_F(FdstoreTest, KeepsDescriptorsFromOneAgentToTheNext) {
  const auto store = StartStore();
  const Pipe first, second;
  {
    const auto agent = StartAgent();
    EXPECT_TRUE(agent->Keep("a", first.write.get()));
    EXPECT_TRUE(agent->Keep("b", second.write.get()));
    EXPECT_TRUE(agent->Watch().ok());
  }
  for (int restarts = 0; restarts < 2; ++restarts) {  // what is taken stays kept
    const std::vector<KeptDescriptor> kept = WhatTheNextAgentGets();
    ASSERT_EQ(kept.size(), 2u);
    EXPECT_EQ(kept[0].name, "a");
    EXPECT_TRUE(first.Is(kept[0].fd.get()));
    EXPECT_EQ(kept[1].name, "b");
    EXPECT_TRUE(second.Is(kept[1].fd.get()));
    EXPECT_EQ(::fcntl(kept[0].fd.get(), F_GETFD), FD_CLOEXEC);
  }
}

TEST_F(FdstoreTest, ClosesWhatIsForgottenOrReplaced) {
  const auto store = StartStore();
  Pipe gone, replaced, stays;
  const UniqueFd agent = ConnectAsAgent();
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "gone", gone.write.get()));
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "stays", replaced.write.get()));
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "stays", stays.write.get()));
  EXPECT_TRUE(*Send(agent.get(), Verb::kForget, "gone"));
  EXPECT_TRUE(*Send(agent.get(), Verb::kForget, "never was there"));
  for (Pipe* pipe : {&gone, &replaced, &stays}) pipe->write.Reset();
  EXPECT_TRUE(Eventually([&] { return gone.IsClosed() && replaced.IsClosed(); }));
  EXPECT_FALSE(stays.IsClosed());
}

TEST_F(FdstoreTest, TellsAStoreThatWasAwayEverything) {
  const Pipe early, late;
  auto agent = StartAgent();
  EXPECT_TRUE(agent->Keep("early", early.write.get()));
  EXPECT_FALSE(agent->Watch().ok()) << "there is no store";
  auto store = StartStore();
  EXPECT_TRUE(Eventually([&] { return agent->Watch().ok(); }));
  store.reset();
  EXPECT_TRUE(Eventually([&] { return !agent->Watch().ok(); }));
  EXPECT_TRUE(agent->Keep("late", late.write.get()));
  agent->Forget("early");
  store = StartStore();
  EXPECT_TRUE(Eventually([&] { return agent->Watch().ok(); }));
  std::vector<KeptDescriptor> kept;
  std::thread next([&] { kept = WhatTheNextAgentGets(); });  // waits for this one to go
  agent.reset();
  next.join();
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_TRUE(late.Is(kept[0].fd.get()));
}

TEST_F(FdstoreTest, ClosesWhatNoAgentComesBackFor) {
  const auto store = StartStore(milliseconds(1), kMostKept, milliseconds(20));
  Pipe pipe, other;
  UniqueFd agent = ServedAgent();
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "a", pipe.write.get()));
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "other", other.write.get()));
  EXPECT_TRUE(*Send(agent.get(), Verb::kForget, "other"));
  pipe.write.Reset();
  other.write.Reset();
  EXPECT_TRUE(Eventually([&] { return other.IsClosed(); }));
  UniqueFd stranger = Connect();
  EXPECT_FALSE(Heard(stranger.get()).ok());
  EXPECT_FALSE(pipe.IsClosed()) << "the agent is silent, but no other agent waits for it to go";
  EXPECT_TRUE(Send(agent.get(), Verb::kKeep, "a later one", other.read.get()).ok());
  agent.Reset();
  EXPECT_TRUE(Eventually([&] { return pipe.IsClosed(); }));
  EXPECT_TRUE(WhatTheNextAgentGets().empty());
}

// Such as one that is killed and does not end.
TEST_F(FdstoreTest, AnAgentThatCannotWaitForAnEarlierOneForgetsWhatThatOneHad) {
  const auto store = StartStore();
  Pipe old, own;
  auto earlier = StartAgent();
  earlier->Keep("old", old.write.get());
  EXPECT_TRUE(earlier->Watch().ok());
  Client agent(path_, milliseconds(20));
  EXPECT_TRUE(agent.TakeKept().empty());
  EXPECT_TRUE(agent.Keep("own", own.write.get()));
  EXPECT_EQ(agent.Watch().code(), absl::StatusCode::kUnavailable);
  earlier.reset();
  old.write.Reset();
  EXPECT_TRUE(Eventually([&] { return agent.Watch().ok(); }));
  EXPECT_TRUE(Eventually([&] { return old.IsClosed(); }));
}

// A store that has named one descriptor when the agent's patience ends, and goes on later.
TEST_F(FdstoreTest, ForgetsWhatASlowStoreHasNamed) {
  const std::string path = folder_ + "/slow";
  const StoreByHand byHand(path);
  Client agent(path, milliseconds(200));
  const Pipe pipe;
  UniqueFd store;
  std::thread slow([&] {
    store = byHand.Accept();
    EXPECT_TRUE(*SendHello(store.get(), {}));
    EXPECT_TRUE(*Send(store.get(), Verb::kKeep, "a", pipe.write.get()));
  });
  const std::vector<KeptDescriptor> kept = agent.TakeKept();
  slow.join();
  agent.Forget("a");
  EXPECT_TRUE(*Send(store.get(), Verb::kAll));
  EXPECT_TRUE(Eventually([&] { return agent.Watch().ok(); }));
  EXPECT_EQ(Heard(store.get())->verb, Verb::kHello);
  const auto heard = Heard(store.get());
  ASSERT_TRUE(heard.ok()) << kept.size();
  EXPECT_EQ(heard->verb, Verb::kForget);
  EXPECT_EQ(heard->name, "a");
  EXPECT_EQ(Heard(store.get())->verb, Verb::kHello) << "while it watches, it speaks";
}

TEST_F(FdstoreTest, ASilentProcessLosesItsPlaceWhenAnAgentComes) {
  const auto store = StartStore(kLimit, kMostKept, kLimit, milliseconds(200));
  const UniqueFd saysNoMore = ServedAgent();
  const auto agent = StartAgent();
  EXPECT_TRUE(Eventually([&] { return agent->Watch().ok(); }));
  EXPECT_FALSE(Heard(saysNoMore.get()).ok());
}

TEST_F(FdstoreTest, AnAgentThatIsHeldUpForAWhileKeepsItsPlace) {
  const auto store = StartStore(kLimit, kMostKept, milliseconds(20));
  const UniqueFd agent = ServedAgent(), waits = ConnectAsAgent(), silent = Connect();
  EXPECT_FALSE(Heard(silent.get()).ok()) << "so long that this one is sent away";
  EXPECT_TRUE(Receive(agent.get()).ok());
}

TEST_F(FdstoreTest, SilentProcessesDoNotKeepAnAgentWaiting) {
  const auto store = StartStore();
  const UniqueFd one = Connect(), another = Connect(), third = Connect();
  EXPECT_TRUE(StartAgent()->Watch().ok());
  for (const UniqueFd* silent : {&one, &another, &third}) {
    EXPECT_TRUE(Receive(silent->get()).ok()) << "nobody was sent away for it";
  }
}

TEST_F(FdstoreTest, BothSidesIgnoreVerbsThatTheyDoNotKnow) {
  {
    const std::string path = folder_ + "/newer";
    const StoreByHand byHand(path);
    Client agent(path, milliseconds(0));
    EXPECT_TRUE(agent.TakeKept().empty());
    const UniqueFd store = byHand.Accept();
    EXPECT_TRUE(*SendHello(store.get(), {}));
    EXPECT_TRUE(*Send(store.get(), static_cast<Verb>('z'), "of a later version"));
    EXPECT_TRUE(*Send(store.get(), Verb::kAll));
    EXPECT_TRUE(Eventually([&] { return agent.Watch().ok(); }));
  }
  const auto store = StartStore();
  const Pipe pipe;
  {
    const UniqueFd agent = ConnectAsAgent();
    EXPECT_TRUE(*Send(agent.get(), static_cast<Verb>('z'), "of a later version"));
    EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "a", pipe.write.get()));
    for (const Verb verb : {Verb::kHello, Verb::kAll}) EXPECT_EQ(Heard(agent.get())->verb, verb);
  }
  EXPECT_EQ(WhatTheNextAgentGets().size(), 1u);
}

// It has listeners of its own. In those that are kept, nobody would read what waits.
TEST_F(FdstoreTest, ClosesWhatIsKeptForAnAgentOfAnotherVersion) {
  const auto store = StartStore();
  Pipe pipe;
  const auto comes = [&] {
    const UniqueFd newer = Connect();
    EXPECT_TRUE(*Send(newer.get(), Verb::kHello, "2"));
    EXPECT_TRUE(Heard(newer.get()).ok());
    EXPECT_FALSE(Heard(newer.get()).ok());
  };
  UniqueFd agent = ServedAgent();
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "a", pipe.write.get()));
  pipe.write.Reset();
  comes();
  EXPECT_FALSE(pipe.IsClosed()) << "the agent that has it is there";
  agent.Reset();
  comes();
  EXPECT_TRUE(pipe.IsClosed()) << "before the newer one hears of it";
}

TEST_F(FdstoreTest, BothSidesNameAnotherVersion) {
  {
    const std::string path = folder_ + "/newer";
    const StoreByHand byHand(path);
    Client agent(path, milliseconds(0));
    EXPECT_TRUE(agent.TakeKept().empty());
    const UniqueFd store = byHand.Accept();
    EXPECT_TRUE(*Send(store.get(), Verb::kHello, "2 and more that only version 2 knows"));
    EXPECT_TRUE(Eventually([&] { return agent.Watch().code() == absl::StatusCode::kFailedPrecondition; }));
    EXPECT_EQ(agent.Watch().code(), absl::StatusCode::kFailedPrecondition) << "also while it tries again";
  }
  const auto store = StartStore();
  const UniqueFd agent = Connect();
  EXPECT_TRUE(*Send(agent.get(), Verb::kHello, "2"));
  EXPECT_EQ(ReadHello(*Heard(agent.get()))->version, kVersion);
  EXPECT_FALSE(Heard(agent.get()).ok()) << "and no more";
}

// An agent that drains has no store: nobody would read what waits in its listeners.
TEST_F(FdstoreTest, AnAgentThatEndsHasNoDuplicatesAndTheStoreHas) {
  Pipe alone, stored;
  auto agent = StartAgent();
  agent->Keep("alone", alone.write.get());
  agent->End();
  alone.write.Reset();
  EXPECT_TRUE(alone.IsClosed());
  EXPECT_FALSE(agent->Keep("late", stored.write.get()));
  EXPECT_TRUE(agent->Watch().ok());
  const auto store = StartStore();
  agent = StartAgent();
  agent->Keep("stored", stored.write.get());
  EXPECT_TRUE(agent->Watch().ok());
  agent->End();
  EXPECT_TRUE(agent->Watch().ok());
  stored.write.Reset();
  EXPECT_FALSE(stored.IsClosed());
  agent.reset();
  EXPECT_EQ(WhatTheNextAgentGets().size(), 1u);
}

TEST_F(FdstoreTest, BothSidesHaveABound) {
  rlimit files = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 4 * kMostKept);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  const auto store = StartStore();
  const Pipe pipe;
  auto agent = StartAgent();
  for (size_t i = 0; i < kMostKept; ++i) ASSERT_TRUE(agent->Keep(StrCat("fd", i), pipe.write.get())) << i;
  EXPECT_TRUE(Eventually([&] { return agent->Watch().ok(); }));
  EXPECT_TRUE(agent->Keep("one more", pipe.write.get())) << "for when there is room";
  EXPECT_EQ(agent->Watch().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(agent->Keep("fd1", pipe.write.get())) << "one that is kept may be replaced";
  agent->Forget("fd1");
  EXPECT_TRUE(Eventually([&] { return agent->Watch().ok(); })) << "it has taken the place";
  for (size_t i = kMostKept; i < kMostHeld; ++i) ASSERT_TRUE(agent->Keep(StrCat("fd", i), pipe.write.get())) << i;
  EXPECT_FALSE(agent->Keep("too many", pipe.write.get()));
  EXPECT_EQ(agent->Watch().message().substr(0, 5), "4097 ");
  agent->Forget("too many");
  EXPECT_EQ(agent->Watch().message().substr(0, 5), "4096 ");
  agent.reset();
  EXPECT_EQ(WhatTheNextAgentGets().size(), kMostKept);
}

TEST_F(FdstoreTest, AnAgentKnowsHowMuchTheStoreKeeps) {
  const Pipe pipe;
  auto agent = StartAgent();
  const auto says = [&](absl::StatusCode code) { return Eventually([&] { return agent->Watch().code() == code; }); };
  for (const char* const name : {"a", "b", "c"}) EXPECT_TRUE(agent->Keep(name, pipe.write.get()));
  auto store = StartStore(kLimit, 2);
  EXPECT_TRUE(says(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(agent->Keep("d", pipe.write.get()));
  EXPECT_EQ(agent->Watch().code(), absl::StatusCode::kResourceExhausted);
  agent->Forget("a");
  EXPECT_EQ(agent->Watch().code(), absl::StatusCode::kResourceExhausted);
  agent->Forget("c");
  EXPECT_TRUE(says(absl::StatusCode::kOk)) << "d takes the place of a";
  EXPECT_TRUE(agent->Keep("e", pipe.write.get()));
  EXPECT_EQ(agent->Watch().code(), absl::StatusCode::kResourceExhausted);
  store.reset();
  EXPECT_TRUE(says(absl::StatusCode::kUnavailable));
  store = StartStore();
  EXPECT_TRUE(says(absl::StatusCode::kOk)) << "this one has room for all";
  agent.reset();
  std::string names;
  for (const KeptDescriptor& kept : WhatTheNextAgentGets()) names += kept.name;
  EXPECT_EQ(names, "bde");
}

TEST_F(FdstoreTest, AStoreSaysWhatItsLimitOfOpenFilesIs) {
  rlimit files = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  const rlimit few = {40, files.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto store = StartStore();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  const UniqueFd agent = ConnectAsAgent();
  EXPECT_EQ(ReadHello(*Heard(agent.get()))->most, 8u);
}

// Whatever the agent says.
TEST_F(FdstoreTest, AStoreKeepsWhatItHasRoomFor) {
  const auto store = StartStore(kLimit, 2);
  const Pipe pipe;
  const UniqueFd agent = ServedAgent();
  EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, "without a descriptor"));
  for (const char* const name : {"a", "b", "c"}) EXPECT_TRUE(*Send(agent.get(), Verb::kKeep, name, pipe.write.get()));
  const std::string tooLong(1000, 'k');
  EXPECT_EQ(::send(agent.get(), tooLong.data(), tooLong.size(), MSG_NOSIGNAL), static_cast<ssize_t>(tooLong.size()));
  EXPECT_FALSE(Heard(agent.get()).ok()) << "it ends the connection";
  std::string names;
  for (const KeptDescriptor& kept : WhatTheNextAgentGets()) names += kept.name;
  EXPECT_EQ(names, "ab");
}

TEST_F(FdstoreTest, AnAgentWantsAHelloAndHearsOnceWhatIsKept) {
  const std::string path = folder_ + "/byHand";
  const StoreByHand byHand(path);
  const Pipe pipe;
  Client agent(path, milliseconds(0));
  EXPECT_TRUE(agent.TakeKept().empty());
  EXPECT_TRUE(agent.Keep("a", pipe.write.get()));
  UniqueFd store = byHand.Accept();
  EXPECT_TRUE(*Send(store.get(), Verb::kAll));
  EXPECT_TRUE(Eventually([&] { return agent.Watch().code() == absl::StatusCode::kInvalidArgument; }));
  agent.Watch().IgnoreError();  // connects
  store = byHand.Accept();
  EXPECT_TRUE(*SendHello(store.get(), {}));
  for (int times = 0; times < 2; ++times) EXPECT_TRUE(*Send(store.get(), Verb::kAll));
  EXPECT_TRUE(agent.Watch().ok());
  for (const Verb verb : {Verb::kHello, Verb::kKeep, Verb::kHello}) EXPECT_EQ(Heard(store.get())->verb, verb);
}

TEST_F(FdstoreTest, TheStoreOutlivesNonsense) {
  const auto store = StartStore();
  for (const std::string& said :
       {std::string("x"), std::string("h"), std::string("h1 -1"), "h" + std::string(1000, 'n')}) {
    const UniqueFd stranger = Connect();
    EXPECT_EQ(::send(stranger.get(), said.data(), said.size(), MSG_NOSIGNAL), static_cast<ssize_t>(said.size()));
  }
  EXPECT_TRUE(StartAgent()->Watch().ok());
  EXPECT_TRUE(WhatTheNextAgentGets().empty());
}

TEST_F(FdstoreTest, OnlyItsUserMayConnectAndTheNewestStoreIsFound) {
  const auto earlier = StartStore();
  struct stat facts = {};
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  const Pipe pipe;
  auto agent = StartAgent();
  agent->Keep("of the earlier one", pipe.write.get());
  EXPECT_TRUE(agent->Watch().ok());
  const auto store = StartStore();
  EXPECT_TRUE(WhatTheNextAgentGets().empty());
}

TEST_F(FdstoreTest, NeitherSideSpeaksToAnotherUser) {
  const auto store = StartStore();
  std::filesystem::permissions(path_, std::filesystem::perms::all);
  UniqueFd stranger;
  AsAnotherUser([&] { stranger = ConnectAsAgent(); });
  EXPECT_FALSE(Heard(stranger.get()).ok());

  std::unique_ptr<StoreByHand> byHand;
  const std::string path = folder_ + "/stranger";
  std::filesystem::permissions(folder_, std::filesystem::perms::all);
  AsAnotherUser([&] { byHand = std::make_unique<StoreByHand>(path); });
  Client agent(path);
  EXPECT_TRUE(agent.TakeKept().empty());
  EXPECT_EQ(agent.Watch().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(FdstoreTest, APathThatIsTooLongIsRefused) {
  const std::string path = "/" + std::string(200, 'x');
  EXPECT_EQ(Server::Listen({.path = path}).status().code(), absl::StatusCode::kInvalidArgument);
  Client agent(path);
  EXPECT_TRUE(agent.TakeKept().empty());
  EXPECT_EQ(agent.Watch().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kveil::fdstore
