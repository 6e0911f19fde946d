// The floor: what it costs to relay bytes with agent/io and look at none of them; and what the proxy adds to that.
//
// Frames go from a client through the relay to a sink, each on a thread and a loop of its own, over loopback TCP. The
// sink checks the frames' sequence and acknowledges each with 64 bytes, which go back through the relay; `window`
// frames are in flight on a connection. Without a window it is a stream, acknowledged once, at its end. Frames and
// acknowledgements look like Kafka's requests and responses.
//   relay_s_per_GB      CPU of the relay's thread, user and system, for each 10^9 bytes of frames
//   relay_us_per_frame  the same for each frame and its acknowledgement
//   p50_us, p99_us      from a frame's first byte to its acknowledgement; 0 for a stream
// `Proxy` is a connection of agent/proxy whose frames no interceptor wants: it must not copy them, so it may cost
// little more than `Relay`. `Direct` is the same load without a relay, `Epoll` through the plainest relay there is (one
// recv and one blocking send for each ready socket), so that figures of different machines can be told from differences
// of the code.
#include <arpa/inet.h>
#include <benchmark/benchmark.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "io/both.h"
#include "io/event.h"
#include "io/loop.h"
#include "io/socket.h"
#include "kafka/big_endian.h"
#include "proxy/connection.h"

namespace kveil::io {
namespace {

constexpr size_t kHeaderSize = 12;  // length, API key, version, and the sequence as correlation id
constexpr size_t kAcknowledgementSize = 64;

struct Load {
  size_t frameSize;
  size_t window;  // frames in flight on a connection; 0: no limit and no acknowledgements
  size_t connections;
  size_t totalBytes;

  size_t FramesPerConnection() const { return std::max<size_t>(1, totalBytes / frameSize / connections); }
};

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "relay_bench: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

double ThreadCpuSeconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

struct Ends {
  UniqueFd first;
  UniqueFd second;
};

struct Listening {
  Listening() : fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const SocketAddress any = SocketAddress::V4(htonl(INADDR_LOOPBACK), 0);
    if (::bind(fd.get(), any.get(), any.size()) != 0) Fail("bind");
    if (::listen(fd.get(), 1) != 0) Fail("listen");
    sockaddr_in bound{};
    socklen_t length = sizeof(bound);
    ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&bound), &length);
    address = SocketAddress::V4(htonl(INADDR_LOOPBACK), ntohs(bound.sin_port));
  }
  UniqueFd Accept() const {
    UniqueFd accepted(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!accepted.valid()) Fail("accept");
    return accepted;
  }
  UniqueFd fd;
  SocketAddress address;
};

Ends ConnectedPair() {
  const Listening listener;
  Ends ends;
  ends.first.Reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(ends.first.get(), listener.address.get(), listener.address.size()) != 0) Fail("connect");
  ends.second = listener.Accept();
  const int on = 1;
  for (const UniqueFd* fd : {&ends.first, &ends.second}) {
    ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  return ends;
}

Task<void> CloseBoth(Socket& first, Socket& second) {
  auto closeFirst = first.Close();
  co_await std::move(closeFirst);
  auto closeSecond = second.Close();
  co_await std::move(closeSecond);
}

// Waits until there is something, then receives it; 0 at the end of the stream or of the connection.
Task<size_t> ReceiveSome(Socket& socket, MutableBytes into) {
  for (;;) {
    if (!socket.more()) {
      const absl::Status readable = co_await socket.Readable(Deadline::max());
      if (!readable.ok()) co_return 0;
    }
    const int size = co_await socket.Recv(into);
    if (size != -EAGAIN) co_return static_cast<size_t>(std::max(size, 0));
  }
}

// The relay: a buffer is held only while there are bytes in it.

Task<void> RelayOneWay(Loop& loop, Socket& from, Socket& to) {
  for (;;) {
    if (!from.more()) {
      const absl::Status readable = co_await from.Readable(Deadline::max());
      if (!readable.ok()) break;
    }
    PooledBuffer buffer = co_await loop.receiveBuffers().Acquire();
    const int size = co_await from.Recv(MutableBytes(buffer.data(), buffer.size()));
    if (size == -EAGAIN) continue;
    if (size <= 0) break;
    const iovec slice{buffer.data(), static_cast<size_t>(size)};
    const absl::Status sent = co_await to.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
    if (!sent.ok()) break;
  }
  to.ShutdownWrite();
}

