// The commands' requests and responses as JSON: what is read, what is refused, and what another version may leave out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "admin/erase_command.h"
#include "admin/status_command.h"

namespace kveil::admin {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

template <typename T>
std::string ErrorOf(const std::string& json, FieldRules rules) {
  return std::string(FromJson<T>(Json::parse(json), rules).status().message());
}

TEST(CommandsTest, EraseRequest) {
  const auto error = [](const std::string& json) { return ErrorOf<EraseCommand::Request>(json, FieldRules::kRequest); };
  EXPECT_EQ(error(R"({"user": "38"})"), "");
  EXPECT_EQ(error(R"({"user": "38", "keyspace": "people"})"), "");
  EXPECT_EQ(error("{}"), "\"user\" is missing");
  EXPECT_EQ(error(R"({"user": 38})"), "\"user\" is not a string");
  EXPECT_EQ(error(R"({"user": null})"), "\"user\" is not a string");
  EXPECT_EQ(error(R"({"user": "38", "keyspace": ["people"]})"), "\"keyspace\" is not a string");
  EXPECT_EQ(error(R"({"user": "38", "keyspace": null})"), "\"keyspace\" is not a string");
  EXPECT_EQ(error(R"({"user": "38", "keyspaces": "people"})"), "there is no field \"keyspaces\"")
      << "it would erase in all of them";
  EXPECT_EQ(ToJson(EraseCommand::Request{"38", {}, {}, {}}), Json::parse(R"({"user": "38"})"));
  EXPECT_EQ(error(R"({"user": "38", "waitSeconds": -1})"), "\"waitSeconds\" is not a whole number of 0 or more");
}

TEST(CommandsTest, ResponseOfAnotherVersionIsUnderstood) {
  const auto status = FromJson<StatusCommand::Response>(
      Json::parse(R"({"ready": true, "policies": {"files": 2, "new": 1}, "new": {}})"), FieldRules::kResponse);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_TRUE(status->ready);
  EXPECT_EQ(status->policies.files, 2u);
  EXPECT_EQ(status->version, "?");
  const auto error = [](const std::string& json) {
    return ErrorOf<StatusCommand::Response>(json, FieldRules::kResponse);
  };
  EXPECT_EQ(error(R"({"ready": 1})"), "\"ready\" is not true or false");
  EXPECT_EQ(error(R"({"policies": {"files": -2}})"), "\"files\" is not a whole number of 0 or more in \"policies\"");
  EXPECT_EQ(error(R"({"policies": []})"), "\"policies\" is not an object");
  EXPECT_EQ(error(R"({"problems": {}})"), "\"problems\" is not an array");
  EXPECT_EQ(error(R"({"problems": [{}, 7]})"), "an element of \"problems\" is not an object");
}

TEST(CommandsTest, StatusSurvivesTheJourney) {
  StatusCommand::Response sent;
  sent.ready = true;
  sent.version = "1.2";
  sent.uptimeSeconds = 5;
  sent.heldConnects.ended = 3;
  sent.problems = {{"keys", "locked"}};
  sent.unselected = {{{"clicks", "a.service"}}, true};
  sent.records.refused = 9;
  const Json json = ToJson(sent);
  const auto received = FromJson<StatusCommand::Response>(json, FieldRules::kResponse);
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(ToJson(*received), json);
  EXPECT_EQ(json["problems"], Json::parse(R"([{"name": "keys", "message": "locked"}])"));
  EXPECT_EQ(json["unselected"],
            Json::parse(R"({"topics": [{"topic": "clicks", "workload": "a.service"}], "more": true})"));
}

// A workload chooses the name of its cgroup, and a client that of a topic.
TEST(CommandsTest, NameThatIsNotUtf8DoesNotKeepTheRestFromBeingSaid) {
  const AnyCommand command = WithoutTypes<StatusCommand>(
      [](const StatusCommand::Request&, const Caller&) -> absl::StatusOr<StatusCommand::Response> {
        StatusCommand::Response response;
        response.notes = {{"namespaces", "\xff is not served"}};
        return response;
      });
  absl::StatusOr<AnyCommand::Work> work = command.read(Json::object());
  ASSERT_TRUE(work.ok()) << work.status();
  const absl::StatusOr<std::string> answer = (*work)({});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(*answer, HasSubstr("is not served"));
  EXPECT_TRUE(Json::accept(*answer));
}

}  // namespace
}  // namespace kveil::admin
