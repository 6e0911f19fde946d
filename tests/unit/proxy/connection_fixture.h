// A real connection between two sockets of the test: the application's, and that of a broker that listens on loopback.
// It runs on a worker's thread; the test is both peers.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "observe/metrics.h"
#include "peers.h"
#include "proxy/connection.h"

namespace kveil::proxy {

using kafka::ApiKey;

constexpr ApiKey kWanted = ApiKey::kOffsetCommit;  // held whole
constexpr ApiKey kOther = ApiKey::kListOffsets;    // relayed as it comes

inline std::string Other(int32_t id, std::string_view body = "other") { return RequestFrameOf(kOther, id, body); }

// An interceptor whose behaviour a test writes down. Its state is a number.
class FakeInterceptor : public Interceptor {
 public:
  struct Number : RequestState {
    explicit Number(int value) : value(value) {}
    bool WantsResponse() override { return value >= 0; }
    int value;  // below 0, the response is not wanted when it comes
  };
  using OnRequestFunction = std::function<RequestVerdict(const RequestFrame&, FrameOutput&)>;
  using OnResponseFunction = std::function<ResponseVerdict(const ResponseFrame&, RequestState*, FrameOutput&)>;

  explicit FakeInterceptor(std::vector<ApiKey> wants) : wants_(std::move(wants)) {}

  std::vector<ApiKey> Wants() const override { return wants_; }
  io::Task<RequestVerdict> OnRequest(const RequestFrame& request, Upstream& upstream, FrameOutput& output) override {
    if (asks) {
      std::function<void(kafka::FrameWriter&)> write = [](kafka::FrameWriter& writer) { writer.Copy("a question"); };
      auto asking = upstream.Ask(ApiKey::kListOffsets, 1, "whom it is for", std::move(write));
      const absl::StatusOr<Bytes> answer = co_await std::move(asking);
      answers.push_back(answer.ok() ? std::string(AsText(*answer)) : "no answer");
      applicationWasGone = upstream.IsApplicationGone();
    }
    if (hold) co_await held.Wait();
    co_return onRequest(request, output);
  }
  io::Task<ResponseVerdict> OnResponse(const ResponseFrame& response, RequestState* state,
                                       FrameOutput& output) override {
    co_return onResponse(response, state, output);
  }

  bool asks = false;  // asks the broker something ahead of each request
  bool hold = false;  // waits for `held` before each verdict
  io::Event held;
  std::vector<std::string> answers;
  bool applicationWasGone = false;  // when the last answer came
  OnRequestFunction onRequest = [](const RequestFrame&, FrameOutput&) { return RequestVerdict::Forward(); };
  OnResponseFunction onResponse = [](const ResponseFrame&, RequestState*, FrameOutput&) {
    return ResponseVerdict::Forward();
  };

