#include "base/log_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "base/text.h"
#include "base/unique_fd.h"

namespace kveil::log {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class LineWriterTest : public testing::Test {
 protected:
  LineWriterTest() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) ADD_FAILURE() << "pipe";
    reader_.Reset(ends[0]);
    into_.Reset(ends[1]);
    ::fcntl(into_.get(), F_SETPIPE_SZ, 4096);  // less than the queue holds
  }
  LineWriter::Options Options() {
    LineWriter::Options options;
    options.fd = into_.get();
    options.queueSize = 10'000;
    options.lost = [](uint64_t lines) { return StrCat("lost ", lines, "\n"); };
    return options;
  }
  // Everything until a line is `last`.
  std::string ReadTo(const std::string& last) {
    std::string all;
    char part[4096];
    while (!all.ends_with(last)) {
      const ssize_t got = ::read(reader_.get(), part, sizeof(part));
      if (got <= 0) break;
      all.append(part, static_cast<size_t>(got));
    }
    return all;
  }

  // 100 bytes.
  static std::string Line() {
    std::string line(100, 'x');
    line.back() = '\n';
    return line;
  }

  struct Told {
    uint64_t written = 0;
    uint64_t lost = 0;
  };
  static Told WhatIsTold(const std::string& all) {
    Told told;
    std::istringstream lines(all);
    for (std::string text; std::getline(lines, text);) {
      if (text + "\n" == Line()) ++told.written;
      if (text.rfind("lost ", 0) == 0) told.lost += std::stoull(text.substr(5));
    }
    return told;
  }

  UniqueFd reader_;
  UniqueFd into_;
};

TEST_F(LineWriterTest, WritesLinesInOrder) {
  LineWriter writer(Options());
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const std::string line = StrCat("line ", i, "\n");
    writer.Write(line);
    expected += line;
  }
  EXPECT_EQ(ReadTo("line 99\n"), expected);
  EXPECT_TRUE(writer.Flush(seconds(10)));
  EXPECT_EQ(writer.lost(), 0u);
}

TEST_F(LineWriterTest, NobodyWaitsForAReaderThatHasStoppedAndWhatIsLostIsToldWhenItGoesOn) {
  LineWriter writer(Options());
  const std::string line = Line();
  constexpr uint64_t kLines = 20'000;  // 2 MB; the pipe and the queue take a small part of it
  const auto begun = std::chrono::steady_clock::now();
  for (uint64_t i = 0; i < kLines; ++i) writer.Write(line);
  EXPECT_FALSE(writer.Flush(milliseconds(50)));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
  EXPECT_GT(writer.lost(), kLines / 2);

  std::string all;
  std::thread reading([&] { all = ReadTo("the end\n"); });
  EXPECT_TRUE(writer.Flush(seconds(10)));
  writer.Write("the end\n");
  reading.join();
  const Told told = WhatIsTold(all);
  EXPECT_EQ(told.written + writer.lost(), kLines);
  EXPECT_EQ(told.lost, writer.lost());
}

TEST_F(LineWriterTest, EndsThoughNobodyReads) {
  constexpr uint64_t kLines = 2000;
  std::optional<LineWriter> writer(Options());
  for (uint64_t i = 0; i < kLines; ++i) writer->Write(Line());
  const auto begun = std::chrono::steady_clock::now();
  writer.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(5));
  // Its thread is still there, and ends when it is read from.
  std::string all;
  for (Told told; told.written + told.lost < kLines; told = WhatIsTold(all)) all += ReadTo("\n");
}

TEST_F(LineWriterTest, AsksForMoreOnceForAnyNumberOfCalls) {
  std::atomic<int> asked{0};
  LineWriter::Options options = Options();
  options.more = [&asked] { return StrCat("more ", ++asked, "\n"); };
  LineWriter writer(std::move(options));
  for (int i = 0; i < 100; ++i) writer.AskForMore();
  EXPECT_EQ(ReadTo("more 1\n"), "more 1\n");
  writer.AskForMore();
  EXPECT_EQ(ReadTo("more 2\n"), "more 2\n");
}

}  // namespace
}  // namespace kveil::log
