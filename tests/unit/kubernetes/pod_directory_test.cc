#include "kubernetes/pod_directory.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>

#include "fake_api_server.h"

namespace kveil::kubernetes {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::IsEmpty;

class PodDirectoryTest : public testing::Test {
 protected:
  PodDirectoryTest() { WriteToken("token-1"); }
  ~PodDirectoryTest() override {
    EXPECT_THAT(server_.complaints(), IsEmpty());
    unlink(tokenFile().c_str());
  }
  std::string tokenFile() const { return StrCat(testing::TempDir(), "kveil-pods-token-", getpid()); }
  void WriteToken(const std::string& token) { std::ofstream(tokenFile()) << token << "\n"; }
  std::unique_ptr<PodDirectory> Open(seconds watchTime = seconds(120), size_t mostPods = 100, size_t mostMirrors = 64) {
    PodDirectory::Options options;
    options.apiServer = {.address = server_.address(), .ca = "", .tokenFile = tokenFile()};
    options.node = "node1";
    options.watchTime = watchTime;
    options.requestTimeout = seconds(2);
    options.firstPause = milliseconds(5);
    options.longestPause = milliseconds(20);
    options.mostPods = mostPods;
    options.mostMirrors = mostMirrors;
    return std::make_unique<PodDirectory>(std::move(options));
  }
  template <typename Condition>
  static bool Becomes(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < end) usleep(1'000);
    return condition();
  }

  FakeApiServer server_;
};

TEST_F(PodDirectoryTest, KnowsThePodsThatAreThereAtTheStart) {
  server_.Put(PodJson("u1", "shop", "web-1", "web", {{"b", "2"}, {"a", "1"}}));
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return directory->Health().ok(); }));
  const auto pod = directory->Find("u1");
  ASSERT_NE(pod, nullptr);
  EXPECT_EQ(*pod, (identity::Pod{"u1", "shop", "web-1", "web", {{"a", "1"}, {"b", "2"}}}));
  EXPECT_EQ(directory->Find("u2"), nullptr);
  EXPECT_EQ(directory->Find(""), nullptr);
}

TEST_F(PodDirectoryTest, FollowsWhatComesChangesAndGoes) {
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.Put(PodJson("u1", "shop", "web-1", "web"));
  ASSERT_TRUE(Becomes([&] { return directory->Find("u1") != nullptr; }));
  const auto before = directory->Find("u1");
  server_.Put(PodJson("u1", "shop", "web-1", "web", {{"app", "x"}}));
  ASSERT_TRUE(Becomes([&] { return directory->Find("u1")->labels.size() == 1; }));
  EXPECT_THAT(before->labels, IsEmpty()) << "whoever holds it sees no change";
  server_.Remove("u1");
  EXPECT_TRUE(Becomes([&] { return directory->Find("u1") == nullptr; }));
  EXPECT_EQ(server_.watches(), 1);
  EXPECT_EQ(server_.lists(), 1);
}

TEST_F(PodDirectoryTest, ListsAnewWhenAWatchEnds) {
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.PutSilently(PodJson("u1", "shop", "web-1", "web"));
  server_.EndWatches();
  EXPECT_TRUE(Becomes([&] { return directory->Find("u1") != nullptr; }));
  EXPECT_TRUE(directory->Health().ok());
}

TEST_F(PodDirectoryTest, ListsAnewWhenTheWatchesPlaceIsTooOld) {
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.PutSilently(PodJson("u1", "shop", "web-1", "web"));
  server_.Say(R"({"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old resource version"}})");
  EXPECT_TRUE(Becomes([&] { return directory->Find("u1") != nullptr; }));
}

// A server behind a load balancer may lag.
TEST_F(PodDirectoryTest, DoesNotListWhatIsOlderThanWhatItHasSeen) {
  const auto directory = Open();
  EXPECT_FALSE(directory->isFilled());
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  EXPECT_TRUE(directory->isFilled());
  EXPECT_EQ(server_.lastListQuery(), "&resourceVersion=0&resourceVersionMatch=NotOlderThan");
  nlohmann::json pod = PodJson("u1", "shop", "web-1", "web");
  pod["metadata"]["resourceVersion"] = "77";
  server_.Put(pod);
  ASSERT_TRUE(Becomes([&] { return directory->Find("u1") != nullptr; }));
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return server_.lists() == 2; }));
  EXPECT_EQ(server_.lastListQuery(), "&resourceVersion=77&resourceVersionMatch=NotOlderThan");
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 2; })) << "or there is none to be ended";
  // Where that cannot be had, the newest that there is.
  server_.AnswerLists(504, R"({"message":"Too large resource version"})");
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return server_.lists() >= 4; }));
  EXPECT_EQ(server_.lastListQuery(), "");
  EXPECT_TRUE(directory->isFilled()) << "it stays so";
}

