// Whatever a server answers, the policies that were pulled last stay as they are until better ones are there as a
// whole.
#include "bundle/puller.h"

#include <atomic>
#include <mutex>
#include <thread>

#include "../keys/fake_http_server.h"
#include "absl/strings/escaping.h"
#include "bundle/accepted_version.h"
#include "bundle_fixture.h"
#include "nlohmann/json.hpp"

namespace kveil::bundle {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class BundleServer final : public keys::FakeHttpServer {
 public:
  explicit BundleServer(const io::TestCertificate& certificate = {}, const std::string& clientCa = "")
      : FakeHttpServer(certificate, clientCa) {
    Start();
  }
  ~BundleServer() override { Stop(); }

  void Gives(Response response) {
    const std::lock_guard lock(mutex_);
    response_ = std::move(response);
  }
  // With a tag, by which it knows what the client has.
  void Gives(const std::string& text, const std::string& etag) { Gives({.body = text, .headers = Tag(etag)}); }
  static std::string Tag(const std::string& etag) { return "eTag: " + etag + "\r\n"; }
  // What the requests had of this header.
  std::vector<std::string> Asked(const std::string& header) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> values;
    for (const Request& request : requests_) values.push_back(request.Header(header));
    return values;
  }

 private:
  Response Answer(const Request& request) override {
    const std::lock_guard lock(mutex_);
    requests_.push_back(request);
    const std::string has = request.Header("if-none-match");
    if (!has.empty() && response_.headers == Tag(has)) return {.status = 304};
    return response_;
  }

  std::mutex mutex_;
  Response response_;
  std::vector<Request> requests_;
};

class PullerTest : public BundleTest {
 protected:
  // The text of a bundle with one file.
  std::string BundleOf(int64_t version, const std::string& text, const evidence::SigningKey& key) {
    const std::string made = root_ + "/made";
    fs::remove_all(made);
    fs::create_directory(made);
    WriteTo(made + "/a.json", text);
    EXPECT_TRUE(Sign(made, Of(version, text), key).ok());
    return *Pack(made);
  }
  std::string BundleOf(int64_t version, const std::string& text = "{}") { return BundleOf(version, text, key_); }

  // The same bundle, with a signature of the same bytes.
  static std::string Respelled(const std::string& bundle) {
    nlohmann::json json = nlohmann::json::parse(bundle);
    std::string signature;
    EXPECT_TRUE(absl::Base64Unescape(json["signature"].get<std::string>(), &signature));
    json["signature"] = absl::Base64Escape(" " + signature);
    return json.dump();
  }

  Puller::Options OptionsFor(const std::string& address) {
    Puller::Options options;
    options.source.url = address + "/fleet/policies.bundle?ref=main";
    options.source.interval = milliseconds(20);
    options.source.maxSize = size_t{1} << 20;
    options.folder = pulled_;
    options.trustedKeys = trusted_;
    // As the agent does it.
    options.accepts = [this](const Manifest& manifest) {
      return AcceptedVersion(accepted_, 0).Check(manifest.version, manifest.Digest());
    };
    options.check = [this](const std::string& folder) {
      ++checked_;
      return ReadSigned(folder, trusted_).status();
    };
    options.replaced = [this] {
      ++replaced_;
      const auto manifest = ReadSigned(pulled_, trusted_);
      const absl::Status kept = AcceptedVersion(accepted_, 0).Remember(manifest->version, manifest->Digest()).status();
      isInForce_ = kept.ok();
      return kept;
    };
    options.isInForce = [this] { return isInForce_.load(); };
    options.timeout = milliseconds(60'000);
    options.firstPause = milliseconds(1);
    return options;
  }
  // 0: there is none.
  int64_t VersionPulled() {
    const auto manifest = ReadSigned(pulled_, trusted_);
    return manifest.ok() ? manifest->version : 0;
  }
  static std::string Pull(Puller& puller) { return std::string(puller.Pull().message()); }
  static bool Await(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(2));
    return done();
  }

  const std::string pulled_ = root_ + "/pulled";
  const std::string accepted_ = root_ + "/policies.accepted";
  std::atomic<int> checked_{0}, replaced_{0};
  std::atomic<bool> isInForce_{false};
};

