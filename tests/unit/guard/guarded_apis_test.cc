// The one table of guarded APIs, and the document that shows it.
#include "guard/apis/guarded_apis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/text.h"
#include "source_dir.h"

namespace kveil::guard {
namespace {

std::string Document() {
  std::ifstream file(std::filesystem::path(KVEIL_SOURCE_DIR) / "docs/kafka-compatibility.md");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(GuardedApisTest, AreInTheDocumentAsTheyAreInTheCode) {
  std::string table = "| API | key | versions | read for |\n| --- | --- | --- | --- |\n";
  for (const GuardedApi& api : GuardedApis()) {
    table += StrCat("| ", kafka::ApiName(api.key), " | ", static_cast<int16_t>(api.key), " | ", api.versions.min, "-",
                    api.versions.max, " | ", UsesText(api), " |\n");
  }
  EXPECT_THAT(Document(), testing::HasSubstr(table + "\n")) << "all of them, and no other";
}

TEST(GuardedApisTest, AreInTheOrderOfTheirKeys) {
  for (size_t i = 1; i < GuardedApis().size(); ++i) EXPECT_LT(GuardedApis()[i - 1].key, GuardedApis()[i].key);
}

TEST(GuardedApisTest, AreReadInNoVersionThatKafkaDoesNotHave) {
  for (const GuardedApi& api : GuardedApis()) {
    EXPECT_EQ(FindGuardedApi(api.key), &api) << "is there twice";
    EXPECT_LE(api.versions.max, kafka::LatestVersion(api.key)) << kafka::ApiName(api.key);
    EXPECT_EQ(NewestAllowed(api.key), api.versions.max);
  }
}

TEST(GuardedApisTest, OfWhatIsNotGuardedEveryKnownVersionIsAllowed) {
  EXPECT_EQ(NewestAllowed(kafka::ApiKey::kOffsetCommit), kafka::LatestVersion(kafka::ApiKey::kOffsetCommit));
  EXPECT_EQ(NewestAllowed(static_cast<kafka::ApiKey>(95)), -1);
}

}  // namespace
}  // namespace kveil::guard