Task<void> Relay(Loop& loop, UniqueFd downstream, UniqueFd upstream) {
  Socket client(loop, std::move(downstream));
  Socket broker(loop, std::move(upstream));
  auto both = Both(RelayOneWay(loop, client, broker), RelayOneWay(loop, broker, client));
  co_await std::move(both);
  auto closing = CloseBoth(client, broker);
  co_await std::move(closing);
}

// The proxy, as one of its workers has it.
struct Proxy {
  explicit Proxy(Loop& loop) : parts(loop, shelf, budget, limits, metrics) {}
  proxy::BufferShelf shelf;
  proxy::MemoryBudget budget{size_t{512} << 20};
  proxy::ConnectionLimits limits;
  observe::Metrics metrics{"bench"};
  proxy::WorkerParts parts;
};

Task<void> RelayWithProxy(Proxy& proxy, UniqueFd downstream, SocketAddress broker) {
  auto info = std::make_unique<proxy::ConnectionInfo>();
  info->origin.destination = broker;
  proxy::ConnectionParts own;
  own.upstream = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto share = std::make_shared<proxy::WorkloadShare>();
  proxy::Connection connection(proxy.parts, std::move(share), std::move(info), std::move(downstream), std::move(own));
  auto running = connection.Run();
  co_await std::move(running);
}

struct Direction {
  int from;
  int to;
};

void RelayWithEpoll(const std::vector<Direction>& directions) {
  const UniqueFd poll(::epoll_create1(EPOLL_CLOEXEC));
  for (size_t i = 0; i < directions.size(); ++i) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = i;
    if (::epoll_ctl(poll.get(), EPOLL_CTL_ADD, directions[i].from, &event) != 0) Fail("epoll_ctl");
  }
  std::vector<uint8_t> buffer(1 << 20);
  std::array<epoll_event, 256> ready;
  for (size_t open = directions.size(); open > 0;) {
    const int count = ::epoll_wait(poll.get(), ready.data(), static_cast<int>(ready.size()), -1);
    for (int i = 0; i < count; ++i) {
      const Direction& direction = directions[ready[static_cast<size_t>(i)].data.u64];
      const ssize_t size = ::recv(direction.from, buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (size < 0 && errno == EAGAIN) continue;
      if (size <= 0) {
        ::epoll_ctl(poll.get(), EPOLL_CTL_DEL, direction.from, nullptr);
        ::shutdown(direction.to, SHUT_WR);
        --open;
        continue;
      }
      if (::send(direction.to, buffer.data(), static_cast<size_t>(size), MSG_NOSIGNAL) != size) Fail("send");
    }
  }
}

// The sink.

Task<void> Sink(Loop& loop, UniqueFd fd, const Load* load) {
  Socket socket(loop, std::move(fd));
  std::vector<uint8_t> acknowledgements;
  uint8_t header[kHeaderSize];
  uint32_t frames = 0;
  size_t inFrame = 0;
  for (;;) {
    PooledBuffer buffer;
    if (!socket.more()) {
      const absl::Status readable = co_await socket.Readable(Deadline::max());
      if (!readable.ok()) break;
    }
    buffer = co_await loop.receiveBuffers().Acquire();
    const int size = co_await socket.Recv(MutableBytes(buffer.data(), buffer.size()));
    if (size == -EAGAIN) continue;
    if (size <= 0) break;
    acknowledgements.clear();
    for (size_t at = 0; at < static_cast<size_t>(size);) {
      for (; inFrame < kHeaderSize && at < static_cast<size_t>(size); ++inFrame, ++at) {
        header[inFrame] = buffer.data()[at];
      }
      const size_t taken = std::min(load->frameSize - inFrame, static_cast<size_t>(size) - at);
      at += taken;
      inFrame += taken;
      if (inFrame < load->frameSize) break;
      if (kafka::LoadBigEndian<uint32_t>(header + 8) != frames) Fail("a frame was lost, repeated or out of order");
      ++frames;
      inFrame = 0;
      if (load->window > 0 || frames == load->FramesPerConnection()) {
        const size_t place = acknowledgements.size();
        acknowledgements.resize(place + kAcknowledgementSize);
        kafka::StoreBigEndian<uint32_t>(acknowledgements.data() + place, kAcknowledgementSize - 4);
        kafka::StoreBigEndian<uint32_t>(acknowledgements.data() + place + 4, frames - 1);
      }
    }
    const iovec slice{acknowledgements.data(), acknowledgements.size()};
    const absl::Status sent = co_await socket.SendAll(absl::MakeConstSpan(&slice, 1), Deadline::max());
    if (!sent.ok()) break;
  }
  if (frames != load->FramesPerConnection()) Fail("frames are missing at the end");
  auto closing = socket.Close();
  co_await std::move(closing);
}

