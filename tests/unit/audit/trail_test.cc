// The trail: that nothing can be changed, taken out, put in or cut off unseen, and what is made of crashes.
#include "audit/trail.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "audit/trail_files.h"
#include "audit/trail_reader.h"
#include "base/text.h"
#include "evidence/small_file.h"

namespace kveil::audit {
namespace {

using evidence::ReadFile;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class TrailTest : public testing::Test {
 protected:
  TrailTest() {
    char path[] = "/tmp/kveil-audit-XXXXXX";
    parent_ = mkdtemp(path);
    folder_ = parent_ + "/audit";
    Open();
  }
  ~TrailTest() override { std::filesystem::remove_all(parent_); }

  void Open(const Trail::Limits& limits = {}) {
    trail_.reset();
    absl::StatusOr<std::unique_ptr<Trail>> opened = Trail::Open(folder_, limits);
    ASSERT_TRUE(opened.ok()) << opened.status();
    trail_ = *std::move(opened);
  }
  static std::string Object(int i) { return StrCat("{\"kind\":\"test\",\"i\":", i, "}"); }
  void Append(int from, int to) {
    for (int i = from; i < to; ++i) {
      const std::string object = Object(i);
      const absl::Status appended = trail_->Append({&object, 1}, Moment());
      ASSERT_TRUE(appended.ok()) << appended;
    }
  }
  // Time passes as the clock says.
  Trail::Moment Moment() {
    const absl::Time before = std::exchange(appendedAt_, now_);
    return {.now = now_, .elapsed = now_ - before};
  }
  Verification Verify() {
    lines_.clear();
    absl::StatusOr<Verification> found =
        ReadTrail(folder_, *ReadPublicKey(folder_, ""), [this](const std::string& line) { lines_.push_back(line); });
    EXPECT_TRUE(found.ok()) << found.status();
    return found.value_or(Verification());
  }
  std::string PathOf(const std::string& file) const { return folder_ + "/" + file; }
  std::string File(size_t i = 0) const { return PathOf(FilesOf(folder_)->at(i)); }
  void Write(const std::string& path, const std::string& text) const {
    ASSERT_TRUE(evidence::WriteFile(path, text, 0600).ok());
  }
  void AddTo(const std::string& path, const std::string& text) const {
    std::ofstream(path, std::ios::app | std::ios::binary) << text;
  }
  static std::vector<std::string> LinesOf(const std::string& text) {
    std::vector<std::string> lines;
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      lines.push_back(text.substr(at, end - at + 1));
      at = end + 1;
    }
    return lines;
  }
  static std::string Joined(const std::vector<std::string>& lines) {
    std::string text;
    for (const std::string& line : lines) text += line;
    return text;
  }

  std::string parent_;
  std::string folder_;
  std::unique_ptr<Trail> trail_;
  std::vector<std::string> lines_;
  absl::Time now_ = absl::FromUnixSeconds(1'800'000'000);
  absl::Time appendedAt_ = now_;
};

TEST_F(TrailTest, IsInOrderAsItWasWritten) {
  Append(0, 5);
  const Verification found = Verify();
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_EQ(found.first, 1u);
  EXPECT_EQ(found.last, 5u);
  EXPECT_EQ(found.hash, evidence::Sha256Hex(lines_.back()));
  ASSERT_THAT(lines_, SizeIs(5));
  EXPECT_THAT(lines_[2], HasSubstr("\"i\":2}"));
  EXPECT_EQ(found.time, "2027-01-15T08:00:00+00:00");
}

TEST_F(TrailTest, AnEmptyOneIsInOrder) {
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_TRUE(absl::IsNotFound(ReadTrail(parent_, *ReadPublicKey(folder_, ""), [](const std::string&) {}).status()));
}

TEST_F(TrailTest, GoesOnAfterARestart) {
  Append(0, 3);
  Open();
  Append(3, 5);
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_THAT(lines_, SizeIs(5));
  EXPECT_THAT(*FilesOf(folder_), SizeIs(1));
}

TEST_F(TrailTest, FindsAChangedLine) {
  Append(0, 5);
  std::string text = *ReadFile(File());
  text.replace(text.find("\"i\":2"), 5, "\"i\":7");
  Write(File(), text);
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("line 3 is not the one that line 4 was written behind")));
}