TEST_F(PullerTest, WhatIsSignedIsInTheFolder) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  Puller puller(OptionsFor(server.address()));
  EXPECT_FALSE(puller.status().confirmed.has_value());
  ASSERT_EQ(Pull(puller), "");
  EXPECT_EQ(VersionPulled(), 7);
  EXPECT_EQ(*evidence::ReadFile(pulled_ + "/a.json"), "{}");
  EXPECT_EQ(fs::status(pulled_).permissions(), fs::perms::owner_all);
  EXPECT_TRUE(puller.status().confirmed.has_value());
  server.Gives({.body = BundleOf(8, "[]")});
  ASSERT_EQ(Pull(puller), "");
  EXPECT_EQ(VersionPulled(), 8);
  EXPECT_EQ(*evidence::ReadFile(pulled_ + "/a.json"), "[]");
  EXPECT_FALSE(fs::exists(pulled_ + ".new"));
  EXPECT_EQ(replaced_, 2);
}

// Whoever looks while the next ones are judged sees the former ones, and so does an agent that starts after a crash.
TEST_F(PullerTest, FolderIsReplacedAsAWhole) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  Puller::Options options = OptionsFor(server.address());
  std::vector<int64_t> seen;
  options.check = [&](const std::string& folder) {
    EXPECT_NE(folder, pulled_);
    EXPECT_TRUE(ReadSigned(folder, trusted_).ok());
    seen.push_back(VersionPulled());
    return absl::OkStatus();
  };
  Puller puller(std::move(options));
  ASSERT_EQ(Pull(puller), "");
  fs::create_directories(pulled_ + ".new/left by a crash");
  server.Gives({.body = BundleOf(8)});
  ASSERT_EQ(Pull(puller), "");
  EXPECT_THAT(seen, ElementsAre(0, 7));
  EXPECT_EQ(VersionPulled(), 8);
}

TEST_F(PullerTest, WhatHasNotChangedIsNotSentAgain) {
  BundleServer server;
  server.Gives(BundleOf(7), "\"seven\"");
  Puller puller(OptionsFor(server.address()));
  for (int time = 0; time < 3; ++time) ASSERT_EQ(Pull(puller), "");
  EXPECT_THAT(server.Asked("if-none-match"), ElementsAre("", "\"seven\"", "\"seven\""));
  EXPECT_EQ(replaced_, 1);
  server.Gives(BundleOf(8), "W/\"eight\"");
  for (int time = 0; time < 2; ++time) ASSERT_EQ(Pull(puller), "");
  EXPECT_EQ(VersionPulled(), 8);
  EXPECT_EQ(server.Asked("if-none-match").back(), "W/\"eight\"");
  // A damaged folder is made anew.
  WriteTo(pulled_ + "/a.json", "damaged");
  isInForce_ = false;
  ASSERT_EQ(Pull(puller), "");
  EXPECT_EQ(server.Asked("if-none-match").back(), "");
  EXPECT_EQ(*evidence::ReadFile(pulled_ + "/a.json"), "{}");
}

// After a restart, or from a server without tags.
TEST_F(PullerTest, SameBundleIsNotWrittenAgain) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  for (int start = 0; start < 2; ++start) {
    Puller puller(OptionsFor(server.address()));
    for (int time = 0; time < 2; ++time) ASSERT_EQ(Pull(puller), "");
  }
  EXPECT_EQ(replaced_, 1);
}

TEST_F(PullerTest, TagsThatAreNoneAreNotSentBack) {
  BundleServer server;
  Puller puller(OptionsFor(server.address()));
  const std::vector<std::string> tags = {"seven",
                                         "\"seven",
                                         "\"se ven\"",
                                         "\"a\"b\"",
                                         "\"",
                                         "w/\"seven\"",
                                         "",
                                         "\"" + std::string(600, 'a') + "\"",
                                         "\"\xc3\xa9\"",
                                         "\"seven\"\r\nETag: x"};
  for (const std::string& tag : tags) {
    server.Gives(BundleOf(7), tag);
    for (int time = 0; time < 2; ++time) ASSERT_EQ(Pull(puller), "") << tag;
    EXPECT_EQ(server.Asked("if-none-match").back(), "") << tag;
  }
}

// One that answers so for ever keeps an agent from new policies, which is no reason to call the old ones confirmed.
TEST_F(PullerTest, NothingHasChangedOnlyWhereThatWasAsked) {
  BundleServer server;
  server.Gives({.status = 304});
  Puller puller(OptionsFor(server.address()));
  EXPECT_THAT(Pull(puller), HasSubstr("nothing has changed, and was not asked that"));
  EXPECT_FALSE(puller.status().confirmed.has_value());
  EXPECT_EQ(puller.status().failures, 1u);
}

