#include "bundle/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "evidence/signing_key.h"

namespace kveil::bundle {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kHash = std::string(64, 'a');

std::string Text(const std::string& files, const std::string& version = "7") {
  return R"({"type": "kveil policies 1", "version": )" + version + R"(, "created": "now", "files": )" + files + "}";
}
std::string Fault(const std::string& text) {
  return std::string(ParseManifest(text, "policies.manifest").status().message());
}

TEST(ManifestTest, IsReadAsItWasWritten) {
  Manifest manifest;
  manifest.version = kHighestVersion;
  manifest.created = "2026-11-29T20:04:48Z";
  manifest.files = {{"a.json", kHash}, {"users \"of\" \xC3\xBC.txt", std::string(64, '0')}};
  ASSERT_TRUE(Check(manifest).ok()) << Check(manifest);
  const absl::StatusOr<Manifest> read = ParseManifest(TextOf(manifest), "x");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->version, manifest.version);
  EXPECT_EQ(read->created, manifest.created);
  EXPECT_EQ(read->files, manifest.files);
}

TEST(ManifestTest, RefusesWhatIsNoManifest) {
  const std::string file = R"({"a.json": ")" + kHash + "\"}";
  ASSERT_EQ(Fault(Text(file)), "");
  std::string many;
  for (size_t i = 0; i <= kMostFiles; ++i) StrAppend(&many, i == 0 ? "" : ",", "\"", i, ".json\": \"", kHash, "\"");
  const std::pair<std::string, const char*> faults[] = {
      {"", "policies.manifest: "},
      {"[]", "expected an object"},
      {R"({"type": "kveil receipts 1", "version": 7, "created": "now", "files": )" + file + "}",
       "/type: expected \"kveil policies 1\""},
      {R"({"version": 7, "created": "now", "files": )" + file + "}", "type"},
      {R"({"type": "kveil policies 1", "created": "now", "files": )" + file + "}", "version"},
      {R"({"type": "kveil policies 1", "version": 7, "files": )" + file + "}", "created"},
      {R"({"type": "kveil policies 1", "version": 7, "created": "now"})", "files"},
      {Text(file, "0"), "/version: "},
      {Text(file, "-1"), "/version: "},
      {Text(file, "7.5"), "/version: "},
      {Text(file, "\"7\""), "/version: "},
      {Text(file, "9007199254740993"), "/version: "},
      {Text("{}"), "a manifest has 1 to 1024 files"},
      {Text("{" + many + "}"), "a manifest has 1 to 1024 files"},
      {Text(R"({"a.json": ")" + kHash + R"(", "a.json": ")" + kHash + "\"}"),
       "/files: the key \"a.json\" appears twice"},
      {Text(R"({"../a.json": ")" + kHash + "\"}"), "\"../a.json\" is no name of a file"},
      {Text(R"({".a.json": ")" + kHash + "\"}"), "\".a.json\" is no name of a file"},
      {Text(R"({"a.yaml": ")" + kHash + "\"}"), "\"a.yaml\" is no name of a file"},
      {Text(R"({"": ")" + kHash + "\"}"), "\"\" is no name of a file"},
      {Text(R"({"\n\u001b[1A": ")" + kHash + "\"}"), "\"\\n\\033[1A\" is no name of a file"},
      {Text("{\"" + std::string(kLongestName - 4, 'a') + ".json\": \"" + kHash + "\"}"), "of at most 251 bytes"},
      {Text(R"({"a.json": "aa"})"), "the hash of a.json is no SHA-256"},
      {Text(R"({"a.json": ")" + std::string(64, 'A') + "\"}"), "the hash of a.json is no SHA-256"},
      {Text(R"({"a.json": 1})"), "/files/a.json: expected"},
      {R"({"more": 1, )" + Text(file).substr(1), "unknown key \"more\""},
  };
  for (const auto& [text, fault] : faults) {
    EXPECT_THAT(Fault(text), HasSubstr(fault)) << text.substr(0, 200);
    EXPECT_THAT(Fault(text), StartsWith("policies.manifest: ")) << text.substr(0, 200);
  }
}

TEST(ManifestTest, FileIsTheOneThatWasSigned) {
  Manifest manifest;
  manifest.version = 7;
  manifest.files = {{"a.json", kHash}};
  EXPECT_TRUE(manifest.Lists("/p/a.json").ok());
  EXPECT_TRUE(manifest.Has("/p/a.json", kHash).ok());
  EXPECT_THAT(std::string(manifest.Lists("/p/b.json").message()), HasSubstr("/p/b.json: is not in policies.manifest"));
  EXPECT_THAT(std::string(manifest.Has("/p/b.json", kHash).message()), HasSubstr("nobody has signed it"));
  EXPECT_THAT(std::string(manifest.Has("/p/a.json", std::string(64, 'b')).message()),
              HasSubstr("/p/a.json: is not the file that was signed as version 7"));
}

// The path may be a link to a secret, whose hash would tell it to who guesses; and its name may be made to look like
// lines of the status.
TEST(ManifestTest, RefusalsShowNeitherHashesNorWhatANameDoesToATerminal) {
  Manifest manifest;
  manifest.version = 7;
  manifest.files = {{"a.json", kHash}};
  EXPECT_THAT(std::string(manifest.Has("/p/a.json", std::string(64, 'b')).message()), Not(HasSubstr("bbbb")));
  const std::string message(manifest.Lists("/p/x\n  policies  all is well\x1b[1A.json").message());
  EXPECT_THAT(message, StartsWith("/p/x\\n  policies  all is well\\033[1A.json: is not in"));
}

TEST(ManifestTest, NamesThatAreNotUtf8CannotBeSigned) {
  Manifest manifest;
  manifest.version = 7;
  manifest.files = {{"\xff.json", kHash}};
  EXPECT_THAT(std::string(Check(manifest).message()), HasSubstr("\"\\377.json\" is no name of a file"));
}

}  // namespace
}  // namespace kveil::bundle
