#include "kubernetes/list_reader.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "base/text.h"

namespace kveil::kubernetes {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string Pod(std::string_view uid, std::string_view more = "") {
  return StrCat(R"({"metadata":{"uid":")", uid, R"(","namespace":"shop","name":"web")", more, "}}");
}

struct Read {
  std::vector<std::string> uids;
  absl::StatusOr<std::string> version;
};

// In pieces of this many bytes.
Read ReadList(std::string_view text, size_t piece) {
  Read read;
  ListReader reader([&](const PodObject& pod) { read.uids.push_back(pod.object); });
  for (size_t at = 0; at < text.size(); at += piece) {
    if (absl::Status status = reader.Take(text.substr(at, piece)); !status.ok()) {
      read.version = std::move(status);
      return read;
    }
  }
  read.version = reader.End();
  return read;
}

TEST(ListReaderTest, FindsEachPodHoweverTheBytesCome) {
  const std::string text = StrCat(
      R"({"kind":"PodList", "note":"items", "metadata":{"resourceVersion":"77","items":[1,{"uid":"no"}]}, "items" : [ )",
      Pod("u1"), ",", Pod("u2", R"(,"annotations":{"a":"}]\"}],\\","items":"[{"})"), " , 3, [], ", Pod("u3"),
      R"( ] , "z":[{}]})");
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    const Read read = ReadList(text, piece);
    EXPECT_THAT(read.uids, ElementsAre("u1", "u2", "u3")) << piece;
    ASSERT_TRUE(read.version.ok()) << read.version.status();
    EXPECT_EQ(*read.version, "77");
  }
}

TEST(ListReaderTest, LeavesOutWhatIsNoPodOrTooLong) {
  const std::string text =
      StrCat(R"({"metadata":{"resourceVersion":"7"},"items":[{},)",
             Pod("u1", StrCat(R"(,"a":")", std::string(5 << 20, 'x'), "\"")), ",", Pod("u2"), "]}");
  const Read read = ReadList(text, 16 << 10);
  EXPECT_THAT(read.uids, ElementsAre("u2"));
  EXPECT_TRUE(read.version.ok()) << read.version.status();
}

TEST(ListReaderTest, AnEmptyListIsOne) {
  const Read read = ReadList(R"({"metadata":{"resourceVersion":"7"},"items":[]})", 4);
  EXPECT_THAT(read.uids, IsEmpty());
  EXPECT_EQ(*read.version, "7");
}

TEST(ListReaderTest, RefusesWhatIsNoList) {
  const struct {
    std::string text;
    std::string message;
  } cases[] = {
      {"", "it is not JSON"},
      {"}", "it is not JSON"},
      {R"({"metadata":{"resourceVersion":"7"},"items":[{"a"}]})", "it is not JSON"},
      {R"({"metadata":{"resourceVersion":"7"},"items":[{"a":1])", "it is not JSON"},
      {StrCat(R"({"metadata":{"resourceVersion":"7"},"items":[)", Pod("u1")), "it is not JSON"},
      {StrCat(R"({"metadata":{"resourceVersion":"7"},"items":[)", Pod("u1"), "]"), "it is not JSON"},
      {R"({"metadata":{},"items":[]})", "it is no list of pods"},
      {R"({"metadata":{"resourceVersion":"7"},"items":{}})", "it is no list of pods"},
      {R"({"metadata":{"resourceVersion":"7"}})", "it is no list of pods"},
      {R"([{"items":[]}])", "it is no list of pods"},
      {StrCat(R"({"a":")", std::string(1 << 20, 'x')), "it is no list of pods"},
      {std::string(1 << 20, '['), "it is no list of pods"},
  };
  for (const auto& one : cases) {
    for (const size_t piece : {size_t{1}, size_t{100}, one.text.size() + 1}) {
      const Read read = ReadList(one.text, piece);
      EXPECT_THAT(std::string(read.version.status().message()), HasSubstr(one.message)) << one.text.substr(0, 80);
    }
  }
}

}  // namespace
}  // namespace kveil::kubernetes