TEST_F(TrailTest, FindsAChangedLastLine) {
  Append(0, 5);
  std::string text = *ReadFile(File());
  text.replace(text.find("\"i\":4"), 5, "\"i\":7");
  Write(File(), text);
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("line 5 is not the one that was signed")));
}

TEST_F(TrailTest, FindsWhatWasTakenOutPutInOrSwapped) {
  Append(0, 6);
  const std::vector<std::string> lines = LinesOf(*ReadFile(File()));
  std::vector<std::string> without = lines;
  without.erase(without.begin() + 2);
  Write(File(), Joined(without));
  EXPECT_THAT(Verify().faults, Contains(HasSubstr("line 4 follows line 2")));
  std::vector<std::string> twice = lines;
  twice.insert(twice.begin() + 2, lines[1]);
  Write(File(), Joined(twice));
  EXPECT_THAT(Verify().faults, Contains(HasSubstr("line 2 follows line 2")));
  std::vector<std::string> swapped = lines;
  std::swap(swapped[1], swapped[2]);
  Write(File(), Joined(swapped));
  EXPECT_THAT(Verify().faults, Not(IsEmpty()));
  Write(File(), Joined(lines));
  EXPECT_THAT(Verify().faults, IsEmpty());
}

TEST_F(TrailTest, FindsWhatWasCutOff) {
  Append(0, 5);
  std::vector<std::string> lines = LinesOf(*ReadFile(File()));
  lines.pop_back();
  Write(File(), Joined(lines));
  EXPECT_THAT(Verify().faults, ElementsAre("line 5 was signed, and line 4 is the last that is there"));
}

TEST_F(TrailTest, FindsAWholeFileThatIsMissing) {
  Append(0, 3);
  now_ += absl::Hours(24);
  Append(3, 5);
  now_ += absl::Hours(24);
  Append(5, 8);
  ASSERT_THAT(*FilesOf(folder_), SizeIs(3));
  EXPECT_THAT(Verify().faults, IsEmpty());
  std::filesystem::rename(File(1), parent_ + "/kept");
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("line 6 follows line 3")));
  std::filesystem::remove(File(1));
  EXPECT_THAT(Verify().faults, ElementsAre("line 8 was signed, and line 3 is the last that is there"));
  std::filesystem::remove(File(0));
  EXPECT_THAT(Verify().faults, SizeIs(1));
}

// Where the head's own file is gone, nothing says where the signed part of another one ends.
TEST_F(TrailTest, FindsWhatWasAddedBehindTheLastSignedLineInAnotherFile) {
  Append(0, 2);
  now_ += absl::Hours(24);
  Append(2, 3);
  const std::string last = *ReadFile(File(1));
  std::filesystem::remove(File(1));
  AddTo(File(0), last);
  EXPECT_THAT(Verify().faults, IsEmpty());
  AddTo(File(0), StrCat("{\"seq\":4,\"previous\":\"", trail_->head().hash, "\",\"kind\":\"forged\"}\n"));
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("there is more than line 3")));
  EXPECT_THAT(lines_, SizeIs(3));
}

TEST_F(TrailTest, FindsAnOldHeadAForgedOneAndNone) {
  Append(0, 3);
  const std::string old = *ReadFile(PathOf("head"));
  Append(3, 5);
  const std::string head = *ReadFile(PathOf("head"));
  Write(PathOf("head"), old);
  EXPECT_THAT(Verify().faults, ElementsAre("there is more than line 3, which is the last that was signed"));
  std::string forged = head;
  forged.replace(forged.find("\"last\":5"), 8, "\"last\":4");
  Write(PathOf("head"), forged);
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("head: is not what was written there")));
  trail_.reset();
  EXPECT_TRUE(absl::IsFailedPrecondition(Trail::Open(folder_, {}).status()));
  std::filesystem::remove(PathOf("head"));
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("the head is missing")));
  EXPECT_TRUE(absl::IsFailedPrecondition(Trail::Open(folder_, {}).status())) << "it must not begin anew";
  Write(PathOf("head"), head);
  std::filesystem::remove(PathOf("key.pem"));
  EXPECT_TRUE(absl::IsFailedPrecondition(Trail::Open(folder_, {}).status())) << "nor with another key";
}

