// `kveil inspect`: a header value in any spelling, by the vectors of docs/envelope.md.
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"
#include "command_fixture.h"
#include "nlohmann/json.hpp"
#include "source_dir.h"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

class InspectTest : public CommandTest {
 protected:
  static Json Vectors() {
    std::ifstream file(std::string(KVEIL_SOURCE_DIR) + "/tests/vectors/envelope-v1.json");
    return Json::parse(file).at("vectors");
  }
  static Json Inspect(const std::string& value) {
    const CommandResult result = Run({"inspect", "--json", value});
    EXPECT_EQ(result.exitStatus, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return result.exitStatus == 0 ? Json::parse(result.out) : Json::object();
  }
  // The vector "a user's record, key id masked".
  static std::string Hex() { return "110824a89b6764706b791e8c9465c66b8f0f5835371e8219495537c82adc00"; }
};

TEST_F(InspectTest, TellsWhatEachVectorHolds) {
  int seen = 0;
  for (const Json& vector : Vectors()) {
    SCOPED_TRACE(vector.at("name").get<std::string>());
    const Json& given = vector.at("given");
    const Json told = Inspect(vector.at("expected").at("header").get<std::string>());
    const int flags = given.at("flags").get<int>();
    EXPECT_EQ(told.value("version", 0), 1);
    EXPECT_EQ(told.value("suite", 0), given.at("suite").get<int>());
    EXPECT_EQ(told.value("algorithm", ""), "AES-256-GCM");
    EXPECT_EQ(told.value("period", -1), given.value("period", -1));
    EXPECT_EQ(told.value("inlineKey", false), (flags & 1) != 0);
    EXPECT_EQ(told.value("compressedValue", false), (flags & 2) != 0);
    EXPECT_EQ(told.value("fieldsOnly", false), (flags & 4) != 0);
    EXPECT_EQ(told.value("maskedKeyId", false), (flags & 8) != 0);
    EXPECT_EQ(told.value("salt", ""), given.at("salt").get<std::string>());
    EXPECT_EQ(told.value("recordIndex", -1), given.at("recordIndex").get<int>());
    if ((flags & 8) == 0) {
      EXPECT_EQ(told.value("keyId", ""), vector.at("expected").at("keyId").get<std::string>());
    }
    EXPECT_EQ(told.contains("wrappedKeyBytes"), (flags & 1) != 0);
    EXPECT_EQ(told.value("underKek", false), (flags & 16) != 0);
    EXPECT_EQ(told.value("kekKeyId", ""), vector.at("expected").value("kekKeyId", ""));
    ++seen;
  }
  EXPECT_GE(seen, 3);
}

TEST_F(InspectTest, TakesBothAlphabetsOfBase64) {
  const std::string bytes = std::string("\x11\x08") + std::string(28, '\xfb') + std::string(1, '\0');
  const std::string usual = absl::Base64Escape(bytes);
  const std::string webSafe = absl::WebSafeBase64Escape(bytes);
  ASSERT_NE(usual, webSafe);
  ASSERT_NE(usual.find('+'), std::string::npos);
  EXPECT_EQ(Inspect(usual).value("salt", ""), "fbfbfbfbfbfbfbfbfbfbfbfb");
  EXPECT_EQ(Inspect(webSafe), Inspect(usual));
}

TEST_F(InspectTest, TakesHexAndBase64InTheirUsualSpellings) {
  const Json told = Inspect(Hex());
  std::string upper = Hex();
  std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
  std::string spaced;
  for (size_t i = 0; i < Hex().size(); i += 2) spaced += Hex().substr(i, 2) + (i % 4 == 0 ? ":" : " ");
  const std::string bytes = absl::HexStringToBytes(Hex());
  for (const std::string& spelling :
       {upper, "0x" + Hex(), spaced, absl::Base64Escape(bytes), absl::WebSafeBase64Escape(bytes),
        absl::Base64Escape(absl::Base64Escape(bytes))}) {
    EXPECT_EQ(Inspect(spelling), told) << spelling;
  }
}

TEST_F(InspectTest, TellsItInWordsToo) {
  const CommandResult result = Run({"inspect", Hex()});
  EXPECT_EQ(result.exitStatus, 0);
  for (const char* part :
       {"envelope version 1, suite 1: AES-256-GCM", "a key for each batch", "5835371e8219495537c82adc",
        "record index  0", "masked", "sealed as it was", "in the registry"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
  }
  const CommandResult ofAPeriod = Run({"inspect", "12" + Hex().substr(2, 58) + "a4a300"});
  for (const char* part : {"suite 2", "a key for 4.6 hours", "period        42147"}) {
    EXPECT_NE(ofAPeriod.out.find(part), std::string::npos) << part << " in\n" << ofAPeriod.out;
  }
  const CommandResult underKek = Run({"inspect", "1118" + Hex().substr(4) + std::string(32, 'a')});
  EXPECT_NE(underKek.out.find("KEK key id    " + std::string(32, 'a')), std::string::npos) << underKek.out;
}

TEST_F(InspectTest, RefusesWhatIsNoHeaderValue) {
  ExpectFailure(Run({"inspect", "hello, world"}), 1, "hex or base64");
  ExpectFailure(Run({"inspect", ""}), 1, "hex or base64");
  ExpectFailure(Run({"inspect", "11"}), 1, "kveil inspect: ");
  ExpectFailure(Run({"inspect", Hex().substr(0, 40)}), 1, "kveil inspect: ");
  ExpectFailure(Run({"inspect", Hex() + "00"}), 1, "kveil inspect: ");
  ExpectFailure(Run({"inspect", "2" + Hex().substr(1)}), 1, "kveil inspect: ");
}

}  // namespace
}  // namespace kveil::cli
