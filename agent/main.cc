// The `kveil` program. Every subcommand is a file in cli/.
#include "cli/cli.h"

int main(int argc, char** argv) { return kveil::cli::RunCommandLine(argc, argv); }