TEST_F(TrailTest, ATornLineIsNamedAtTheStartAndStaysWhereItIs) {
  Append(0, 3);
  trail_.reset();
  const std::string torn = "{\"seq\":4,\"previous\":\"ab";
  AddTo(File(), torn);
  EXPECT_THAT(Verify().faults, SizeIs(1)) << "the agent has not looked at it yet";
  Open();
  Append(3, 4);
  const Verification found = Verify();
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_THAT(found.notes, ElementsAre(HasSubstr("23 bytes at its end were never signed")));
  EXPECT_THAT(*ReadFile(File(0)), HasSubstr(torn));
  ASSERT_THAT(lines_, SizeIs(5));
  EXPECT_THAT(lines_[3], HasSubstr("\"kind\":\"unsigned\""));
  std::string text = *ReadFile(File(0));
  Write(File(0), text.substr(0, text.size() - torn.size() - 1));
  EXPECT_THAT(Verify().faults, Not(IsEmpty())) << "but what was signed in that file counts as before";
}

TEST_F(TrailTest, WhatSomebodyElseWritesWhileItIsOpenIsNamed) {
  Append(0, 3);
  AddTo(File(), LinesOf(*ReadFile(File())).back());
  Append(3, 5);
  EXPECT_THAT(trail_->damage(), HasSubstr("somebody else"));
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_THAT(Verify().notes, SizeIs(1));
  EXPECT_THAT(lines_, SizeIs(6));
}

TEST_F(TrailTest, AFileThatIsRemovedWhileItIsOpenIsMissed) {
  Append(0, 3);
  std::filesystem::remove(File());
  Append(3, 5);
  EXPECT_THAT(trail_->damage(), HasSubstr("removed or replaced"));
  EXPECT_THAT(Verify().faults, Not(IsEmpty()));
  EXPECT_THAT(lines_, Contains(HasSubstr("\"kind\":\"damaged\"")));
}

TEST_F(TrailTest, AFileOfWhichNothingWasSignedIsSetAside) {
  Append(0, 3);
  trail_.reset();
  Write(PathOf("000000000004.2027-01-16.jsonl"), "{\"seq\":4}\n");
  Open();
  now_ += absl::Hours(24);
  Append(3, 4);
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_THAT(lines_, Contains(HasSubstr("\"setAside\"")));
  EXPECT_TRUE(std::filesystem::exists(PathOf("000000000004.2027-01-16.jsonl.1.unsigned")));
}

TEST_F(TrailTest, AChangedEndIsSaidAtTheStart) {
  Append(0, 3);
  trail_.reset();
  std::string text = *ReadFile(File());
  text.replace(text.find("\"i\":2"), 5, "\"i\":7");
  Write(File(), text);
  Open();
  EXPECT_THAT(trail_->damage(), HasSubstr("its last line is not the one that was signed"));
  Append(3, 4);
  EXPECT_THAT(Verify().faults, Not(IsEmpty()));
}

TEST_F(TrailTest, KeepsWithinItsSizeAndSaysWhereItBegins) {
  Open({.bytes = 4000, .keep = absl::Hours(24 * 90), .fileBytes = 500});
  Append(0, 100);
  const Verification found = Verify();
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_GT(found.first, 1u);
  EXPECT_EQ(trail_->removedEarly(), now_);
  EXPECT_THAT(lines_, Contains(HasSubstr("\"kind\":\"removed\"")));
  size_t bytes = 0;
  const std::vector<std::string> files = *FilesOf(folder_);
  for (const std::string& file : files) bytes += std::filesystem::file_size(PathOf(file));
  EXPECT_LE(bytes, 4000u + 500u);
  std::filesystem::remove(File());
  EXPECT_THAT(Verify().faults, Not(IsEmpty())) << "the oldest of those that are kept";
}

