// `kveil keys list` and `show`: what they ask the agent, and what they make of its answer.
#include <gmock/gmock.h>

#include "admin_fixture.h"

namespace kveil::cli {
namespace {

constexpr char kFirst[] = "02000000000000000000000000000000";
constexpr char kSecond[] = "3f000000000000000000000000000000";

class KeysTest : public AdminCommandTest {
 protected:
  static Json Key(const std::string& id, bool isErased) {
    Json key = {{"id", id}, {"scope", "user"}, {"pseudonym", "ab12"}, {"epoch", 2}, {"made", "2026-11-29T06:10:05Z"}};
    if (isErased) key["erased"] = "2026-11-30T06:10:05Z";
    return key;
  }
  KeysTest() {
    Handle([this](const Json& request) {
      asked_.push_back(request);
      const bool isFirst = request.at("from").get<std::string>() <= kFirst;
      Json answer = {{"keys", {isFirst ? Key(kFirst, false) : Key(kSecond, true)}}};
      if (isFirst) answer["next"] = kSecond;
      return answer.dump();
    });
  }

  std::vector<Json> asked_;
};

TEST_F(KeysTest, AreListedALineEachPageByPage) {
  const CommandResult result = RunWith({"keys", "list"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out, StrCat(kFirst, "  user  active  epoch 2  2026-11-29T06:10:05Z\n", kSecond,
                               "  user  erased  epoch 2  2026-11-29T06:10:05Z\n"));
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(asked_[0], Json::parse(R"({"command": "listKeys", "from": "", "most": 200})"));
  EXPECT_EQ(asked_[1].at("from"), kSecond);
  EXPECT_EQ(Json::parse(RunWith({"keys", "list", "--json"}).out),
            (Json{{"keys", {Key(kFirst, false), Key(kSecond, true)}}}));
}

TEST_F(KeysTest, TellsWhereToGoOn) {
  const CommandResult result = RunWith({"keys", "list", "--most", "1"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_THAT(result.out, testing::EndsWith(StrCat("there are more: kveil keys list --from ", kSecond, "\n")));
  EXPECT_EQ(asked_.at(0).at("most"), 1);
  EXPECT_EQ(Json::parse(RunWith({"keys", "list", "--most", "1", "--json"}).out).at("next"), kSecond);
}

TEST_F(KeysTest, OneIsShown) {
  const CommandResult result = RunWith({"keys", "show", "3F000000000000000000000000000000"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  for (const char* part : {kSecond, "scope      user", "ab12", "epoch      2", "erased 2026-11-30T06:10:05Z"}) {
    EXPECT_THAT(result.out, testing::HasSubstr(part));
  }
  EXPECT_EQ(asked_.at(0).at("most"), 1);
  ExpectFailure(RunWith({"keys", "show", "3e000000000000000000000000000000"}), 1, "no such key");
  ExpectFailure(RunWith({"keys", "show", "3e"}), 1, "32 hexadecimal digits");
}

TEST_F(KeysTest, AnAnswerThatDoesNotGoOnIsAnError) {
  Handle([](const Json&) { return Json{{"keys", Json::array()}, {"next", "00"}}.dump(); });
  EXPECT_EQ(RunWith({"keys", "list"}).exitStatus, 1);
}

TEST_F(KeysTest, TheRootKeyIsRotated) {
  Handle([this](const Json& request) {
    asked_.push_back(request);
    return Json{{"rootKey", "Vault key transit/kveil"}, {"keys", 2}, {"versions", {"version 3"}}, {"isTurning", false}}
        .dump();
  });
  const CommandResult result = RunWith({"keys", "rotate", "--reason", "yearly"});
  EXPECT_EQ(result.exitStatus, 0) << result.err;
  EXPECT_EQ(result.out, "Vault key transit/kveil: 2 keys of the registry are wrapped anew; in use: version 3\n");
  EXPECT_EQ(asked_.at(0), Json::parse(R"({"command": "rotateRootKey", "reason": "yearly"})"));
  EXPECT_EQ(Json::parse(RunWith({"keys", "rotate", "--json"}).out).at("keys"), 2);
  Handle([](const Json&) {
    return Json{{"rootKey", "x"}, {"keys", 3}, {"versions", Json::array()}, {"isTurning", true}}.dump();
  });
  EXPECT_THAT(RunWith({"keys", "rotate"}).out,
              testing::AllOf(testing::HasSubstr("by which version, it does not tell"),
                             testing::HasSubstr("the epochs are turning: a backup that is made before")));
}

TEST_F(KeysTest, KeksAreRotatedPageByPageAndAFailureIsTold) {
  const std::string next(32, 'a');
  Handle([&](const Json& request) {
    asked_.push_back(request);
    const bool isFirst = request.at("after") == "";
    Json key = {{"kek", "payments/orders"}, {"window", isFirst ? 7 : 8}};
    if (isFirst) key["version"] = "version 2";
    if (!isFirst) key["error"] = "is disabled";
    Json answer = {{"keys", {key}}};
    if (isFirst) answer["next"] = next;
    return answer.dump();
  });
  const CommandResult result = RunWith({"keys", "rotate", "--kek", "payments"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_THAT(result.err, testing::HasSubstr("1 key(s) were not rotated; run it again"));
  EXPECT_EQ(result.out,
            "payments/orders  window 7  version 2\npayments/orders  window 8  version not told  NOT ROTATED: is "
            "disabled\n");
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(asked_[0], Json::parse(R"({"command": "rotateKeks", "kek": "payments", "after": ""})"));
  EXPECT_EQ(asked_[1].at("after"), next);
  EXPECT_EQ(Json::parse(RunWith({"keys", "rotate", "--kek", "payments", "--json"}).out).at("keys").size(), 2u);
  Handle([](const Json&) { return Json{{"keys", Json::array()}}.dump(); });
  EXPECT_EQ(RunWith({"keys", "rotate", "--kek", "payments/x"}).out, "the registry has no key under payments/x\n");
  Handle([](const Json&) { return Json{{"keys", Json::array()}, {"next", ""}}.dump(); });
  ExpectFailure(RunWith({"keys", "rotate", "--kek", "payments"}), 1, "not in order");
}

TEST_F(KeysTest, AnInterruptedRotationSaysWhereToGoOn) {
  const std::string first(32, '1'), second(32, '2');
  std::vector<std::string> asked;
  Handle([&](const Json& request) {
    asked.push_back(request.at("after"));
    if (asked.back() == second) return std::string(R"({"error": "the agent is ending", "code": "Unavailable"})");
    return Json{{"keys", Json::array()}, {"next", asked.back().empty() ? first : second}}.dump();
  });
  ExpectFailure(RunWith({"keys", "rotate", "--kek", "payments"}), 1,
                "the agent is ending; to go on with those that are left, add --after " + second);
  EXPECT_THAT(asked, testing::ElementsAre("", first, second));
  Handle([&](const Json& request) {
    asked.push_back(request.at("after"));
    return Json{{"keys", Json::array()}}.dump();
  });
  EXPECT_EQ(RunWith({"keys", "rotate", "--kek", "payments", "--after", second}).exitStatus, 0);
  EXPECT_EQ(asked.back(), second);
  // One that was not rotated would be left behind.
  Handle([&](const Json& request) {
    if (request.at("after") != "") return std::string(R"({"error": "the agent is ending", "code": "Unavailable"})");
    const Json key = {{"kek", "payments/orders"}, {"window", 7}, {"error", "is disabled"}};
    return Json{{"keys", {key}}, {"next", first}}.dump();
  });
  const CommandResult failed = RunWith({"keys", "rotate", "--kek", "payments"});
  EXPECT_EQ(failed.exitStatus, 1);
  EXPECT_EQ(failed.err, "kveil keys rotate: the agent is ending; 1 key(s) were not rotated; run it again\n");
  ExpectFailure(RunWith({"keys", "rotate", "--after", second}), 2, "--kek");
}

// Whoever disabled the old version then would lose what it wraps.
TEST_F(KeysTest, AKekWhoseKeysAreUnderTwoVersionsIsAFailure) {
  Handle([](const Json&) {
    return Json{{"keys",
                 {{{"kek", "payments/orders"}, {"window", 7}, {"version", "version 1"}},
                  {{"kek", "payments/orders"}, {"window", 8}, {"version", "version 2"}},
                  {{"kek", "payments/clicks"}, {"window", 8}, {"version", "version 3"}}}}}
        .dump();
  });
  const CommandResult result = RunWith({"keys", "rotate", "--kek", "payments"});
  EXPECT_EQ(result.exitStatus, 1);
  EXPECT_THAT(result.err,
              testing::HasSubstr("keys of payments/orders are under version 1 and under version 2: run it"));
}

}  // namespace
}  // namespace kveil::cli
