// The `kveil` program. Every subcommand is a file in cli/.
#include <limits.h>
#include <unistd.h>

#include <cstdlib>

#include "cli/cli.h"

namespace {

// The loader looks a library's function up at its first call, and saves the CPU's vector registers on the stack
// meanwhile. A key that was copied is still in them, and nobody would wipe it there. The loader reads this variable
// only at a program's start, so the program starts once more. If it cannot, it goes on as it is.
void BindFunctionsAtStart(char** argv) {
  const char* const value = ::getenv("LD_BIND_NOW");
  if (value != nullptr && *value != '\0') return;
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof(path) - 1);
  if (size <= 0) return;
  path[size] = '\0';
  ::setenv("LD_BIND_NOW", "1", 1);
  ::execv(path, argv);
}

}  // namespace

int main(int argc, char** argv) {
  BindFunctionsAtStart(argv);
  return kveil::cli::RunCommandLine(argc, argv);
}
