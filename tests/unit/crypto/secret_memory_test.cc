// What the kernel is told of pages with keys.
#include "crypto/secret_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>

#include "base/bytes.h"

namespace kveil::crypto {
namespace {

using testing::HasSubstr;

// The flags of the mapping that begins at the address, as proc_pid_smaps(5) has them: two letters and a space each.
std::string FlagsOf(const void* address) {
  std::ostringstream beginning;
  beginning << std::hex << reinterpret_cast<uintptr_t>(address) << '-';
  std::ifstream mappings("/proc/self/smaps");
  std::string line;
  for (bool isFound = false; std::getline(mappings, line);) {
    isFound = isFound || line.starts_with(beginning.str());
    if (isFound && line.starts_with("VmFlags:")) return line + " ";
  }
  return "no such mapping";
}

TEST(SecretMemoryTest, IsInNoCoreDumpInNoChildAndOnNoSwapDevice) {
  // Two of its own kind side by side would be one mapping.
  const SecretMemory memory(1 << 12);
  const std::string flags = FlagsOf(memory.data());
  EXPECT_THAT(flags, HasSubstr(" dd ")) << "MADV_DONTDUMP";
  EXPECT_THAT(flags, HasSubstr(" dc ")) << "MADV_DONTFORK";
  EXPECT_THAT(flags, HasSubstr(" lo ")) << "mlock2; RLIMIT_MEMLOCK has room for a page nearly everywhere";
}

TEST(SecretMemoryTest, BeginsWithZerosAndTakesWhatIsWritten) {
  const SecretMemory memory(1 << 16);
  const MutableBytes bytes(memory.data(), memory.size());
  ASSERT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; }));
  bytes.front() = bytes.back() = 7;
  EXPECT_EQ(bytes.front() + bytes.back(), 14);
}

}  // namespace
}  // namespace kveil::crypto
