// A bundle in one file: nothing of it is believed before the signature was verified, and no name leads elsewhere.
#include "bundle/bundle_file.h"

#include <utility>

#include "absl/strings/escaping.h"
#include "bundle_fixture.h"
#include "nlohmann/json.hpp"

namespace kveil::bundle {
namespace {

using Json = nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::Not;

class BundleFileTest : public BundleTest {
 protected:
  BundleFileTest() {
    Write("a.json", "{}");
    SignAs(7);
  }
  static std::string Encoded(std::string_view bytes) { return absl::Base64Escape(ToAbsl(bytes)); }
  // What is wrong with a bundle of this text, or "".
  std::string RefusalOf(const std::string& text) {
    const auto file = ParseBundle(text, "it");
    if (!file.ok()) return std::string(file.status().message());
    return std::string(Verify(*file, absl::MakeConstSpan(&key_, 1), "it").status().message());
  }
};

TEST_F(BundleFileTest, FolderIsTheSameAgain) {
  const std::string bytes("38\n\0\xff\n", 6);  // whatever policies make of them
  Write("users.txt", bytes);
  Manifest manifest = Of(7);
  manifest.files["users.txt"] = evidence::Sha256Hex(bytes);
  ASSERT_TRUE(Sign(folder_, manifest, key_).ok());
  const auto packed = Pack(folder_);
  ASSERT_TRUE(packed.ok()) << packed.status();
  const auto file = ParseBundle(*packed, "it");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto verified = Verify(*file, absl::MakeConstSpan(&key_, 1), "it");
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->version, 7);

