// The command line, parsed with CLI11: which subcommands there are, and what each takes.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/common.h"

namespace kveil::cli {

// One CLI::App, the variables that its options are read into, and the subcommand to run.
class CommandLine {
 public:
  CommandLine();
  CLI::App& app() { return app_; }                     // to parse with
  int Run() { return run_(); }                         // after parsing: the command's exit status
  std::string Explain(const CLI::Error& error) const;  // what is wrong with the command line, in a line

 private:
  void AddConnections();
  void AddFdstore();
  void AddErasing();
  void AddConsent();
  void AddUser();
  static void AddEncoding(CLI::App& command, std::string& encoding);
  void AddUserOptions(CLI::App& command, UserOptions& who, bool waits);
  void AddEpochs();
  void AddKeys();
  void AddRegistry();
  void AddReceipts();
  void AddAudit();
  void AddPolicy();
  void AddPolicySigning(CLI::App& policy);
  CLI::App* Add(CLI::App& parent, const std::string& name, const std::string& what, const std::string& example,
                std::function<int()> run, bool withJson = true);

  CLI::App app_{"Seals what applications write to Kafka and opens what they read, without their knowledge.", "kveil"};
  CommonOptions common_;
  EraseOptions erase_;
  ConsentOptions consent_;
  AttributeOptions attributes_;
  std::optional<uint64_t> waitForTurn_;
  uint64_t generation_ = 0;
  std::string newFile_;
  ReceiptsOptions receipts_;
  KeysOptions keys_;
  RegistryCopyOptions copy_;
  GiveUpOptions giveUp_;
  RotateOptions rotate_;
  AuditOptions audit_;
  PolicyExplainOptions explain_;
  ConnectionsOptions connections_;
  bool isOnce_ = false;
  FdstoreOptions fdstore_;
  PolicySignOptions sign_;
  PolicyPackOptions pack_;
  std::vector<std::string> files_;
  bool isStrict_ = false;
  std::string headerValue_;
  bool onlyCheck_ = false;
  bool onlyReady_ = false;
  std::function<int()> run_;
};

}  // namespace kveil::cli
