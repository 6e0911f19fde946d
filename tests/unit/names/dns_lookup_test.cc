// Names as name servers know them, and what becomes of a server that says nothing.
#include "names/dns_lookup.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "base/text.h"

namespace kveil::names {
namespace {

using std::chrono::milliseconds;
using Texts = std::vector<std::string>;

constexpr uint16_t kA = 1, kAaaa = 28;

// A name server on loopback (RFC 1035 section 4.1): knows a few addresses, denies other names, and is silent about
// some.
class NameServer {
 public:
  NameServer() : socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    socklen_t size = sizeof(address);
    ::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    const timeval limit{0, 20'000};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~NameServer() {
    ends_ = true;
    if (thread_.joinable()) thread_.join();
  }
  void Start() {
    thread_ = std::thread([this] {
      while (!ends_) ServeOne();
    });
  }

  uint16_t port() const { return port_; }
  std::map<std::string, Texts> addresses;              // by name
  std::set<std::pair<std::string, uint16_t>> silent;   // about which no answer comes
  std::set<std::pair<std::string, uint16_t>> failing;  // answered with SERVFAIL

 private:
  void ServeOne() {
    uint8_t query[512];
    sockaddr_in from;
    socklen_t size = sizeof(from);
    const ssize_t count = ::recvfrom(socket_.get(), query, sizeof(query), 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (count < 17) return;
    std::string name;
    size_t at = 12;
    while (query[at] != 0) {
      name += StrCat(name.empty() ? "" : ".", std::string(reinterpret_cast<char*>(query) + at + 1, query[at]));
      at += 1 + query[at];
    }
    const auto type = static_cast<uint16_t>(query[at + 1] << 8 | query[at + 2]);
    if (silent.contains({name, type})) return;
    std::string answer(reinterpret_cast<char*>(query), at + 5);
    const bool fails = failing.contains({name, type}), isKnown = addresses.contains(name);
    int answers = 0;
    if (isKnown && !fails) {
      for (const std::string& text : addresses[name]) {
        uint8_t bytes[16];
        const bool isV6 = text.find(':') != std::string::npos;
        if (isV6 != (type == kAaaa)) continue;
        const uint8_t length = isV6 ? 16 : 4;
        ::inet_pton(isV6 ? AF_INET6 : AF_INET, text.c_str(), bytes);
        const char record[] = {'\xc0', 12, 0, static_cast<char>(type), 0, 1, 0, 0, 0, 60, 0, static_cast<char>(length)};
        answer.append(record, sizeof(record)).append(reinterpret_cast<char*>(bytes), length);
        ++answers;
      }
    }
    answer[2] = '\x81';
    answer[3] = static_cast<char>(0x80 | (fails ? 2 : isKnown ? 0 : 3));
    answer[7] = static_cast<char>(answers);
    answer[8] = answer[9] = answer[10] = answer[11] = 0;
    ::sendto(socket_.get(), answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
  }

  UniqueFd socket_;
  uint16_t port_ = 0;
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

class DnsLookupTest : public testing::Test {
 protected:
  std::vector<Answer> LookUp(std::vector<std::string> names, milliseconds limit = milliseconds(5000)) {
    server_.Start();
    options_.config.servers = {"127.0.0.1"};
    options_.port = server_.port();
    options_.deadline = std::chrono::steady_clock::now() + limit;
    options_.mustStop = [this] { return stop_.load(); };
    options_.makeSocket = [this](int family, int type, int protocol) -> absl::StatusOr<UniqueFd> {
      ++sockets_;
      return UniqueFd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol));
    };
    return LookUpInDns(names, options_);
  }
  static Texts TextOf(const Answer& answer) {
    Texts texts;
    if (!answer.ok()) return {std::string(answer.status().message())};
    for (const SocketAddress& address : *answer) texts.push_back(address.AddressText());
    return texts;
  }

  NameServer server_;
  DnsOptions options_;
  std::atomic<bool> stop_{false};
  int sockets_ = 0;
};

TEST_F(DnsLookupTest, FindsWhatBothFamiliesHave) {
  server_.addresses = {{"b1.internal", {"10.0.0.1", "10.0.0.2", "fd00::1"}}, {"b2.internal", {"10.0.0.3"}}};
  const std::vector<Answer> answers = LookUp({"b1.internal", "b2.internal", "b3.internal"});
  EXPECT_EQ(TextOf(answers.at(0)), (Texts{"10.0.0.1", "10.0.0.2", "fd00::1"}));
  EXPECT_EQ(TextOf(answers.at(1)), Texts{"10.0.0.3"});
  EXPECT_TRUE(absl::IsNotFound(answers.at(2).status())) << answers.at(2).status();
  EXPECT_GE(sockets_, 1) << "none but those of the workload's namespace";
}

TEST_F(DnsLookupTest, AddsTheDomains) {
  server_.addresses = {{"b1.kafka.svc", {"10.0.0.1"}}, {"b1.other", {"10.0.0.9"}}};
  options_.config.domains = {"kafka.svc", "svc"};
  options_.config.dots = 5;
  EXPECT_EQ(TextOf(LookUp({"b1"}).at(0)), Texts{"10.0.0.1"});
}

// The workload may be told the other family's addresses a moment later, and they would not be guarded.
TEST_F(DnsLookupTest, FailsANameOfWhichOneFamilyIsNotTold) {
  server_.addresses = {{"b1.internal", {"10.0.0.1"}}, {"b2.internal", {"10.0.0.2"}}};
  server_.silent = {{"b1.internal", kAaaa}};
  const std::vector<Answer> answers = LookUp({"b1.internal", "b2.internal"}, milliseconds(400));
  EXPECT_TRUE(absl::IsUnavailable(answers.at(0).status())) << answers.at(0).status();
  EXPECT_EQ(TextOf(answers.at(1)), Texts{"10.0.0.2"}) << "one name costs no other";
}

// The workload's own resolver hears the same, and takes what there is.
TEST_F(DnsLookupTest, TakesOneFamilyWhereTheServerRefusesTheOther) {
  server_.addresses = {{"b1.internal", {"10.0.0.1"}}};
  server_.failing = {{"b1.internal", kAaaa}};
  EXPECT_EQ(TextOf(LookUp({"b1.internal"}).at(0)), Texts{"10.0.0.1"});
}

TEST_F(DnsLookupTest, EndsAtItsDeadlineAndWhenItMustStop) {
  server_.silent = {{"b1.internal", kA}, {"b1.internal", kAaaa}};
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(absl::IsUnavailable(LookUp({"b1.internal"}, milliseconds(300)).at(0).status()));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(4));
  stop_ = true;
  options_.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  EXPECT_TRUE(absl::IsUnavailable(LookUpInDns(Texts{"b1.internal"}, options_).at(0).status()));
}

TEST_F(DnsLookupTest, FailsWithoutASocket) {
  options_.makeSocket = nullptr;
  DnsOptions options;
  options.config.servers = {"127.0.0.1"};
  options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  options.mustStop = [] { return false; };
  options.makeSocket = [](int, int, int) -> absl::StatusOr<UniqueFd> { return absl::NotFoundError("gone"); };
  EXPECT_FALSE(LookUpInDns(Texts{"b1.internal"}, options).at(0).ok());
}

}  // namespace
}  // namespace kveil::names