  const std::string other = root_ + "/other";
  std::filesystem::create_directory(other);
  ASSERT_TRUE(Unpack(*file, other).ok());
  EXPECT_EQ(*Pack(other), *packed);
  EXPECT_TRUE(ReadSigned(other, trusted_).ok());
}

TEST_F(BundleFileTest, LongestNameCanBeUnpacked) {
  const std::string name = std::string(kLongestName - 5, 'a') + ".json";
  std::filesystem::rename(folder_ + "/a.json", folder_ + "/" + name);
  Manifest manifest = Of(7);
  manifest.files = {{name, manifest.files["a.json"]}};
  ASSERT_TRUE(Sign(folder_, manifest, key_).ok());
  const auto file = ParseBundle(*Pack(folder_), "it");
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::Status unpacked = Unpack(*file, folder_);
  EXPECT_TRUE(unpacked.ok()) << unpacked;
}

TEST_F(BundleFileTest, OnlyWhatWasSignedIsPacked) {
  Write("b.json", "{}");  // is not in the manifest
  EXPECT_FALSE(Json::parse(*Pack(folder_))["files"].contains("b.json"));
  Write("a.json", "{ }");
  EXPECT_THAT(std::string(Pack(folder_).status().message()), HasSubstr("a.json: is not the file that was signed"));
  std::filesystem::remove(folder_ + "/a.json");
  EXPECT_THAT(std::string(Pack(folder_).status().message()), HasSubstr("a.json: cannot read"));
  std::filesystem::remove(folder_ + "/" + kSignatureName);
  EXPECT_THAT(std::string(Pack(folder_).status().message()), HasSubstr("policies.manifest.sig: cannot read"));
}

TEST_F(BundleFileTest, RefusesEveryAttack) {
  const Json good = Json::parse(*Pack(folder_));
  const evidence::SigningKey stranger = NewKey();
  const auto with = [&](const char* member, Json value) {
    Json changed = good;
    changed[member] = std::move(value);
    return changed.dump();
  };
  const auto files = [&](const Json& named) { return with("files", named); };
  const auto without = [&](const char* member) {
    Json changed = good;
    changed.erase(member);
    return changed.dump();
  };
  const std::string a = Encoded("{}");
  const std::string signature = Encoded(Encoded(stranger.Sign(Read(kManifestName))));
  struct Attack {
    const char* name;
    std::string text;
    const char* refusal;
  };
  const Attack attacks[] = {
      {"nothing", "", "it: is no bundle of policies: byte 1: not JSON"},
      {"half of it", good.dump().substr(0, good.dump().size() / 2), "not JSON"},
      {"more behind it", good.dump() + "{}", "not JSON"},
      {"a list", "[" + good.dump() + "]", "a list does not belong there"},
      {"a number", "7", "a number does not belong there"},
      {"an empty object", "{}", "type, manifest, signature or files is missing"},
      {"no type", without("type"), "is missing"},
      {"no manifest", without("manifest"), "is missing"},
      {"no signature", without("signature"), "is missing"},
      {"no files", without("files"), "is missing"},
      {"empty files", files(Json::object()), "is missing"},
      {"another type", with("type", "kveil policy bundle 2"), "\"type\": this string does not belong there"},
      {"another member", with("mode", "x"), "\"mode\": this string does not belong there"},
      {"another object", with("mode", Json::object()), "\"mode\": an object does not belong there"},
      {"objects in files", files({{"a.json", Json::object()}}), "\"a.json\": an object does not belong there"},
      {"a list in files", files({{"a.json", Json::array()}}), "a list does not belong there"},
      {"null for a file", files({{"a.json", nullptr}}), "null does not belong there"},
      {"a file that is no base64", files({{"a.json", "{}"}}), "no base64"},
      {"an empty file", files({{"a.json", ""}}), "no base64 of bytes"},
      {"a second manifest", R"({"manifest": "YQ==", )" + good.dump().substr(1), "does not belong there"},
      {"a file twice", R"({"files": {"a.json": "YQ==", "a.json": "YQ=="}})", "the file a second time"},
      {"files twice", R"({"files": {"a.json": "YQ=="}, "files": {"b.json": "YQ=="}})", "an object does not belong"},
      {"a long name", files({{std::string(256, 'a'), a}}), "a name that long does not belong there"},
      {"a name that forges lines", with("a\nb", "x"), "\"a\\nb\": this string does not belong there"},
      {"a stranger's signature", with("signature", signature), "is no signature of policies.manifest by any of 1"},
      {"another manifest", with("manifest", Encoded(TextOf(Of(8)))), "is no signature of policies.manifest"},
      {"another file's bytes", files({{"a.json", Encoded("{ }")}}), "a.json is no file that was signed as version 7"},
      {"a file more", files({{"a.json", a}, {"b.json", a}}), "b.json is no file that was signed as version 7"},
      {"a file less, and another", files({{"b.json", a}}), "b.json is no file that was signed"},
      // Each has a name that ends as one of the manifest does.
      {"a file above", files({{"../a.json", a}}), "../a.json is no file that was signed"},
      {"a file elsewhere", files({{"/etc/a.json", a}}), "/etc/a.json is no file that was signed"},
      {"a file below", files({{"x/a.json", a}}), "x/a.json is no file that was signed"},
  };
  ASSERT_EQ(RefusalOf(good.dump()), "");
  for (const Attack& attack : attacks) {
    const std::string refusal = RefusalOf(attack.text);
    EXPECT_THAT(refusal, HasSubstr(attack.refusal)) << attack.name;
    EXPECT_THAT(refusal, Not(HasSubstr("\n"))) << attack.name;
  }
}

TEST_F(BundleFileTest, FileThatIsMissingIsNamed) {
  Manifest manifest = Of(7);
  manifest.files["b.json"] = evidence::Sha256Hex("{}");
  ASSERT_TRUE(Sign(folder_, manifest, key_).ok());
  Write("b.json", "{}");
  Json json = Json::parse(*Pack(folder_));
  json["files"].erase("b.json");
  EXPECT_EQ(RefusalOf(json.dump()), "it: b.json is in its manifest, and not there");
}

// Before any of them is decoded for a second time or written.
TEST_F(BundleFileTest, FilesHaveABound) {
  Json json = Json::parse(*Pack(folder_));
  for (size_t i = 0; i < kMostFiles; ++i) json["files"][StrCat(i, ".json")] = "YQ==";
  EXPECT_THAT(RefusalOf(json.dump()), HasSubstr("so many files does not belong there"));
}

}  // namespace
}  // namespace kveil::bundle
