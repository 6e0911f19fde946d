#include "cli/cli.h"

#include <exception>
#include <iostream>

#include "base/log.h"
#include "base/text.h"
#include "cli/command_line.h"

namespace kveil::cli {
namespace {

constexpr int kWrongCommandLine = 2;

}  // namespace

int RunCommandLine(int argc, char** argv) {
  CommandLine commandLine;
  try {
    commandLine.app().parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return commandLine.app().exit(asked);
  } catch (const CLI::Error& error) {
    std::cerr << "kveil: " << commandLine.Explain(error) << " (kveil --help)" << std::endl;
    return kWrongCommandLine;
  }
  try {
    const int status = commandLine.Run();
    log::Flush();
    return status;
  } catch (const std::exception& error) {  // an answer of another shape than this version knows
    return Fail("", StrCat("unexpected: ", error.what()));
  }
}

}  // namespace kveil::cli