// As in a copy of the trail's topic.
TEST_F(TrailTest, LinesThatTheAgentHasRemovedSinceMayBeThereIfTheyAreInOrder) {
  Append(0, 3);
  std::string all = *ReadFile(File(0));
  Open({.bytes = 1});
  for (int i = 3; i < 5; ++i) {
    now_ += absl::Hours(24);
    Append(i, i + 1);
    all += *ReadFile(File(FilesOf(folder_)->size() - 1));
  }
  ASSERT_EQ(trail_->head().first, 4u);
  const std::vector<std::string> files = *FilesOf(folder_);
  for (const std::string& file : files) std::filesystem::remove(PathOf(file));
  const std::string copy = PathOf("000000000001.1970-01-01.jsonl");
  Write(copy, all);
  Verification found = Verify();
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_EQ(found.first, 1u);
  EXPECT_EQ(found.last, trail_->head().last);
  const size_t changed = all.find("\"i\":1");
  all.replace(changed, 5, "\"i\":7");
  Write(copy, all);
  EXPECT_THAT(Verify().faults, ElementsAre(HasSubstr("line 2 is not the one that line 3 was written behind")));
}

TEST_F(TrailTest, KeepsADayForAsLongAsItIsToBeKept) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  for (int day = 0; day < 6; ++day) {
    Append(day, day + 1);
    now_ += absl::Hours(24);
  }
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_EQ(trail_->removedEarly(), absl::InfinitePast());
  EXPECT_THAT(*FilesOf(folder_), SizeIs(4)) << "today, two days, and the one that ends within them";
}

TEST_F(TrailTest, AClockThatIsWrongRemovesNothing) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  for (int day = 0; day < 3; ++day) {
    Append(day, day + 1);
    now_ += absl::Hours(24);
  }
  const absl::Time right = now_;
  for (int minute = 0; minute < 60; ++minute) {
    const std::string object = Object(0);
    const absl::Time wrong = right + absl::Hours(24 * 365) + absl::Minutes(minute);
    ASSERT_TRUE(trail_->Append({&object, 1}, {.now = wrong, .elapsed = absl::Minutes(1)}).ok());
  }
  EXPECT_EQ(Verify().first, 1u);
  Append(4, 5);  // the clock is right again
  now_ += absl::Hours(24 * 6);
  Append(5, 6);
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_THAT(*FilesOf(folder_), SizeIs(1)) << "the wrong day of a file keeps none of those before it";
}

TEST_F(TrailTest, AgeCatchesUpAfterALongRest) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  Append(0, 1);
  now_ += absl::Hours(24 * 10);
  for (int hour = 0; hour < 10; ++hour) {
    const std::string object = Object(0);
    ASSERT_TRUE(trail_->Append({&object, 1}, {.now = now_ += absl::Hours(1), .elapsed = absl::Hours(1)}).ok());
    if (hour == 0) {
      EXPECT_EQ(Verify().first, 1u);
    }
  }
  EXPECT_GT(Verify().first, 1u);
}

TEST_F(TrailTest, NeverSignsAwayWhatSomebodyElseHasRemoved) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  for (int day = 0; day < 3; ++day) {
    Append(day, day + 1);
    now_ += absl::Hours(24);
  }
  std::filesystem::rename(File(1), parent_ + "/kept");
  for (int day = 3; day < 9; ++day) {
    Append(day, day + 1);
    now_ += absl::Hours(24);
  }
  EXPECT_THAT(trail_->damage(), HasSubstr("no line is removed for its age"));
  EXPECT_THAT(Verify().faults, Contains(HasSubstr("line 3 follows line 1")));
}

TEST_F(TrailTest, NeverSignsAwayTheFirstFileThatSomebodyElseHasRemoved) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  Append(0, 1);
  now_ += absl::Hours(24);
  Append(1, 2);
  std::filesystem::remove(File(0));
  for (int day = 3; day < 9; ++day) {
    now_ += absl::Hours(24);
    Append(day, day + 1);
  }
  EXPECT_THAT(trail_->damage(), HasSubstr("lines before"));
  EXPECT_THAT(Verify().faults, Not(IsEmpty()));
}

TEST_F(TrailTest, ADamagedOneKeepsWithinItsSizeToo) {
  Open({.bytes = 4000, .keep = absl::Hours(24 * 90), .fileBytes = 500});
  Append(0, 20);
  std::filesystem::remove(File(1));
  Append(20, 120);
  EXPECT_THAT(trail_->damage(), HasSubstr("missing"));
  size_t bytes = 0;
  const std::vector<std::string> files = *FilesOf(folder_);
  for (const std::string& file : files) bytes += std::filesystem::file_size(PathOf(file));
  EXPECT_LE(bytes, 4000u + 500u);
}