TEST_F(PodDirectoryTest, KeepsWhatItKnowsWhileTheServerIsGone) {
  server_.Put(PodJson("u1", "shop", "web-1", "web"));
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.Stop();
  ASSERT_TRUE(Becomes([&] { return !directory->Health().ok(); }));
  EXPECT_THAT(std::string(directory->Health().message()), HasSubstr("the Kubernetes API server http://127.0.0.1:"));
  EXPECT_NE(directory->Find("u1"), nullptr);
  server_.PutSilently(PodJson("u2", "shop", "web-2", "web"));
  server_.Start();
  EXPECT_TRUE(Becomes([&] { return directory->Find("u2") != nullptr; }));
  EXPECT_TRUE(Becomes([&] { return directory->Health().ok(); }));
}

TEST_F(PodDirectoryTest, ReadsItsTokenAnewForEachRequest) {
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.AllowToken("token-2");
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return !directory->Health().ok(); }));
  EXPECT_THAT(std::string(directory->Health().message()), HasSubstr("HTTP 401: Unauthorized (the token is refused)"));
  EXPECT_THAT(std::string(directory->Health().message()), testing::Not(HasSubstr("token-1")));
  WriteToken("token-2");
  EXPECT_TRUE(Becomes([&] { return directory->Health().ok(); }));
}

TEST_F(PodDirectoryTest, SaysWhyItKnowsNoPods) {
  const struct {
    int status;
    std::string body;
    std::string message;
  } cases[] = {
      {403, R"({"kind":"Status","message":"pods is forbidden"})", "HTTP 403: pods is forbidden"},
      {500, "", "HTTP 500"},
      {503, "<html>", "HTTP 503"},
      {200, "<html>", "makes no sense: it is not JSON"},
      {200, "{}", "makes no sense: it is no list of pods"},
      {200, R"({"metadata":{"resourceVersion":""},"items":[]})", "makes no sense: it is no list of pods"},
  };
  server_.AnswerLists(500);
  const auto directory = Open();
  for (const auto& one : cases) {
    server_.AnswerLists(one.status, one.body);
    EXPECT_TRUE(Becomes([&] {
      return testing::Value(std::string(directory->Health().message()), HasSubstr(one.message));
    })) << one.message
        << ", found " << directory->Health();
  }
  unlink(tokenFile().c_str());
  EXPECT_TRUE(Becomes([&] {
    return testing::Value(std::string(directory->Health().message()), HasSubstr("cannot be opened"));
  })) << directory->Health();
}

TEST_F(PodDirectoryTest, AnEventThatMakesNoSenseEndsTheWatchAndPodsAreListed) {
  for (const std::string& line :
       {std::string("{"), std::string("[]"), std::string(R"({"type":"ADDED"})"),
        std::string(R"({"type":"X","object":{}})"),
        std::string(R"({"type":"ERROR","object":{"code":500,"message":"etcd is gone"}})"), std::string(5 << 20, ' ')}) {
    const int watches = server_.watches();
    const auto directory = Open();
    ASSERT_TRUE(Becomes([&] { return server_.watches() > watches; }));
    const int lists = server_.lists();
    server_.Say(line);
    EXPECT_TRUE(Becomes([&] { return server_.lists() > lists; })) << line.substr(0, 80);
  }
}

TEST_F(PodDirectoryTest, AnEventThatIsTooLongIsNotTaken) {
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  nlohmann::json pod = PodJson("u1", "shop", "web-1", "web");
  pod["metadata"]["annotations"]["a"] = std::string(5 << 20, 'x');
  const int lists = server_.lists();
  server_.Say(nlohmann::json{{"type", "ADDED"}, {"object", pod}}.dump());
  EXPECT_TRUE(Becomes([&] { return server_.lists() > lists; }));
  EXPECT_EQ(directory->Find("u1"), nullptr);
}