// Each is an answer after that with version 7, which stays where it is.
TEST_F(PullerTest, NoAnswerHarmsWhatIsThere) {
  BundleServer server;
  const std::string good = BundleOf(8);
  const auto of = [](int status, const std::string& body = "{}") {
    return keys::FakeHttpServer::Response{.status = status, .body = body};
  };
  struct Attack {
    const char* name;
    keys::FakeHttpServer::Response response;
    const char* refusal;
  };
  const Attack attacks[] = {
      {"a body that is cut", {.body = good, .sends = good.size() / 2}, "transfer closed"},
      {"half a bundle", of(200, good.substr(0, good.size() / 2)), "the response: is no bundle of policies: byte"},
      {"nothing", of(200, ""), "the response: is no bundle of policies: byte 1"},
      {"a page", of(200, "<html>please log in</html>"), "the response: is no bundle of policies: byte 1"},
      {"a huge body", of(200, std::string(3 << 20, ' ')), "its response is longer than any it should give"},
      {"huge headers", {.body = good, .headers = StrCat("X: ", std::string(80 << 10, 'x'), "\r\n")}, "longer than any"},
      {"a redirect", of(302, good), "HTTP 302, and redirects are not followed"},
      {"a permanent redirect", of(308, good), "HTTP 308, and redirects are not followed"},
      {"not found", of(404, good), "HTTP 404"},
      {"not allowed", of(403, good), "HTTP 403 (see tokenFile, certificate and key)"},
      {"an error", of(500, good), "HTTP 500"},
      {"no content", of(204, ""), "HTTP 204"},
      {"part of the content", of(206, good), "HTTP 206"},
      {"a stranger's", of(200, BundleOf(8, "{}", NewKey())),
       "is no signature of policies.manifest by any of 1 trusted"},
      {"an older one", of(200, BundleOf(6)), "are version 6, and version 7 was accepted before"},
      {"another of this version", of(200, BundleOf(7, "[]")), "version 7 of the policies was accepted before with"},
      {"a signature with a space more", of(200, Respelled(good)), "is no Ed25519 signature in base64"},
  };
  server.Gives({.body = BundleOf(7)});
  Puller puller(OptionsFor(server.address()));
  ASSERT_EQ(Pull(puller), "");
  const auto confirmed = puller.status().confirmed;
  for (const Attack& attack : attacks) {
    server.Gives(attack.response);
    const std::string refusal = Pull(puller);
    EXPECT_THAT(refusal, HasSubstr(attack.refusal)) << attack.name;
    EXPECT_THAT(refusal,
                HasSubstr(StrCat("the policies cannot be pulled from ", server.address(), "/fleet/policies.bundle: ")))
        << "without the query, in which a secret may be";
    EXPECT_THAT(refusal, Not(HasSubstr(pulled_ + ".new"))) << "where nothing is found any more";
    EXPECT_EQ(VersionPulled(), 7) << attack.name;
    EXPECT_EQ(*evidence::ReadFile(pulled_ + "/a.json"), "{}") << attack.name;
    EXPECT_EQ(puller.status().confirmed, confirmed) << attack.name;
    EXPECT_EQ(std::string(puller.status().problem.message()), refusal) << attack.name;
  }
  EXPECT_EQ(replaced_, 1);
  EXPECT_EQ(checked_, 1) << "nothing of them was written";
  server.Gives({.body = good});
  EXPECT_EQ(Pull(puller), "") << "the next good one counts";
  EXPECT_EQ(VersionPulled(), 8);
}

// What is refused once is not taken for what is there.
TEST_F(PullerTest, TagOfARefusedBundleIsNotKept) {
  BundleServer server;
  server.Gives(BundleOf(7), "\"seven\"");
  Puller puller(OptionsFor(server.address()));
  ASSERT_EQ(Pull(puller), "");
  server.Gives(BundleOf(6), "\"six\"");
  for (int time = 0; time < 2; ++time) EXPECT_THAT(Pull(puller), HasSubstr("are version 6"));
  EXPECT_THAT(server.Asked("if-none-match"), ElementsAre("", "\"seven\"", ""));
}

