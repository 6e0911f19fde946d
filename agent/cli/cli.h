// The command line of `kveil`: parses it and runs one subcommand.
#pragma once

namespace kveil::cli {

// Returns the program's exit status: 0, or 1 after one clear line on stderr (2 when the command line itself is wrong).
int RunCommandLine(int argc, char** argv);

}  // namespace kveil::cli