TEST_F(PodDirectoryTest, APodThatCannotBeReadIsNotKnown) {
  nlohmann::json tooManyLabels = PodJson("u1", "shop", "a", "web");
  for (int i = 0; i < 70; ++i) tooManyLabels["metadata"]["labels"][StrCat("label", i)] = std::string(1'000, 'x');
  nlohmann::json noText = PodJson("u2", "shop", "b", "web", {{"app", 3}});
  nlohmann::json noName = PodJson("u3", "shop", "", "web");
  nlohmann::json noAccount = PodJson("u4", "shop", "d", "");
  for (const auto& pod : {tooManyLabels, noText, noName, noAccount, PodJson("u5", "shop", "e", "web")})
    server_.Put(pod);
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return directory->Find("u5") != nullptr; }));
  EXPECT_EQ(directory->Find("u1"), nullptr);
  EXPECT_EQ(directory->Find("u2"), nullptr);
  EXPECT_EQ(directory->Find("u3"), nullptr);
  EXPECT_EQ(directory->Find("u4")->serviceAccount, "");
  // What was known and becomes unreadable is not known any more.
  ASSERT_TRUE(Becomes([&] { return server_.watches() > 0; }));
  server_.Put(PodJson("u5", "shop", "e", "web", {{"app", 3}}));
  EXPECT_TRUE(Becomes([&] { return directory->Find("u5") == nullptr; }));
}

TEST_F(PodDirectoryTest, HasABound) {
  for (int i = 0; i < 5; ++i) server_.Put(PodJson(StrCat("u", i), "shop", StrCat("web-", i), "web"));
  const auto directory = Open(seconds(120), /*mostPods=*/5);
  ASSERT_TRUE(Becomes([&] { return directory->Health().ok() && server_.watches() == 1; }));
  server_.Put(PodJson("u9", "shop", "web-9", "web"));
  ASSERT_TRUE(Becomes([&] { return !directory->Health().ok(); }));
  EXPECT_THAT(std::string(directory->Health().message()), HasSubstr("more than 5 pods"));
  EXPECT_EQ(directory->size(), 5u);
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 2; }));
  EXPECT_FALSE(directory->Health().ok()) << "the list has too many as well";
  EXPECT_EQ(directory->size(), 5u);
}

// Their cgroups are named after the hash of their files.
TEST_F(PodDirectoryTest, KnowsStaticPodsByTheirMirrors) {
  server_.Put(MirrorJson("u-1", "0123abcd", "proxy-node1", {{"app", "proxy"}}));
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return directory->Find("0123abcd") != nullptr; }));
  EXPECT_EQ(*directory->Find("0123abcd"),
            (identity::Pod{"0123abcd", "default", "proxy-node1", "", {{"app", "proxy"}}}));
  EXPECT_EQ(directory->Find("u-1"), nullptr) << "no cgroup has that name";
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.Put(MirrorJson("u-1", "0123abcd", "proxy-node1", {{"app", "other"}}));
  EXPECT_TRUE(Becomes([&] { return directory->Find("0123abcd")->labels.at(0).second == "other"; }));
  server_.Put(MirrorJson("u-2", "4567abcd", "later-node1"));
  EXPECT_TRUE(Becomes([&] { return directory->Find("4567abcd") != nullptr; }));
  server_.Remove("u-1");
  EXPECT_TRUE(Becomes([&] { return directory->Find("0123abcd") == nullptr; }));
  EXPECT_NE(directory->Find("4567abcd"), nullptr);
}

// Whoever may create pods may write the annotations of a mirror.
TEST_F(PodDirectoryTest, AMirrorTakesNoOtherPodsPlace) {
  const std::string victim = "5f0c3a2e-0000-0000-0000-000000000001";
  server_.Put(PodJson(victim, "shop", "web-1", "web"));
  server_.Put(MirrorJson("u-1", "0123abcd", "proxy-node1"));
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  server_.Put(MirrorJson("u-2", victim, "impostor"));
  const std::string unknown = "5f0c3a2e-0000-0000-0000-000000000002";
  server_.Put(MirrorJson("u-4", unknown, "impostor-3"));
  server_.Put(MirrorJson("u-3", "0123abcd", "impostor-2"));
  ASSERT_TRUE(Becomes([&] { return directory->size() == 3; })) << "what stands for no static pod is not kept";
  EXPECT_EQ(directory->Find(unknown), nullptr) << "the pod itself is not known yet";
  EXPECT_EQ(directory->Find(victim)->name, "web-1");
  EXPECT_EQ(directory->Find("0123abcd"), nullptr) << "one of two, and nobody knows which";
  server_.Remove("u-3");
  EXPECT_TRUE(Becomes([&] { return directory->Find("0123abcd") != nullptr; }));
  server_.Put(MirrorJson("u-3", "0123abcd", "impostor-2"));
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 2; }));
  EXPECT_EQ(directory->Find("0123abcd"), nullptr) << "a list says the same";
}

