// What is kept of libbpf's and the verifier's words.
#include "intercept/kernel/load_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdarg>
#include <string>

namespace kveil::intercept {
namespace {

using testing::HasSubstr;
using testing::Not;

// As libbpf prints.
void Print(libbpf_print_level level, const char* format, ...) {
  const libbpf_print_fn_t print = libbpf_set_print(nullptr);
  libbpf_set_print(print);
  va_list arguments;
  va_start(arguments, format);
  print(level, format, arguments);
  va_end(arguments);
}

TEST(LoadLogTest, EndOfALongVerifierLogIsKept) {
  std::string verifier;
  for (int i = 0; i < 20000; ++i) verifier += std::to_string(i) + ": (bf) r1 = r10\n";
  verifier += "R1 invalid mem access 'scalar'\nprocessed 20000 insns (limit 1000000) max_states_per_insn 0\n";
  const LoadLog log;
  Print(LIBBPF_WARN, "libbpf: prog '%s': BPF program load failed: %s\n", "connect4", "Permission denied");
  Print(LIBBPF_WARN, "libbpf: prog '%s': -- BEGIN PROG LOAD LOG --\n%s-- END PROG LOAD LOG --\n", "connect4",
        verifier.c_str());
  Print(LIBBPF_WARN, "libbpf: failed to load program '%s'\n", "connect4");
  EXPECT_THAT(log.LastLines(), HasSubstr("19999: (bf) r1 = r10\n  R1 invalid mem access 'scalar'\n  libbpf: failed to "
                                         "load program 'connect4'"));
  EXPECT_THAT(log.LastLines(), Not(HasSubstr("processed 20000")));
  EXPECT_THAT(log.LastLines(), Not(HasSubstr("\n  100: ")));
}

TEST(LoadLogTest, ShortOneIsWhole) {
  const LoadLog log;
  Print(LIBBPF_WARN, "libbpf: Error in %s\n", "bpf_object__probe_loading");
  EXPECT_EQ(log.LastLines(), "libbpf: Error in bpf_object__probe_loading");
}

TEST(LoadLogTest, TalkThatIsNoWarningIsLeftOut) {
  const LoadLog log;
  Print(LIBBPF_INFO, "libbpf: loading %s\n", "x");
  Print(LIBBPF_DEBUG, "libbpf: sec %s\n", "y");
  EXPECT_EQ(log.LastLines(), "");
}

TEST(LoadLogTest, EachBeginsEmpty) {
  {
    const LoadLog log;
    Print(LIBBPF_WARN, "libbpf: %s\n", "earlier");
  }
  EXPECT_EQ(LoadLog().LastLines(), "");
}

}  // namespace
}  // namespace kveil::intercept