TEST_F(TrailTest, TheLastFileOfAQuietNodeGrowsOldToo) {
  Open({.bytes = size_t{1} << 20, .keep = absl::Hours(48), .fileBytes = 1000});
  Append(0, 3);
  now_ += absl::Hours(24 * 5);
  ASSERT_TRUE(trail_->Append({}, Moment()).ok());
  const Verification found = Verify();
  EXPECT_THAT(found.faults, IsEmpty());
  EXPECT_EQ(found.first, 4u);
  ASSERT_THAT(lines_, SizeIs(1));
  EXPECT_THAT(lines_[0], HasSubstr("\"last\":3"));
  Open();
  Append(3, 4);
  EXPECT_THAT(Verify().faults, IsEmpty());
}

TEST_F(TrailTest, ARemovalForWantOfRoomIsRememberedAcrossARestart) {
  Open({.bytes = 4000, .keep = absl::Hours(24 * 90), .fileBytes = 500});
  Append(0, 100);
  Open();
  EXPECT_EQ(trail_->removedEarly(), now_);
}

TEST_F(TrailTest, WhatIsStillToComeIsNotSignedAsAll) {
  Append(0, 1);
  const std::string before = Verify().time;
  now_ += absl::Minutes(5);
  const std::string object = Object(1);
  ASSERT_TRUE(trail_->Append({&object, 1}, {.now = now_, .elapsed = absl::Minutes(5), .isAll = false}).ok());
  EXPECT_EQ(Verify().time, before);
}

TEST_F(TrailTest, SaysUntilWhenThereWasNothing) {
  Append(0, 1);
  now_ += absl::Minutes(5);
  ASSERT_TRUE(trail_->Append({}, Moment()).ok());
  EXPECT_EQ(Verify().time, "2027-01-15T08:05:00+00:00");
  EXPECT_THAT(lines_, SizeIs(1));
}

TEST_F(TrailTest, OneWriterAtATime) {
  const absl::Status second = Trail::Open(folder_, {}).status();
  EXPECT_TRUE(absl::IsUnavailable(second)) << second;
  EXPECT_THAT(std::string(second.message()), HasSubstr("is held by process"));
}

TEST_F(TrailTest, WhatCannotBeWrittenIsAddedLaterAndOnce) {
  Append(0, 2);
  // The head cannot be written where a folder is in its way.
  ASSERT_TRUE(std::filesystem::create_directory(PathOf("head.new")));
  AddTo(PathOf("head.new/x"), "x");
  const std::string object = Object(2);
  EXPECT_TRUE(absl::IsUnavailable(trail_->Append({&object, 1}, Moment())));
  std::filesystem::remove_all(PathOf("head.new"));
  EXPECT_THAT(Verify().faults, IsEmpty());
  Append(2, 3);
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_THAT(lines_, SizeIs(3));
}

TEST_F(TrailTest, FilesThatWereSetAsideCountAndGoBeforeAnyLineThatWasSigned) {
  Append(0, 3);
  trail_.reset();
  Write(PathOf("000000000004.2027-01-15.jsonl"), std::string(30'000, 'x'));
  Write(PathOf("000000000005.2027-01-15.jsonl"), std::string(30'000, 'x'));
  Open({.bytes = 40'000});
  EXPECT_THAT(*SetAsideIn(folder_), SizeIs(2));
  Append(3, 4);
  EXPECT_THAT(*SetAsideIn(folder_), ElementsAre("000000000005.2027-01-15.jsonl.1.unsigned"));
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_EQ(trail_->head().first, 1u);
  EXPECT_EQ(trail_->removedEarly(), absl::InfinitePast());
  EXPECT_THAT(lines_, Contains(HasSubstr("\"removed\",\"file\":\"000000000004.2027-01-15.jsonl.1.unsigned\"")));
}

TEST_F(TrailTest, AFileThatWasSetAsideGrowsOldToo) {
  Append(0, 3);
  trail_.reset();
  Write(PathOf("000000000004.2026-01-15.jsonl"), "x");
  Open();
  EXPECT_THAT(*SetAsideIn(folder_), SizeIs(1));
  Append(3, 4);
  EXPECT_THAT(*SetAsideIn(folder_), IsEmpty());
  EXPECT_THAT(Verify().faults, IsEmpty());
  EXPECT_EQ(trail_->head().first, 1u);
}

}  // namespace
}  // namespace kveil::audit
