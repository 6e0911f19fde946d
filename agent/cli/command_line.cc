// What all commands have, and the commands that look after the agent itself.
#include "cli/command_line.h"

#include <limits>

#include "admin/connections_command.h"
#include "base/text.h"
#include "cli/agent_command.h"
#include "formats/user_id.h"

namespace kveil::cli {

// CLI11 says first what is missing, though the cause may be a misspelled subcommand or option.
std::string CommandLine::Explain(const CLI::Error& error) const {
  const CLI::App* asked = &app_;
  while (!asked->get_subcommands().empty()) asked = asked->get_subcommands().front();
  const std::vector<std::string> unknown = asked->remaining();
  // CLI11 counts groups of options, too: these have no name.
  const auto isNamed = [](const CLI::App* below) { return !below->get_name().empty(); };
  const bool isGroup = !asked->get_subcommands(isNamed).empty();
  if (unknown.empty() || !(isGroup || unknown.front().starts_with('-'))) return error.what();
  return StrCat("there is no \"", unknown.front(), "\"");
}

CLI::App* CommandLine::Add(CLI::App& parent, const std::string& name, const std::string& what,
                           const std::string& example, std::function<int()> run, bool withJson) {
  CLI::App* const command = parent.add_subcommand(name, what);
  command
      ->add_option("--config", common_.configPath,
                   StrCat("The agent's configuration (default: ", config::kDefaultConfigPath, ")"))
      ->type_name("FILE");
  if (withJson) command->add_flag("--json", common_.json, "Print JSON");
  command->footer(StrCat("Example: ", example));
  command->callback([this, run = std::move(run)] { run_ = run; });
  return command;
}

void CommandLine::AddEncoding(CLI::App& command, std::string& encoding) {
  command.add_option("--as", encoding, "How ids are written: text, int64, uuid, hex or base64 (default: text)")
      ->check(
          CLI::IsMember(std::vector<std::string>(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end())))
      ->type_name("ENCODING");
}

void CommandLine::AddUserOptions(CLI::App& command, UserOptions& who, bool waits) {
  AddEncoding(command, who.encoding);
  command.add_option("--keyspace", who.keyspace, "Only in this keyspace (default: docs/consent.md)")->type_name("NAME");
  if (!waits) return;
  command
      .add_option("--wait", who.waitSeconds,
                  "How long to wait for the other agents (default: until each knows or is bound to); exits 3 when some "
                  "do not by then")
      ->type_name("SECONDS");
}

void CommandLine::AddConnections() {
  CLI::App* const list =
      Add(app_, "connections", "List the connections that the running agent serves, those with the most traffic first",
          "kveil connections --workload billing", [this] { return RunConnections(common_, connections_); });
  CLI::App* const top = Add(
      app_, "top", "Show the busiest connections, each second anew; q ends it", "kveil top --cluster main",
      [this] { return RunTop(common_, connections_, isOnce_); }, /*withJson=*/false);
  for (CLI::App* const command : {list, top}) {
    command->add_option("--workload", connections_.workload, "Those whose workload's name or cgroup has this in it")
        ->type_name("TEXT");
    command->add_option("--cluster", connections_.cluster, "Those of this cluster")->type_name("NAME");
    command->add_option("--most", connections_.most, "Not more than these")
        ->check(CLI::Range(uint64_t{1}, admin::ConnectionsCommand::kMost))
        ->type_name("COUNT");
  }
  top->add_flag("--once", isOnce_, "Print it once, after a second, as where there is no terminal");
}

void CommandLine::AddFdstore() {
  CLI::App* const store = app_.add_subcommand(
      "fdstore", "Keep an agent's listening sockets while it restarts, so that connects wait; systemd does so itself");
  store->footer("Example: kveil fdstore --socket /run/kveil/fdstore/socket");
  store->callback([this] { run_ = [this] { return RunFdstore(fdstore_); }; });
  store->add_option("--socket", fdstore_.path, "Where the agent finds it, by KVEIL_FDSTORE in its environment")
      ->capture_default_str()
      ->type_name("FILE");
  store->add_option("--keep-for", fdstore_.keepForSeconds, "How long connects may wait for an agent, at most a day")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{1}, uint64_t{86'400}))
      ->type_name("SECONDS");
}

CommandLine::CommandLine() {
  app_.set_version_flag("--version", StrCat("kveil ", KVEIL_VERSION));
  app_.require_subcommand(1);
  app_.footer("`kveil COMMAND --help` says more, with an example.");

  CLI::App* const agent = Add(
      app_, "agent", "Run the agent in the foreground, logging to stderr; it is ready when `kveil status` exits 0",
      "kveil agent --config /etc/kveil/agent.json",
      [this] {
        const std::string path = common_.configPath.empty() ? config::kDefaultConfigPath : common_.configPath;
        return onlyCheck_ ? CheckAgentFiles(path) : RunAgent(path);
      },
      /*withJson=*/false);
  agent->add_flag("--check", onlyCheck_, "Only read configuration, policies and TLS files, and say what is wrong");

  CLI::App* const status =
      Add(app_, "status",
          "Say what the running agent serves and what is wrong; exits 0 only when it is ready and nothing is",
          "kveil status --json", [this] { return RunStatus(common_, onlyReady_); });
  status->add_flag("--ready", onlyReady_, "Exit 0 when it is ready, whatever else is wrong: for a probe");

  AddConnections();

  Add(app_, "reload", "Have the running agent read its configuration again, and say what that changes", "kveil reload",
      [this] { return RunReload(common_); });

  AddFdstore();

  CLI::App* const config = app_.add_subcommand("config", "Work with the agent's configuration");
  config->require_subcommand(1);
  config->footer("Example: kveil config show");
  Add(*config, "show", "Print the configuration with every default, as JSON that is a configuration itself",
      "kveil config show --config /etc/kveil/agent.json", [this] { return RunConfigShow(common_); });

  AddErasing();

  AddConsent();

  AddUser();

  AddEpochs();

  AddRegistry();

  AddReceipts();

  AddAudit();

  AddPolicy();

  AddKeys();

  CLI::App* const inspect = Add(app_, "inspect", "Say what the `kveil` header of a sealed record holds",
                                "kveil inspect 1108c6a1...", [this] { return RunInspect(common_, headerValue_); });
  inspect->add_option("VALUE", headerValue_, "The header's value in hex or base64")->required();

  Add(app_, "detach",
      "Remove the pinned BPF programs while no agent runs; connections to the targets then go there in the clear",
      "kveil detach --config /etc/kveil/agent.json", [this] { return RunDetach(common_); });
}

}  // namespace kveil::cli
