// The web page: what it is made of, who gets it, and that it is off where it is off.
#include "observe/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <mutex>
#include <set>
#include <vector>

#include "absl/strings/match.h"
#include "base/text.h"
#include "base/unique_fd.h"
#include "observe/metrics.h"

namespace kveil::observe {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class PageTest : public ::testing::Test {
 protected:
  std::string Get(const std::string& path, const std::string& host = "127.0.0.1:9464") {
    const SocketAddress address = *SocketAddress::Parse("127.0.0.1", endpoint_->port());
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(socket.get(), address.get(), address.size()) != 0) return "cannot connect";
    const std::string request = StrCat("GET ", path, " HTTP/1.1\r\nAccept: */*\r\nhOst:  ", host, "\r\n\r\n");
    EXPECT_EQ(::send(socket.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    std::string answer;
    char chunk[4096];
    for (ssize_t count; (count = ::recv(socket.get(), chunk, sizeof chunk, 0)) > 0;) answer.append(chunk, count);
    return answer;
  }
  void Listen(MetricsEndpoint::Page page) {
    auto endpoint = MetricsEndpoint::Listen(*SocketAddress::Parse("127.0.0.1", 0), metrics_,
                                            {[] { return true; }, [] { return true; }}, std::move(page));
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    endpoint_ = *std::move(endpoint);
  }

  Metrics metrics_{"x"};
  std::unique_ptr<MetricsEndpoint> endpoint_;
};

TEST_F(PageTest, IsServedWithItsFiles) {
  Listen({.isOn = true});
  for (const auto& [path, type, part] : {std::tuple{"/", "text/html", "<script src=\"page.js\" defer></script>"},
                                         std::tuple{"/page.js", "text/javascript", "\"use strict\";"},
                                         std::tuple{"/page.css", "text/css", "color-scheme: light dark"}}) {
    const std::string answer = Get(path);
    EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200 OK\r\n")) << path;
    EXPECT_THAT(answer, HasSubstr(StrCat("Content-Type: ", type, "; charset=utf-8\r\n"))) << path;
    EXPECT_THAT(answer, HasSubstr(part)) << path;
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Security-Policy: default-src 'none'; script-src 'self'; "
                                  "style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                  "frame-ancestors 'none'\r\n"
                                  "X-Content-Type-Options: nosniff\r\n"
                                  "Referrer-Policy: no-referrer\r\n"
                                  "Cross-Origin-Resource-Policy: same-origin\r\n"
                                  "Cache-Control: no-store\r\n"))
        << path;
  }
  EXPECT_THAT(Get("/?x"), HasSubstr("200 OK"));
  EXPECT_THAT(Get("/page"), HasSubstr("404"));
  EXPECT_THAT(Get("/connections.json"), HasSubstr("404")) << "nobody lists them";
}

// The policy that goes with it lets a browser run nothing else.
TEST_F(PageTest, HasNothingInlineAndNothingFromElsewhere) {
  for (const char* path : {"/", "/page.js", "/page.css"}) {
    const PageFile* const file = FindPageFile(path);
    ASSERT_NE(file, nullptr);
    const std::string body(file->body);
    for (const char* part :
         {"style=", " onclick", " onload", "javascript:", "//cdn", "https:", "innerHTML", "outerHTML",
          "insertAdjacentHTML", "document.write", "eval(", "<style", "@import", "url("}) {
      EXPECT_THAT(body, Not(HasSubstr(part))) << path;
    }
  }
}

TEST_F(PageTest, NamesOnlyMetricsThatThereAre) {
  metrics_.PolicyInForce("ab12", 7);
  const std::string text = metrics_.Text(), script(FindPageFile("/page.js")->body);
  size_t found = 0;
  for (size_t at = script.find("kveil_"); at != std::string::npos; at = script.find("kveil_", at + 1), ++found) {
    size_t end = script.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at);
    const bool hasLabels = script[end] == '{';
    if (hasLabels) end = script.find('}', end) + 1;
    const std::string name = script.substr(at, end - at);
    EXPECT_TRUE(absl::StrContains(text, StrCat("\n", name, " ")) ||
                (!hasLabels && absl::StrContains(text, StrCat("\n", name, "{"))))
        << name;
  }
  EXPECT_GT(found, 12u);
}

TEST_F(PageTest, CanBeOff) {
  Listen({});
  for (const char* path : {"/", "/page.js", "/page.css", "/connections.json"}) {
    EXPECT_THAT(Get(path), HasSubstr("404")) << path;
  }
  EXPECT_THAT(Get("/metrics"), HasSubstr("200 OK"));
}

// A page of somebody else's, under a name that leads here, would read it in the browser of whoever may.
TEST_F(PageTest, IsNotForOtherNames) {
  int asked = 0;
  Listen({.isOn = true, .connections = [&](const std::function<void(std::string_view)>& reply) {
            ++asked;
            reply("{}");
          }});
  for (const char* host : {"evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example", "",
                           "[::1", "[evil]:1", "1.2.3", "::1"}) {
    EXPECT_THAT(Get("/", host), HasSubstr("403 Forbidden")) << host;
    EXPECT_THAT(Get("/connections.json", host), HasSubstr("403 Forbidden")) << host;
  }
  EXPECT_EQ(asked, 0);
  for (const char* host : {"127.0.0.1", "10.0.0.7:9464", "localhost:1", "LocalHost", "[::1]:9464", "[fd00::1]"}) {
    EXPECT_THAT(Get("/", host), HasSubstr("200 OK")) << host;
  }
  EXPECT_THAT(Get("/metrics", "node1.example:9464"), HasSubstr("200 OK")) << "as Prometheus may call it";
  EXPECT_FALSE(MayHavePage("GET / HTTP/1.0"));
}

TEST_F(PageTest, ConnectionsComeLater) {
  std::mutex mutex;
  std::function<void(std::string_view)> reply;
  Listen({.isOn = true, .connections = [&](std::function<void(std::string_view)> one) {
            const std::lock_guard lock(mutex);
            reply = std::move(one);
          }});
  std::string answer;
  std::thread client([&] { answer = Get("/connections.json"); });
  const auto isAsked = [&] {
    const std::lock_guard lock(mutex);
    return static_cast<bool>(reply);
  };
  while (!isAsked()) std::this_thread::yield();
  EXPECT_THAT(Get("/metrics"), HasSubstr("200 OK")) << "nobody waits for whom is waited for";
  reply(R"({"total": 7})");
  client.join();
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\n{\"total\": 7}"));
  EXPECT_THAT(answer, HasSubstr("nosniff"));
}

TEST_F(PageTest, TooManyAreTold) {
  Listen({.isOn = true, .connections = [](const std::function<void(std::string_view)>& reply) { reply(""); }});
  EXPECT_THAT(Get("/connections.json"), HasSubstr("503 Service Unavailable"));
}

}  // namespace
}  // namespace kveil::observe