// The kubelet deletes a false mirror, which stays all the same if it has a finalizer.
TEST_F(PodDirectoryTest, AMirrorThatIsBeingDeletedStandsForNothing) {
  nlohmann::json isDeleted = MirrorJson("u-2", "0123abcd", "impostor");
  server_.Put(MirrorJson("u-1", "0123abcd", "proxy-node1"));
  server_.Put(isDeleted);
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  EXPECT_EQ(directory->Find("0123abcd"), nullptr) << "one of two, and nobody knows which";
  isDeleted["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  isDeleted["metadata"]["finalizers"] = {"example.com/never"};
  server_.Put(isDeleted);
  ASSERT_TRUE(Becomes([&] { return directory->Find("0123abcd") != nullptr; }));
  EXPECT_EQ(directory->Find("0123abcd")->name, "proxy-node1");
  server_.EndWatches();
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 2; }));
  ASSERT_NE(directory->Find("0123abcd"), nullptr) << "a list says the same";
  // An ordinary pod is who it is until its last process has ended.
  nlohmann::json pod = PodJson("u1", "shop", "web-1", "web");
  pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z";
  server_.Put(pod);
  EXPECT_TRUE(Becomes([&] { return directory->Find("u1") != nullptr; }));
}

TEST_F(PodDirectoryTest, MirrorsTakeNoPodsPlace) {
  const auto directory = Open(seconds(120), /*mostPods=*/2, /*mostMirrors=*/3);
  ASSERT_TRUE(Becomes([&] { return server_.watches() == 1; }));
  for (int i = 0; i < 5; ++i) server_.Put(MirrorJson(StrCat("m-", i), StrCat("hash", i), StrCat("false-", i)));
  // They name no static pod, and the kubelet never starts them.
  for (int i = 0; i < 5; ++i) server_.Put(MirrorJson(StrCat("n-", i), StrCat("no-hash-", i), StrCat("other-", i)));
  server_.Put(PodJson("u1", "shop", "web-1", "web"));
  server_.Put(PodJson("u2", "shop", "web-2", "web"));
  for (int pass = 1; pass <= 2; ++pass) {
    ASSERT_TRUE(Becomes([&] { return directory->Find("u2") != nullptr; })) << pass;
    EXPECT_NE(directory->Find("u1"), nullptr);
    EXPECT_EQ(directory->size(), 2u + 3u);
    EXPECT_THAT(std::string(directory->Health().message()), HasSubstr("more than 3 mirrors"));
    if (pass == 2) break;
    server_.EndWatches();
    ASSERT_TRUE(Becomes([&] { return server_.watches() == 2; }));
  }
  for (int i = 0; i < 5; ++i) server_.Remove(StrCat("m-", i));
  server_.EndWatches();
  EXPECT_TRUE(Becomes([&] { return directory->Health().ok(); }));
}

// Whoever may create pods may make them that large.
TEST_F(PodDirectoryTest, ReadsAListOfAnyLength) {
  std::string list = R"({"metadata":{"resourceVersion":"0"},"items":[)";
  const std::string large = StrCat(R"(,"annotations":{"a":")", std::string(1 << 20, 'x'), R"("}}})");
  for (int i = 0; i < 70; ++i) {
    StrAppend(&list, i == 0 ? "" : ",", R"({"metadata":{"uid":"u)", i, R"(","namespace":"shop","name":"web")", large);
  }
  server_.AnswerLists(200, list + "]}");
  const auto directory = Open();
  ASSERT_TRUE(Becomes([&] { return directory->isFilled(); })) << directory->Health();
  EXPECT_EQ(directory->size(), 70u);
}

}  // namespace
}  // namespace kveil::kubernetes