TEST_F(PullerTest, OnlyTheRightServerIsAsked) {
  io::TestAuthority authority, stranger("stranger");
  BundleServer server(authority.Issue("policies", "IP:127.0.0.1"));
  server.Gives({.body = BundleOf(7)});
  const auto ask = [&](const std::string& ca, const std::string& host) {
    Puller::Options options = OptionsFor(server.address(host));
    options.source.ca = ca;
    Puller puller(std::move(options));
    return Pull(puller);
  };
  EXPECT_THAT(ask(stranger.path(), "127.0.0.1"), HasSubstr("certificate"));
  EXPECT_THAT(ask("", "127.0.0.1"), HasSubstr("certificate")) << "the system does not know this authority";
  EXPECT_THAT(ask(authority.path(), "localhost"), HasSubstr("localhost")) << "the certificate is another host's";
  EXPECT_NE(ask(root_ + "/none.pem", "127.0.0.1"), "");
  EXPECT_EQ(VersionPulled(), 0);
  EXPECT_TRUE(server.Asked("accept").empty()) << "nobody else hears a token";
  EXPECT_EQ(ask(authority.path(), "127.0.0.1"), "");
  EXPECT_EQ(VersionPulled(), 7);
}

TEST_F(PullerTest, AgentShowsWhoItIs) {
  io::TestAuthority authority;
  BundleServer server(authority.Issue("policies", "IP:127.0.0.1"), authority.path());
  server.Gives({.body = BundleOf(7)});
  Puller::Options options = OptionsFor(server.address());
  options.source.ca = authority.path();
  const auto ask = [&] {
    Puller puller(options);
    return Pull(puller);
  };
  EXPECT_NE(ask(), "") << "without a certificate";
  const io::TestCertificate node = authority.Issue("node", "");
  options.source.certificate = node.certificate;
  options.source.key = node.key;
  options.source.tokenFile = root_ + "/token";
  EXPECT_THAT(ask(), HasSubstr(root_ + "/token"));
  WriteTo(root_ + "/token", "s3cret\n");
  EXPECT_EQ(ask(), "");
  EXPECT_THAT(server.Asked("authorization"), ElementsAre("Bearer s3cret"));
}

TEST_F(PullerTest, KeyInTheFolderIsNotTrusted) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  Puller::Options options = OptionsFor(server.address());
  options.trustedKeys = {pulled_ + "/key.pub"};
  Puller puller(std::move(options));
  EXPECT_THAT(Pull(puller), HasSubstr("so who can write the policies could replace it"));
}

TEST_F(PullerTest, SilentServerIsNotWaitedForLong) {
  BundleServer server;
  server.SetSilent(true);
  Puller::Options options = OptionsFor(server.address());
  options.timeout = milliseconds(50);
  Puller puller(std::move(options));
  EXPECT_THAT(Pull(puller), HasSubstr("timed out"));
}

// As when the agent is told to end before it is ready.
TEST_F(PullerTest, PullEndsWhenItMayNotGoOn) {
  BundleServer server;
  server.SetSilent(true);
  Puller puller(OptionsFor(server.address()));
  int asked = 0;
  EXPECT_THAT(std::string(puller.Pull([&asked] { return ++asked < 2; }).message()), HasSubstr("the request was ended"));
  EXPECT_EQ(asked, 2);
}

// What is there is not confirmed while it cannot take force.
TEST_F(PullerTest, WhatTakesNoForceIsNotConfirmed) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  fs::create_directories(accepted_ + ".new/in the way");
  Puller puller(OptionsFor(server.address()));
  EXPECT_THAT(Pull(puller), HasSubstr("the accepted version of the policies cannot be kept"));
  EXPECT_FALSE(puller.status().confirmed.has_value());
  fs::remove_all(accepted_ + ".new");
  EXPECT_EQ(Pull(puller), "");
  EXPECT_TRUE(puller.status().confirmed.has_value());
  EXPECT_EQ(replaced_, 2);
}

TEST_F(PullerTest, DiskThatIsFullChangesNothing) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  Puller::Options options = OptionsFor(server.address());
  options.folder = root_ + "/none/pulled";
  Puller puller(std::move(options));
  EXPECT_THAT(Pull(puller), HasSubstr("/none/pulled.new: cannot be written"));
}

// For an hour, say: what is there stays, and what has come meanwhile is there soon after.
TEST_F(PullerTest, ServerMayComeAndGo) {
  BundleServer server;
  server.Gives({.body = BundleOf(7)});
  Puller puller(OptionsFor(server.address()));
  puller.Start();
  ASSERT_TRUE(Await([&] { return puller.status().confirmed.has_value(); }));
  server.Stop();
  ASSERT_TRUE(Await([&] { return puller.status().failures >= 3; }));
  EXPECT_FALSE(puller.status().problem.ok());
  EXPECT_EQ(VersionPulled(), 7);
  server.Gives({.body = BundleOf(8)});
  server.Start();
  ASSERT_TRUE(Await([&] { return puller.status().problem.ok(); }));
  EXPECT_EQ(VersionPulled(), 8);
}

}  // namespace
}  // namespace kveil::bundle