// The client.

struct Client {
  Client(Loop& loop, UniqueFd fd, const Load& load) : socket(loop, std::move(fd)), load(load) {}
  Socket socket;
  const Load& load;
  size_t inFlight = 0;
  Event room;
  std::deque<std::chrono::steady_clock::time_point> begun;
  std::vector<double> microseconds;
};

Task<void> SendFrames(Client& client) {
  const std::vector<uint8_t> payload(client.load.frameSize - kHeaderSize, 'x');
  uint8_t header[kHeaderSize] = {};
  kafka::StoreBigEndian<uint32_t>(header, static_cast<uint32_t>(client.load.frameSize - 4));
  kafka::StoreBigEndian<uint16_t>(header + 4, static_cast<uint16_t>(kafka::ApiKey::kListOffsets));
  for (uint32_t sequence = 0; sequence < client.load.FramesPerConnection(); ++sequence) {
    while (client.load.window > 0 && client.inFlight == client.load.window) {
      client.room.Reset();
      co_await client.room.Wait();
    }
    ++client.inFlight;
    if (client.load.window > 0) client.begun.push_back(std::chrono::steady_clock::now());
    kafka::StoreBigEndian<uint32_t>(header + 8, sequence);
    const iovec slices[] = {{header, kHeaderSize}, {const_cast<uint8_t*>(payload.data()), payload.size()}};
    const absl::Status sent = co_await client.socket.SendAll(slices, Deadline::max());
    if (!sent.ok()) Fail("sending");
  }
}

Task<void> ReceiveAcknowledgements(Client& client) {
  std::vector<uint8_t> buffer(16 << 10);
  const size_t expected = (client.load.window > 0 ? client.load.FramesPerConnection() : 1) * kAcknowledgementSize;
  for (size_t received = 0; received < expected;) {
    auto receiving = ReceiveSome(client.socket, absl::MakeSpan(buffer));
    const size_t size = co_await std::move(receiving);
    if (size == 0) Fail("the sink ended early");
    const auto now = std::chrono::steady_clock::now();
    const size_t acknowledged = (received + size) / kAcknowledgementSize - received / kAcknowledgementSize;
    received += size;
    for (size_t i = 0; i < acknowledged && client.load.window > 0; ++i) {
      client.microseconds.push_back(std::chrono::duration<double, std::micro>(now - client.begun.front()).count());
      client.begun.pop_front();
      --client.inFlight;
    }
    client.room.Set();
  }
}

Task<void> RunClient(Client& client) {
  auto both = Both(SendFrames(client), ReceiveAcknowledgements(client));
  co_await std::move(both);
  auto closing = client.socket.Close();
  co_await std::move(closing);
}

std::unique_ptr<Loop> MakeLoop() {
  absl::StatusOr<std::unique_ptr<Loop>> loop = Loop::Create(Loop::Options());
  if (loop.ok()) return *std::move(loop);
  std::fprintf(stderr, "relay_bench: %s\n", std::string(loop.status().message()).c_str());
  std::exit(1);
}

struct Measured {
  double seconds = 0;
  double relayCpuSeconds = 0;
  std::vector<double> microseconds;
};

// Runs the tasks that were spawned on the loop to their end.
void RunToEnd(Loop& loop) {
  loop.Stop();
  loop.Run();
}

enum class Way { kDirect, kRelay, kProxy, kEpoll };

