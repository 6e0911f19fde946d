// Reading the signed lines of a trail that grows: each once, none that was not signed, and what is not there any more.
#include "audit/trail_cursor.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "audit/lines.h"
#include "audit/trail.h"
#include "audit/trail_files.h"
#include "audit/trail_reader.h"
#include "base/text.h"
#include "evidence/small_file.h"
#include "trail_folder.h"

namespace kveil::audit {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class TrailCursorTest : public TrailFolder {
 protected:
  TrailCursor Cursor(TrailCursor::Place after = {}) { return {folder_, *ReadPublicKey(folder_, ""), std::move(after)}; }
  static TrailCursor::Piece Next(TrailCursor& cursor, size_t bytes = 1 << 20) {
    absl::StatusOr<TrailCursor::Piece> piece = cursor.Next(bytes);
    EXPECT_TRUE(piece.ok()) << piece.status();
    return piece.ok() ? *std::move(piece) : TrailCursor::Piece();
  }
  static std::vector<uint64_t> Numbers(const TrailCursor::Piece& piece) {
    std::vector<uint64_t> numbers;
    for (const std::string& line : piece.lines) numbers.push_back(ChainPlaceOf(line).value_or(ChainPlace()).seq);
    return numbers;
  }
  std::string File(size_t i) const { return folder_ + "/" + FilesOf(folder_)->at(i); }
};

TEST_F(TrailCursorTest, GivesEachSignedLineOnceAndTheHeadThatSignsThem) {
  TrailCursor cursor = Cursor();
  TrailCursor::Piece piece = Next(cursor);
  EXPECT_THAT(piece.lines, IsEmpty());
  EXPECT_TRUE(piece.head.has_value());  // that there is no line is signed, too
  Append(2);
  Append(1, absl::Hours(24));  // to another file
  Append(1, absl::Hours(24));
  piece = Next(cursor);
  EXPECT_THAT(Numbers(piece), ElementsAre(1, 2, 3, 4));
  EXPECT_FALSE(piece.missing.has_value());
  EXPECT_EQ(piece.head, *evidence::ReadFile(folder_ + "/head"));
  EXPECT_EQ(piece.end.hash, trail_->head().hash);
  EXPECT_TRUE(Next(cursor).isEmpty());
  Append(0, absl::Minutes(1));  // signs that there was nothing
  piece = Next(cursor);
  EXPECT_THAT(piece.lines, IsEmpty());
  EXPECT_EQ(piece.head, *evidence::ReadFile(folder_ + "/head"));
  Append(1);
  EXPECT_THAT(Numbers(Next(cursor)), ElementsAre(5));
}

TEST_F(TrailCursorTest, APieceHasALineAtLeastAndTheHeadComesWithTheLastOne) {
  Append(2);
  Append(1, absl::Hours(24));
  TrailCursor cursor = Cursor();
  for (uint64_t number = 1; number <= 3; ++number) {
    const TrailCursor::Piece piece = Next(cursor, 1);
    EXPECT_THAT(Numbers(piece), ElementsAre(number));
    EXPECT_EQ(piece.head.has_value(), number == 3);
    EXPECT_EQ(cursor.behind(), 3 - number);
  }
}

TEST_F(TrailCursorTest, GoesOnBehindTheLineThatItIsTold) {
  Append(2);
  Append(2, absl::Hours(24));
  Append(2, absl::Hours(24));
  for (const size_t bytes : {size_t{1}, size_t{200}, size_t{500}}) {
    std::vector<uint64_t> all;
    for (TrailCursor::Place place;;) {
      TrailCursor cursor = Cursor(place);
      const TrailCursor::Piece piece = Next(cursor, bytes);
      if (piece.lines.empty()) break;
      for (const uint64_t number : Numbers(piece)) all.push_back(number);
      place = piece.end;
    }
    EXPECT_THAT(all, ElementsAre(1, 2, 3, 4, 5, 6)) << bytes;
  }
}

TEST_F(TrailCursorTest, ALineOfAnotherTrailOrOneThatIsNotThereBeginsAnew) {
  Append(2);
  Append(2, absl::Hours(24));
  for (const TrailCursor::Place& place :
       {TrailCursor::Place{3, std::string(64, '0')}, TrailCursor::Place{9, trail_->head().hash}}) {
    TrailCursor cursor = Cursor(place);
    const TrailCursor::Piece piece = Next(cursor);
    EXPECT_THAT(Numbers(piece), ElementsAre(1, 2, 3, 4)) << place.seq;
    EXPECT_FALSE(piece.missing.has_value());
  }
}

TEST_F(TrailCursorTest, SaysWhichLinesWereRemovedBeforeItCame) {
  Append(1);
  TrailCursor cursor = Cursor();
  const TrailCursor::Place first = Next(cursor).end;
  ASSERT_EQ(first.seq, 1u);
  Append(3, absl::Hours(24));
  Open({.bytes = 1});
  Append(1, absl::Hours(24));  // removes what is before the last file
  Append(1, absl::Hours(24));
  TrailCursor later = Cursor(first);
  const TrailCursor::Piece piece = Next(later);
  ASSERT_TRUE(piece.missing.has_value());
  EXPECT_EQ(piece.missing->first, 2u);
  EXPECT_EQ(piece.missing->last, 4u);
  EXPECT_EQ(Numbers(piece).front(), trail_->head().first);
  EXPECT_EQ(piece.end.seq, trail_->head().last);
}

TEST_F(TrailCursorTest, SaysWhichLinesSomebodyHasTakenOutOnceItComesToTheirPlace) {
  Append(5);
  Append(1, absl::Hours(24));
  std::string text = *evidence::ReadFile(File(0));
  const size_t second = text.find('\n') + 1, fourth = text.find('\n', text.find('\n', second) + 1) + 1;
  text.erase(second, fourth - second);
  ASSERT_TRUE(evidence::WriteFile(File(0), text, 0600).ok());
  TrailCursor cursor = Cursor();
  TrailCursor::Piece piece = Next(cursor);
  EXPECT_THAT(Numbers(piece), ElementsAre(1));
  EXPECT_FALSE(piece.missing.has_value());
  piece = Next(cursor);
  ASSERT_TRUE(piece.missing.has_value());
  EXPECT_EQ(piece.missing->first, 2u);
  EXPECT_EQ(piece.missing->last, 3u);
  EXPECT_THAT(Numbers(piece), ElementsAre(4, 5, 6));
}

TEST_F(TrailCursorTest, GivesNothingThatWasNotSigned) {
  Append(2);
  const auto add = [this](size_t file, const std::string& text) {
    std::ofstream(File(file), std::ios::app | std::ios::binary) << text;
  };
  const std::string forged = StrCat("{\"seq\":3,\"previous\":\"", trail_->head().hash, "\",\"kind\":\"forged\"}\n");
  add(0, forged);
  TrailCursor cursor = Cursor();
  EXPECT_THAT(Numbers(Next(cursor)), ElementsAre(1, 2));
  Append(1);  // the agent notes it, in a new file
  const TrailCursor::Piece piece = Next(cursor);
  EXPECT_THAT(Numbers(piece), ElementsAre(3, 4));
  EXPECT_THAT(piece.lines.front(), HasSubstr("unsigned"));
}

TEST_F(TrailCursorTest, AHeadThatWasChangedIsAnError) {
  Append(1);
  std::string head = *evidence::ReadFile(folder_ + "/head");
  head[head.find("\"last\":1") + 7] = '2';
  ASSERT_TRUE(evidence::WriteFile(folder_ + "/head", head, 0600).ok());
  TrailCursor cursor = Cursor();
  EXPECT_EQ(cursor.Next(1).status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace kveil::audit
