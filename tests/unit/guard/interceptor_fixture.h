// An interceptor without a connection around it: requests and responses go in as messages, what it makes of them comes
// out as messages. Its loop runs on a thread of its own, as a worker's does.
#pragma once

#include <sqlite3.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "guard/apis/guard_context.h"
#include "guard/state/shared_state.h"
#include "guard_fixture.h"
#include "io/loop.h"
#include "kafka/frame.h"
#include "kafka/messages/metadata.h"
#include "observe/metrics.h"
#include "policy/policy_store.h"
#include "proxy/interceptor.h"

namespace kveil::guard {

constexpr int16_t kFetchVersion = 12;  // the last that names topics

// A broker's answers to the agent's own requests.
class FakeUpstream : public proxy::Upstream {
 public:
  struct Asked {
    kafka::ApiKey apiKey{};
    int16_t version = 0;
    std::string clientId;
    ByteBuffer body;
  };

  io::Task<absl::StatusOr<Bytes>> Ask(kafka::ApiKey apiKey, int16_t version, std::optional<std::string_view> clientId,
                                      std::function<void(kafka::FrameWriter&)> write) override {
    kafka::FrameWriter writer;
    write(writer);
    Asked& entry = asked.emplace_back();
    entry.apiKey = apiKey;
    entry.version = version;
    entry.clientId = clientId.value_or("");
    entry.body = writer.ToBuffer();
    if (respond) answer = respond(entry);
    if (!answer.ok()) co_return answer.status();
    co_return Bytes(*answer);
  }

  bool IsApplicationGone() override { return isApplicationGone; }

  std::vector<Asked> asked;
  bool isApplicationGone = false;
  std::function<absl::StatusOr<ByteBuffer>(const Asked&)> respond;  // makes each answer, when set
  absl::StatusOr<ByteBuffer> answer = absl::UnavailableError("the broker has closed the connection");
};

class RegistryFault {
 public:
  explicit RegistryFault(const std::string& path) { EXPECT_EQ(sqlite3_open(path.c_str(), &database_), SQLITE_OK); }
  ~RegistryFault() { sqlite3_close(database_); }
  RegistryFault(const RegistryFault&) = delete;
  RegistryFault& operator=(const RegistryFault&) = delete;