Measured Run(const Load& load, Way way) {
  const std::unique_ptr<Loop> clientLoop = MakeLoop();
  const std::unique_ptr<Loop> relayLoop = MakeLoop();
  const std::unique_ptr<Loop> sinkLoop = MakeLoop();
  Proxy proxy(*relayLoop);
  std::vector<Listening> brokers;
  std::vector<UniqueFd> relayed;
  std::vector<Direction> directions;
  std::vector<std::unique_ptr<Client>> clients;
  for (size_t i = 0; i < load.connections; ++i) {
    Ends ends = ConnectedPair();
    if (way == Way::kProxy) {
      relayLoop->Spawn(RelayWithProxy(proxy, std::move(ends.second), brokers.emplace_back().address));
    } else if (way != Way::kDirect) {
      Ends upstream = ConnectedPair();
      if (way == Way::kRelay) {
        relayLoop->Spawn(Relay(*relayLoop, std::move(ends.second), std::move(upstream.first)));
      } else {
        directions.push_back({ends.second.get(), upstream.first.get()});
        directions.push_back({upstream.first.get(), ends.second.get()});
        relayed.push_back(std::move(ends.second));
        relayed.push_back(std::move(upstream.first));
      }
      ends.second = std::move(upstream.second);
    }
    if (way != Way::kProxy) sinkLoop->Spawn(Sink(*sinkLoop, std::move(ends.second), &load));
    clients.push_back(std::make_unique<Client>(*clientLoop, std::move(ends.first), load));
    clients.back()->microseconds.reserve(load.window > 0 ? load.FramesPerConnection() : 0);
    clientLoop->Spawn(RunClient(*clients.back()));
  }
  Measured measured;
  std::thread sink([&] {
    for (const Listening& broker : brokers) sinkLoop->Spawn(Sink(*sinkLoop, broker.Accept(), &load));
    RunToEnd(*sinkLoop);
  });
  std::thread relay([&] {
    const double before = ThreadCpuSeconds();
    way == Way::kEpoll ? RelayWithEpoll(directions) : RunToEnd(*relayLoop);
    measured.relayCpuSeconds = ThreadCpuSeconds() - before;
  });
  const auto begun = std::chrono::steady_clock::now();
  std::thread client([&] { RunToEnd(*clientLoop); });
  client.join();
  measured.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  relay.join();
  sink.join();
  for (const auto& each : clients) {
    measured.microseconds.insert(measured.microseconds.end(), each->microseconds.begin(), each->microseconds.end());
  }
  return measured;
}

double Quantile(std::vector<double>& values, double quantile) {
  if (values.empty()) return 0;
  const auto place = values.begin() + static_cast<ptrdiff_t>(quantile * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

void Measure(benchmark::State& state, const Load& load, Way way) {
  for (auto _ : state) {
    Measured measured = Run(load, way);
    state.SetIterationTime(measured.seconds);
    const double frames = static_cast<double>(load.FramesPerConnection() * load.connections);
    const double gigabytes = frames * static_cast<double>(load.frameSize) * 1e-9;
    state.counters["GB_per_s"] = gigabytes / measured.seconds;
    state.counters["p50_us"] = Quantile(measured.microseconds, 0.5);
    state.counters["p99_us"] = Quantile(measured.microseconds, 0.99);
    if (way == Way::kDirect) continue;
    state.counters["relay_s_per_GB"] = measured.relayCpuSeconds / gigabytes;
    state.counters["relay_us_per_frame"] = measured.relayCpuSeconds / frames * 1e6;
  }
}

void RegisterAll() {
  struct Named {
    const char* name;
    Load load;
  };
  const std::vector<Named> loads = {
      {"200B_w1_c1", {200, 1, 1, 4 << 20}},
      {"200B_w1_c32", {200, 1, 32, 12 << 20}},
      {"16KiB_w5_c1", {16 << 10, 5, 1, 512 << 20}},
      {"128KiB_w5_c1", {128 << 10, 5, 1, size_t{2} << 30}},
      {"1MiB_w5_c1", {1 << 20, 5, 1, size_t{2} << 30}},
      {"128KiB_stream_c1", {128 << 10, 0, 1, size_t{2} << 30}},
      {"128KiB_w5_c8", {128 << 10, 5, 8, size_t{2} << 30}},
      {"16KiB_w5_c32", {16 << 10, 5, 32, size_t{1} << 30}},
  };
  const std::vector<std::pair<const char*, Way>> ways = {
      {"Direct/", Way::kDirect}, {"Epoll/", Way::kEpoll}, {"Relay/", Way::kRelay}, {"Proxy/", Way::kProxy}};
  for (const auto& [prefix, way] : ways) {
    for (const Named& each : loads) {
      if (way == Way::kProxy && each.load.window == 0) continue;  // a request without a response
      const std::string name = std::string(prefix) + each.name;
      benchmark::RegisterBenchmark(
          name.c_str(), [load = each.load, way = way](benchmark::State& state) { Measure(state, load, way); })
          ->UseManualTime()
          ->Iterations(1)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

}  // namespace
}  // namespace kveil::io

int main(int argc, char** argv) {
  kveil::io::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