 private:
  std::vector<ApiKey> wants_;
};

// Writes a response frame of the agent's own.
inline void WriteResponse(FrameOutput& output, int32_t correlationId, std::string_view body) {
  output.writer.BeginFrame();
  output.writer.Int(correlationId);
  output.writer.Copy(body);
  output.writer.FinishFrame();
}

// The request with its header and another body, which is not copied.
inline RequestVerdict RewriteBody(const RequestFrame& request, Bytes body, FrameOutput& output) {
  output.writer.BeginFrame();
  output.writer.Append(request.frame.first(request.header.size));
  output.writer.Append(body);
  output.writer.FinishFrame();
  return RequestVerdict::Rewrite();
}

class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    ::alarm(120);  // a hang is a failure, not a wait
    brokerListener_ = io::Listen(16, &brokerAddress_);
  }
  ~ConnectionTest() override {
    if (loop_ != nullptr) {
      if (!HasEnded(0)) {
        OnLoop(
            [](Connection& connection) { connection.Abort(observe::ConnectionResult::kServed, "the test is over"); });
        EXPECT_TRUE(HasEnded()) << "an aborted connection goes on";
      }
      loop_->Stop();
      thread_.join();
    }
    ::alarm(0);
  }

  // Before Open.
  FakeInterceptor* Intercept(std::vector<ApiKey> apiKeys) {
    auto made = std::make_unique<FakeInterceptor>(std::move(apiKeys));
    FakeInterceptor* const interceptor = made.get();
    interceptors_.push_back(std::move(made));
    return interceptor;
  }

  // Connects the application; the connection then connects to the broker.
  void Start() {
    io::Loop::Options options;
    options.receiveBufferCount = receiveBuffers_;
    options.receiveBufferSize = receiveBufferSize_;
    auto made = io::Loop::Create(options);
    if (!made.ok()) ADD_FAILURE() << made.status();
    loop_ = *std::move(made);
    budget_ = std::make_unique<MemoryBudget>(frameMemory_);
    parts_ = std::make_unique<WorkerParts>(*loop_, shelf_, *budget_, limits_, metrics_);
    io::Pair pair = io::TcpPair();
    application_ = Peer(std::move(pair.near));
    auto info = std::make_unique<ConnectionInfo>();
    info->id = 1;
    info->origin.destination = brokerAddress_;
    UniqueFd upstream(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (smallSocketBuffers_) {
      const int bytes = 64 << 10;
      for (const int fd : {pair.far.get(), upstream.get(), application_.fd()}) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
        ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
      }
    }
    connection_ =
        std::make_unique<Connection>(*parts_, share_, std::move(info), std::move(pair.far),
                                     ConnectionParts{std::move(upstream),
                                                     [this](const ConnectionInfo& made) {
                                                       certificateName_ = made.certificateName;
                                                       return std::move(tls_);
                                                     },
                                                     std::move(interceptors_), clientTls_, std::move(applicationTls_)});
    loop_->Spawn(RunConnection());
    thread_ = std::thread([this] { loop_->Run(); });
  }
  void Open() {
    Start();
    broker_ = AcceptBroker();
  }

  Peer AcceptBroker() {
    UniqueFd accepted(::accept4(brokerListener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (smallSocketBuffers_) {
      const int bytes = 64 << 10;
      ::setsockopt(accepted.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
      ::setsockopt(accepted.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    }
    return Peer(std::move(accepted));
  }

  // Runs something on the worker's thread and waits until it has run. Only while the connection runs.
  void OnLoop(std::function<void(Connection&)> work) {
    std::promise<void> done;
    loop_->Post([&] {
      if (!ended_) work(*connection_);
      done.set_value();
    });
    done.get_future().wait();
  }
  // Makes what the loop has done visible to this thread. It is done when its bytes have come over a socket, but
  // ThreadSanitizer does not see that through the kernel.
  void Settle() {
    OnLoop([](Connection&) {});
  }
  bool HasEnded(int milliseconds = 10'000) {
    for (int waited = 0; !ended_ && waited < milliseconds; waited += 5) ::usleep(5000);
    return ended_;
  }
  // The connection's end as the metrics tell it: "served", "not_kafka", ...
  std::string Result() {
    EXPECT_TRUE(HasEnded());
    const std::string text = metrics_.Text();
    std::string found;
    for (const char* name : {"served", "no_origin", "broker_unreachable", "not_kafka", "unsupported", "limit",
                             "stalled", "tls_failed", "client_tls", "client_tls_failed"}) {
      if (text.find(StrCat("kveil_connections_closed_total{result=\"", name, "\"} 1")) != std::string::npos) {
        found += name;
      }
    }
    return found;
  }

  // A request through to the broker and its answer back: then everything before has been worked on too.
  void ExpectRelayed(int32_t correlationId, size_t size = 20) {
    const std::string request = RequestFrameOf(ApiKey::kListOffsets, correlationId, Pattern(size, 3));
    const std::string response = ResponseFrameOf(correlationId, Pattern(size, 4));
    application_.Send(request);
    EXPECT_EQ(broker_.Receive(request.size()), request);
    broker_.Send(response);
    EXPECT_EQ(application_.Receive(response.size()), response);
  }

  ConnectionLimits limits_;
  size_t receiveBuffers_ = 4;
  size_t receiveBufferSize_ = 1 << 20;
  size_t frameMemory_ = 64 << 20;
  bool smallSocketBuffers_ = false;
  observe::Metrics metrics_{"test"};
  SocketAddress brokerAddress_;
  UniqueFd brokerListener_;
  Peer application_;
  Peer broker_;
  std::unique_ptr<io::TlsSession> tls_;  // over the way to the broker
  ClientTls clientTls_ = ClientTls::kRefuse;
  TlsMaker applicationTls_;
  std::string certificateName_;  // of the application, when the way to the broker was made
  std::unique_ptr<io::Loop> loop_;
  BufferShelf shelf_;
  std::unique_ptr<MemoryBudget> budget_;
  std::vector<std::unique_ptr<Interceptor>> interceptors_;  // before Open
  std::shared_ptr<WorkloadShare> share_ = std::make_shared<WorkloadShare>();

 private:
  io::Task<void> RunConnection() {
    auto run = connection_->Run();
    co_await std::move(run);
    connection_.reset();
    ended_ = true;
  }

  std::unique_ptr<WorkerParts> parts_;
  std::unique_ptr<Connection> connection_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace kveil::proxy