 protected:
  void Do(const char* statements) {
    EXPECT_EQ(sqlite3_exec(database_, statements, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(database_);
  }

 private:
  sqlite3* database_ = nullptr;
};

// No key can be made while it lives.
class LockedRegistry : public RegistryFault {
 public:
  explicit LockedRegistry(const std::string& path) : RegistryFault(path) { Do("BEGIN IMMEDIATE"); }
};

// No key can be read while it lives: the registry is not where it should be.
class MissingRegistry {
 public:
  explicit MissingRegistry(std::string path) : path_(std::move(path)) {
    std::filesystem::rename(path_, path_ + ".away");
  }
  ~MissingRegistry() { std::filesystem::rename(path_ + ".away", path_); }
  MissingRegistry(const MissingRegistry&) = delete;
  MissingRegistry& operator=(const MissingRegistry&) = delete;

 private:
  const std::string path_;
};

// The row of the key that was made first is damaged.
class DamagedKey : public RegistryFault {
 public:
  explicit DamagedKey(const std::string& path) : RegistryFault(path) {
    Do("UPDATE scopeKeys SET bytes = zeroblob(length(bytes)) WHERE number = 1");
  }
};

class InterceptorTest : public BatchTest {
 protected:
  InterceptorTest() {
    keys::KeyServiceOptions options = Options();
    options.registryTimeout = std::chrono::milliseconds(20);
    scratch_.reset();
    service_.reset();
    service_ = Open(std::move(options));
    scratch_ = std::make_unique<WorkerScratch>(*service_);
    auto loop = io::Loop::Create({});
    if (!loop.ok()) ADD_FAILURE() << loop.status();
    loop_ = *std::move(loop);
    thread_ = std::thread([this] { loop_->Run(); });
    connection_.cluster = "main";
    connection_.origin.targetIndex = 3;
    connection_.workload.unit = "reader.service";
    connection_.workload.cgroupPath = "/system.slice/reader.service";
    connection_.workload.share = "/system.slice/reader.service";
    std::filesystem::create_directory(policyFolder());
  }
  ~InterceptorTest() override {
    loop_->Stop();
    thread_.join();
  }

  std::string policyFolder() const { return folder_ + "/policies"; }

  // The topics in force from now on.
  void UseTopics(const std::string& topics) { UsePolicyFile(FileOf(topics)); }
  void UsePolicyFile(const std::string& text) {
    WriteFile(policyFolder() + "/policy.json", text);
    policy_ = PolicyOfFile(text);
    if (policies_ == nullptr) {
      policy::PolicyStore::Options options;
      options.quiet = std::chrono::hours(1);  // nobody but UseTopics reloads
      auto opened = policy::PolicyStore::Open(policyFolder(), std::move(options));
      if (!opened.ok()) ADD_FAILURE() << opened.status();
      policies_ = *std::move(opened);
      GuardLimits limits;
      limits.keyTimeout = std::chrono::milliseconds(150);
      shared_ = std::make_unique<SharedState>(*policies_, metrics_, brokers_, limits);
    } else {
      const absl::Status reloaded = policies_->Reload();
      EXPECT_TRUE(reloaded.ok()) << reloaded;
    }
  }

  // For the guards of a connection of this client.
  GuardContext Context(std::shared_ptr<ClientFacts> client = std::make_shared<ClientFacts>()) {
    return ContextOf(connection_, std::move(client));
  }
  GuardContext ContextOf(const proxy::ConnectionInfo& connection,
                         std::shared_ptr<ClientFacts> client = std::make_shared<ClientFacts>()) {
    return {*shared_, *scratch_, *loop_, connection, std::move(client)};
  }

  // Runs a task on the loop and waits for its end.
  template <typename T>
  T Await(io::Task<T> task) {
    std::promise<T> promise;
    loop_->Post([&] { loop_->Spawn(Deliver(std::move(task), promise)); });
    return promise.get_future().get();
  }

  struct RequestResult {
    proxy::RequestVerdict verdict = proxy::RequestVerdict::Forward();
    ByteBuffer written;
    size_t arenaBytes = 0;  // what the buffers took that it refers to
    bool forwarded() const { return verdict.action == proxy::RequestVerdict::Action::kForward; }
    bool rewritten() const { return verdict.action == proxy::RequestVerdict::Action::kRewrite; }
    bool answered() const { return verdict.action == proxy::RequestVerdict::Action::kAnswer; }
    bool closed() const { return verdict.action == proxy::RequestVerdict::Action::kClose; }
    // Now, which may change until the response comes.
    bool wantsResponse() const {
      return verdict.wantResponse && (verdict.state == nullptr || verdict.state->WantsResponse());
    }
  };
  struct ResponseResult {
    proxy::ResponseVerdict verdict = proxy::ResponseVerdict::Forward();
    ByteBuffer written;
    size_t arenaBytes = 0;
    bool forwarded() const { return verdict.action == proxy::ResponseVerdict::Action::kForward; }
    bool rewritten() const { return verdict.action == proxy::ResponseVerdict::Action::kRewrite; }
    bool closed() const { return verdict.action == proxy::ResponseVerdict::Action::kClose; }
  };

  RequestResult RequestBytes(proxy::Interceptor& guard, kafka::ApiKey apiKey, int16_t version, Bytes body,
                             std::string_view clientId = "a client") {
    kafka::FrameWriter writer;
    kafka::WriteRequestHeader(apiKey, version, kCorrelationId, clientId, writer);
    const size_t headerSize = writer.size();
    writer.Copy(body);
    const ByteBuffer& frame = Keep(writer.ToBuffer());
    proxy::RequestFrame request;
    request.frame = frame;
    request.body = Bytes(frame).subspan(headerSize);
    request.header = *kafka::ReadRequestHeader(frame);
    return Handle(guard, request);
  }
  // What follows SaslHandshake version 0, and its answer.
  RequestResult BareToken(proxy::Interceptor& guard, Bytes token) {
    proxy::RequestFrame request;
    request.header.apiKey = kafka::ApiKey::kSaslAuthenticate;
    request.header.version = proxy::kBareToken;
    request.frame = token;
    request.body = token;
    return Handle(guard, request);
  }
  ResponseResult BareAnswer(proxy::Interceptor& guard, Bytes token, proxy::RequestState* state) {
    proxy::ResponseFrame response;
    response.apiKey = kafka::ApiKey::kSaslAuthenticate;
    response.version = proxy::kBareToken;
    response.frame = token;
    response.body = token;
    return Handle(guard, response, state);
  }
  template <typename Message>
  RequestResult Request(proxy::Interceptor& guard, int16_t version, const Message& message) {
    return RequestBytes(guard, Message::kApiKey, version, BodyOf(message, version));
  }

  ResponseResult ResponseBytes(proxy::Interceptor& guard, kafka::ApiKey apiKey, int16_t version, Bytes body,
                               proxy::RequestState* state) {
    kafka::FrameWriter writer;
    kafka::WriteResponseHeader(apiKey, version, kCorrelationId, writer);
    const size_t headerSize = writer.size();
    writer.Copy(body);
    const ByteBuffer& frame = Keep(writer.ToBuffer());
    proxy::ResponseFrame response;
    response.apiKey = apiKey;
    response.version = version;
    response.correlationId = kCorrelationId;
    response.frame = frame;
    response.body = Bytes(frame).subspan(headerSize);
    return Handle(guard, response, state);
  }
  template <typename Message>
  ResponseResult Response(proxy::Interceptor& guard, int16_t version, const Message& message,
                          proxy::RequestState* state = nullptr) {
    return ResponseBytes(guard, Message::kApiKey, version, BodyOf(message, version), state);
  }

  // What the client hears of a request of which nothing was left: the broker answers that with nothing.
  template <typename RequestMessage, typename ResponseMessage>
  ResponseMessage AnswerToNothing(proxy::Interceptor& guard, const RequestResult& result, int16_t version) {
    EXPECT_TRUE(result.rewritten());
    EXPECT_TRUE(result.verdict.wantResponse);
    if (!result.rewritten()) return {};
    const auto forwarded = WrittenRequest<RequestMessage>(result.written, version);
    if constexpr (requires { forwarded.topicData; }) {
      EXPECT_TRUE(forwarded.topicData.empty());
    } else {
      EXPECT_TRUE(forwarded.topics.empty());
    }
    const ResponseResult told = Response(guard, version, ResponseMessage(), result.verdict.state.get());
    EXPECT_TRUE(told.rewritten());
    return told.rewritten() ? WrittenResponse<ResponseMessage>(told.written, version) : ResponseMessage();
  }

  template <typename Message>
  static ByteBuffer BodyOf(const Message& message, int16_t version) {
    kafka::FrameWriter writer;
    kafka::Encode(message, version, writer);
    return writer.ToBuffer();
  }

  // The message inside a whole request frame that was written; its views stay valid for the test.
  template <typename Message>
  Message WrittenRequest(const ByteBuffer& written, int16_t version) {
    const Bytes frame = FrameOf(written);
    const auto header = kafka::ReadRequestHeader(frame);
    EXPECT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->apiKey, Message::kApiKey);
    EXPECT_EQ(header->version, version);
    EXPECT_EQ(header->correlationId, kCorrelationId);
    EXPECT_EQ(header->clientId, "a client");
    return DecodedFrom<Message>(frame.subspan(header->size), version);
  }
  template <typename Message>
  Message WrittenResponse(const ByteBuffer& written, int16_t version) {
    const Bytes frame = FrameOf(written);
    const auto header = kafka::ReadResponseHeader(frame, Message::kApiKey, version);
    EXPECT_TRUE(header.ok()) << header.status();
    EXPECT_EQ(header->correlationId, kCorrelationId);
    return DecodedFrom<Message>(frame.subspan(header->size), version);
  }

  // The broker's answer to the agent's question for the names of topics; it does not know those without.
  static ByteBuffer NamesAnswer(std::vector<std::pair<kafka::TopicId, std::string>> names) {
    kafka::MetadataResponse response;
    for (const auto& [id, name] : names) {
      kafka::MetadataResponse::Topic& topic = response.topics.emplace_back();
      topic.topicId = id;
      if (name.empty()) {
        topic.errorCode = kafka::ErrorCode::kUnknownTopicId;
      } else {
        topic.name = name;
      }
    }
    return BodyOf(response, 12);
  }

  static kafka::TopicId Id(uint8_t number) {
    kafka::TopicId id;
    id.bytes[0] = 0xA0;
    id.bytes[15] = number;
    return id;
  }

  static constexpr int32_t kCorrelationId = 4711;

  std::unique_ptr<policy::PolicyStore> policies_;
  observe::Metrics metrics_{"test"};
  std::vector<std::string> learned_;  // addresses made targets
  absl::Status learnStatus_;
  std::map<std::string, std::string> namedBrokers_;  // names that resolve, and their addresses
  BrokerDirectory brokers_{DirectoryOptions()};
  std::unique_ptr<SharedState> shared_;
  proxy::ConnectionInfo connection_;
  FakeUpstream upstream_;
  std::unique_ptr<io::Loop> loop_;
  proxy::MemoryBudget budget_{size_t{512} << 20};

 private:
  template <typename T>
  static io::Task<void> Deliver(io::Task<T> task, std::promise<T>& promise) {
    T result = co_await std::move(task);
    promise.set_value(std::move(result));
  }

  BrokerDirectory::Options DirectoryOptions() {
    BrokerDirectory::Options options;
    options.clusterOf = [](uint16_t targetIndex) { return StrCat("cluster", targetIndex); };
    options.hasTls = [](uint16_t) { return false; };
    options.targetOf = [](const SocketAddress&) { return std::nullopt; };
    options.lookUp = [this](const proxy::ConnectionInfo&, std::vector<std::string> names,
                            absl::AnyInvocable<void(BrokerDirectory::Answers)> done) {
      BrokerDirectory::Answers answers;
      for (const std::string& name : names) {
        const auto known = namedBrokers_.find(name);
        if (known == namedBrokers_.end()) {
          answers.push_back(absl::NotFoundError(StrCat("no name server knows ", name)));
        } else {
          answers.push_back(BrokerDirectory::Addresses{*SocketAddress::Parse(known->second, 0)});
        }
      }
      done(std::move(answers));
    };
    options.learn = [this](const SocketAddress& address, uint16_t targetIndex, std::chrono::seconds) {
      learned_.push_back(StrCat(address.Text(), " of target ", targetIndex));
      return learnStatus_;
    };
    return options;
  }

  RequestResult Handle(proxy::Interceptor& guard, const proxy::RequestFrame& request) {
    RequestResult result;
    proxy::Arena arena(shelf_, budget_);
    kafka::FrameWriter written;
    proxy::FrameOutput output(written, arena);
    result.verdict = Await(guard.OnRequest(request, upstream_, output));
    result.written = written.ToBuffer();
    result.arenaBytes = arena.capacity();
    EXPECT_EQ(arena.charged(), arena.capacity()) << "what is held is charged, and nothing else";
    return result;
  }
  ResponseResult Handle(proxy::Interceptor& guard, const proxy::ResponseFrame& response, proxy::RequestState* state) {
    ResponseResult result;
    proxy::Arena arena(shelf_, budget_);
    kafka::FrameWriter written;
    proxy::FrameOutput output(written, arena);
    result.verdict = Await(guard.OnResponse(response, state, output));
    result.written = written.ToBuffer();
    result.arenaBytes = arena.capacity();
    EXPECT_EQ(arena.charged(), arena.capacity()) << "what is held is charged, and nothing else";
    return result;
  }

  const ByteBuffer& Keep(ByteBuffer bytes) { return kept_.emplace_back(Padded(std::move(bytes))); }

  Bytes FrameOf(const ByteBuffer& written) {
    const ByteBuffer& kept = Keep(written);
    EXPECT_GE(kept.size(), 4u);
    if (kept.size() < 4) return {};
    EXPECT_EQ(kafka::LoadBigEndian<uint32_t>(kept.data()), kept.size() - 4);
    return Bytes(kept).subspan(4);
  }
  template <typename Message>
  static Message DecodedFrom(Bytes body, int16_t version) {
    auto decoded = kafka::Decode<Message>(body, version);
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    return decoded.ok() ? *std::move(decoded) : Message();
  }

  std::deque<ByteBuffer> kept_;
  proxy::BufferShelf shelf_;
  std::thread thread_;
};

}  // namespace kveil::guard
