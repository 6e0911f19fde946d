// The command line, parsed with CLI11.
#include "cli/cli.h"

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <limits>

#include "admin/connections_command.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/agent_command.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "formats/user_id.h"

namespace kveil::cli {
namespace {

constexpr int kWrongCommandLine = 2;

// One CLI::App, the variables that its options are read into, and the subcommand to run.
class CommandLine {
 public:
  CommandLine();
  CLI::App& app() { return app_; }
  int Run() { return run_(); }
  std::string Explain(const CLI::Error& error) const;

 private:
  void AddConnections();
  void AddFdstore();
  void AddErasing();
  void AddConsent();
  void AddUser();
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

// CLI11 says only that a subcommand is missing when it does not know the one that was given.
std::string CommandLine::Explain(const CLI::Error& error) const {
  const std::vector<std::string> unknown = app_.remaining();
  if (!app_.get_subcommands().empty() || unknown.empty()) return error.what();
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

void CommandLine::AddUserOptions(CLI::App& command, UserOptions& who, bool waits) {
  command.add_option("--as", who.encoding, "How ids are written: text, int64, uuid, hex or base64 (default: text)")
      ->check(
          CLI::IsMember(std::vector<std::string>(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end())))
      ->type_name("ENCODING");
  command.add_option("--keyspace", who.keyspace, "Only in this keyspace (default: docs/consent.md)")->type_name("NAME");
  if (!waits) return;
  command
      .add_option("--wait", who.waitSeconds,
                  "How long to wait for the other agents (default: until each knows or is bound to); exits 3 when some "
                  "do not by then")
      ->type_name("SECONDS");
}

void CommandLine::AddErasing() {
  CLI::App* const erase =
      Add(app_, "erase", "Make every record of a user unreadable, by destroying the user's keys",
          "kveil erase --user 38 --keyspace customers", [this] { return RunErase(common_, erase_); });
  CLI::Option_group* const who = erase->add_option_group("who");
  who->require_option(1);
  who->add_option("--user", erase_.user, "The user's id, as it is in the records")->type_name("ID");
  who->add_option("--users-from", erase_.usersFrom,
                  "A file with the id of a user per line; run it again after an interruption")
      ->type_name("FILE");
  erase
      ->add_option("--wait", erase_.waitSeconds,
                   "How long to wait for the other agents (default: until each has dropped the keys or is bound to "
                   "have); exits 3 when some have not by then")
      ->type_name("SECONDS");

  CLI::App* const readmit =
      Add(app_, "readmit", "End a user's erasure: new records get a new key, what was erased stays unreadable",
          "kveil readmit --user 38 --keyspace customers", [this] { return RunReadmit(common_, erase_); });
  readmit->add_option("--user", erase_.user, "The user's id, as it is in the records")->required()->type_name("ID");
  for (CLI::App* const command : {erase, readmit}) {
    command
        ->add_option("--as", erase_.encoding, "How ids are written: text, int64, uuid, hex or base64 (default: text)")
        ->check(
            CLI::IsMember(std::vector<std::string>(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end())))
        ->type_name("ENCODING");
    command->add_option("--keyspace", erase_.keyspace, "Only in this keyspace (default: all)")->type_name("NAME");
    command->add_option("--reason", erase_.reason, "Why, for the receipt; name no person in it")->type_name("TEXT");
  }
}

void CommandLine::AddConsent() {
  CLI::App* const consent = app_.add_subcommand("consent", "Record what users consent to");
  consent->require_subcommand(1);
  consent->footer("Example: kveil consent grant --user 38 --purpose marketing");
  const auto add = [&](const std::string& name, const std::string& what, const std::string& example,
                       int (*run)(const CommonOptions&, const ConsentOptions&), bool waits) {
    CLI::App* const command = Add(*consent, name, what, example, [this, run] { return run(common_, consent_); });
    AddUserOptions(*command, consent_.who, waits);
    return command;
  };
  const auto addUser = [&](CLI::App* command) {
    command->add_option("--user", consent_.who.user, "The user's id, as it is in the records")
        ->required()
        ->type_name("ID");
  };
  const auto addPurpose = [&](CLI::App* command) {
    command->add_option("--purpose", consent_.purpose, "What for, such as marketing")->required()->type_name("NAME");
  };
  CLI::App* const grant = add("grant", "Record that a user consents to a purpose",
                              "kveil consent grant --user 38 --purpose marketing --until 2027-01-01", RunConsentGrant,
                              /*waits=*/true);
  addUser(grant);
  addPurpose(grant);
  grant->add_option("--until", consent_.until, "When it ends: RFC 3339, or a date in UTC (default: never)")
      ->type_name("TIME");
  CLI::App* const withdraw =
      add("withdraw", "Record that a user consents to a purpose no longer, and wait until all agents know",
          "kveil consent withdraw --user 38 --purpose marketing", RunConsentWithdraw, /*waits=*/true);
  addUser(withdraw);
  addPurpose(withdraw);
  CLI::App* const list = add("list", "Print what a user consents to", "kveil consent list --user 38 --history",
                             RunConsentList, /*waits=*/false);
  addUser(list);
  list->add_flag("--history", consent_.withHistory, "Also who granted and withdrew what and when");
  Add(*consent, "reread", "Have the topic that consents come from read from its beginning",
      "kveil consent reread --keyspace customers", [this] { return RunConsentReread(common_, consent_); })
      ->add_option("--keyspace", consent_.who.keyspace, "That the topic is for")
      ->required()
      ->type_name("NAME");
  add("import", "Record the consents of a file; run it again after an interruption",
      "kveil consent import consents.csv", RunConsentImport, /*waits=*/true)
      ->add_option("FILE", consent_.file, "CSV (user,purpose,granted|withdrawn,until) or JSON lines: docs/consent.md")
      ->required();
}

void CommandLine::AddUser() {
  CLI::App* const user = app_.add_subcommand("user", "Record attributes of users, such as a region");
  user->require_subcommand(1);
  user->footer("Example: kveil user set --user 38 --attribute region=eu");
  const auto add = [&](const std::string& name, const std::string& what, const std::string& example,
                       int (*run)(const CommonOptions&, const AttributeOptions&), bool waits) {
    CLI::App* const command = Add(*user, name, what, example, [this, run] { return run(common_, attributes_); });
    command->add_option("--user", attributes_.who.user, "The user's id, as it is in the records")
        ->required()
        ->type_name("ID");
    AddUserOptions(*command, attributes_.who, waits);
    return command;
  };
  CLI::App* const set = add("set", "Set and remove attributes", "kveil user set --user 38 --attribute region=eu",
                            RunUserSet, /*waits=*/true);
  set->add_option("--attribute", attributes_.set, "An attribute and its value")->type_name("NAME=VALUE");
  set->add_option("--remove", attributes_.removed, "An attribute to remove")->type_name("NAME");
  add("show", "Print what is known of a user: attributes and consents", "kveil user show --user 38", RunUserShow,
      /*waits=*/false);
}

void CommandLine::AddEpochs() {
  CLI::App* const epochs = app_.add_subcommand("epochs", "Look after the epoch keys, which wrap all keys of users");
  epochs->require_subcommand(1);
  epochs->footer("Example: kveil epochs list");
  Add(*epochs, "list", "One line per epoch: when it was made, and how many keys are of it", "kveil epochs list",
      [this] { return RunEpochsList(common_); });
  Add(*epochs, "turn",
      "Have a new epoch take the place of the one in use, so that old copies of the registry open nothing",
      "kveil epochs turn --wait 600", [this] { return RunEpochsTurn(common_, waitForTurn_); })
      ->add_option("--wait", waitForTurn_,
                   "Wait until it is done; exits 3 when it is not by then (default: do not wait)")
      ->type_name("SECONDS");
  CLI::App* const giveUp =
      Add(*epochs, "give-up",
          "Give up a key that cannot be unwrapped, as its row is damaged, so that it does not stop "
          "a turn. What was sealed with it is lost",
          "kveil epochs give-up 00112233445566778899aabbccddeeff --reason 'disk fault of May 3'",
          [this] { return RunEpochsGiveUp(common_, giveUp_); });
  giveUp->add_option("KEY-ID", giveUp_.key, "As `kveil epochs list` names it")->required();
  giveUp->add_option("--reason", giveUp_.reason, "Why, for the receipt")->type_name("TEXT");
}

void CommandLine::AddKeys() {
  CLI::App* const keys = app_.add_subcommand("keys", "Look at keys, and make root keys and registries");
  keys->require_subcommand(1);
  keys->footer("Example: kveil keys list");
  CLI::App* const list =
      Add(*keys, "list", "One line per key of the registry, in the order of their ids: never the keys",
          "kveil keys list --most 50", [this] { return RunKeysList(common_, keys_); });
  list->add_option("--from", keys_.from, "Begin with this id, or with those that begin so (an even number of digits)")
      ->type_name("ID");
  list->add_option("--most", keys_.most, "How many (default: 1000)")
      ->check(CLI::Range(uint64_t{1}, std::numeric_limits<uint64_t>::max()))
      ->type_name("COUNT");
  Add(*keys, "show", "What is known of one key", "kveil keys show 898765dcb2dc7030205fc02614929744",
      [this] { return RunKeysShow(common_, keys_); })
      ->add_option("ID", keys_.from, "The key's id")
      ->required();
  CLI::App* const rotate =
      Add(*keys, "rotate",
          "Have the registry's keys wrapped by the newest version of the root key, so that older ones can be disabled",
          "kveil keys rotate --reason 'yearly rotation'", [this] { return RunKeysRotate(common_, rotate_); });
  rotate->add_option("--kek", rotate_.kek, "The same for a KEK of a policy, or for all of a provider (keys.keks)")
      ->type_name("PROVIDER[/KEY]");
  rotate->add_option("--reason", rotate_.reason, "Goes into the agent's log")->type_name("TEXT");
  CLI::App* const createRoot = Add(
      *keys, "create-root", "Make a root key file that several nodes are to share; an agent alone makes its own",
      "kveil keys create-root root.key", [this] { return RunCreateRootKey(files_.front()); }, /*withJson=*/false);
  Add(
      *keys, "create-registry", "Make the registry for a root key that was made before it, once for all nodes",
      "kveil keys create-registry --config agent.json", [this] { return RunCreateRegistry(common_); },
      /*withJson=*/false);
  createRoot->add_option("FILE", files_, "The file to make; one that exists is left as it is")->required()->expected(1);

  CLI::App* const advanceRoot = Add(
      *keys, "advance-root", "Make the next root key file after a turn of the epochs, where agents cannot write it",
      "kveil keys advance-root root.key --generation 3 --to root.key.3",
      [this] { return RunAdvanceRootKey(files_.front(), generation_, newFile_); }, /*withJson=*/false);
  advanceRoot->add_option("FILE", files_, "The root key file; it is left as it is")->required()->expected(1);
  advanceRoot->add_option("--generation", generation_, "As the note `epochs` of `kveil status` says")
      ->required()
      ->type_name("NUMBER");
  advanceRoot->add_option("--to", newFile_, "The file to make; one that exists is left as it is")
      ->required()
      ->type_name("FILE");
}

void CommandLine::AddRegistry() {
  CLI::App* const registry = app_.add_subcommand("registry", "Move the registry");
  registry->require_subcommand(1);
  registry->footer("Example: kveil registry copy --to postgresql://kveil@db.example/kveil");
  CLI::App* const copy = Add(
      *registry, "copy",
      "Move the registry from its SQLite file to PostgreSQL, with the agent stopped; run it again after an "
      "interruption",
      "kveil registry copy --to postgresql://kveil@db.example/kveil",
      [this] { return RunRegistryCopy(common_, copy_); }, /*withJson=*/false);
  copy->add_option(
          "--from", copy_.from,
          "The SQLite file, to go on where the configuration names the database (default: the configuration's)")
      ->type_name("FILE");
  CLI::Option_group* const what = copy->add_option_group("what");
  what->require_option(1);
  what->add_option("--to", copy_.to, "The database, as keys.registry.postgres has it; it must hold no registry")
      ->type_name("CONNECTION");
  what->add_flag("--give-up", copy_.giveUp, "Let agents use the file again, if the move is not complete");
}

void CommandLine::AddReceipts() {
  CLI::App* const receipts = app_.add_subcommand("receipts", "Look at the signed receipts of erasures");
  receipts->require_subcommand(1);
  receipts->footer("Example: kveil receipts verify");
  const auto add = [&](const std::string& name, const std::string& what, const std::string& example,
                       int (*run)(const CommonOptions&, const ReceiptsOptions&), bool withJson) {
    CLI::App* const command = Add(
        *receipts, name, what, example, [this, run] { return run(common_, receipts_); }, withJson);
    command
        ->add_option("--folder", receipts_.folder,
                     "The receipts' folder (default: beside the registry or the root key of the configuration)")
        ->type_name("FOLDER");
    return command;
  };
  add("list", "One line per receipt", "kveil receipts list", RunReceiptsList, true);
  add("show", "The signed bytes of a receipt", "kveil receipts show 7", RunReceiptsShow, false)
      ->add_option("NUMBER", receipts_.number, "The receipt's number")
      ->required();
  CLI::App* const verify = add("verify", "Check one receipt, or all and that none is missing", "kveil receipts verify",
                               RunReceiptsVerify, true);
  verify->add_option("NUMBER", receipts_.number, "The receipt's number (default: all)");
  verify->add_option("--key", receipts_.publicKey, "A PEM file with the public key (default: the folder's own)")
      ->type_name("FILE");
  add("key", "The public key that verifies the receipts, as PEM", "kveil receipts key", RunReceiptsKey, false);
  CLI::App* const replay =
      add("replay", "Repeat the erasures that the registry does not know of, as after a restore from a backup",
          "kveil receipts replay --dry-run", RunReceiptsReplay, true);
  replay->add_option("--key", receipts_.publicKey, "A PEM file with the public key; needed with --folder")
      ->type_name("FILE");
  replay->add_flag("--dry-run", receipts_.isDryRun, "Only say how many there are");
  replay->add_option("--wait", receipts_.waitSeconds, "As of `kveil erase`")->type_name("SECONDS");
}

void CommandLine::AddAudit() {
  CLI::App* const audit = app_.add_subcommand("audit", "Ask who read and wrote which records");
  audit->require_subcommand(1);
  audit->footer("Example: kveil audit query --topic clickstream --since 2h");
  const auto addUser = [this](CLI::App* command) {
    CLI::Option* const user =
        command->add_option("--user", audit_.user, "The user's id, as it is in the records")->type_name("ID");
    command->add_option("--as", audit_.encoding, "How it is written: text, int64, uuid, hex or base64 (default: text)")
        ->check(
            CLI::IsMember(std::vector<std::string>(formats::kIdEncodingNames.begin(), formats::kIdEncodingNames.end())))
        ->type_name("ENCODING");
    command->add_option("--keyspace", audit_.keyspace, "Only the user in this keyspace (default: all)")
        ->type_name("NAME");
    return user;
  };
  const auto add = [&](const std::string& name, const std::string& what, const std::string& example,
                       int (*run)(const CommonOptions&, const AuditOptions&), bool withJson) {
    CLI::App* const command = Add(
        *audit, name, what, example, [this, run] { return run(common_, audit_); }, withJson);
    command->add_option("--trail", audit_.trails, "The folder of a trail; several may be given (default: this node's)")
        ->type_name("FOLDER");
    return command;
  };
  CLI::App* const query = add("query", "Print who read and wrote what, and what is not known of it",
                              "kveil audit query --user 38 --since 24h", RunAuditQuery, true);
  addUser(query);
  query->add_option("--topic", audit_.topic, "Only this topic")->type_name("TOPIC");
  query->add_option("--workload", audit_.workload, "Only workloads with this in their name, cgroup or service account")
      ->type_name("TEXT");
  query->add_option("--since", audit_.since, "A date, an RFC 3339 time, or how long ago, such as 2h")
      ->type_name("TIME");
  query->add_option("--until", audit_.until, "The same")->type_name("TIME");
  CLI::App* const verify =
      add("verify", "Check that no line was changed, taken out or cut off", "kveil audit verify", RunAuditVerify, true);
  for (CLI::App* const command : {query, verify}) {
    command
        ->add_option("--key", audit_.publicKeys,
                     "A PEM file with the public key, one per --trail in their order (default: the folder's own)")
        ->type_name("FILE");
  }
  add("key", "The public key that verifies the trail, as PEM", "kveil audit key", RunAuditKey, false);
  CLI::App* const subject = app_.add_subcommand("subject", "Answer what is known of a person");
  subject->require_subcommand(1);
  subject->footer("Example: kveil subject report --user 38");
  CLI::App* const report =
      Add(*subject, "report", "Print consents, erasures, and who wrote and read a person's records",
          "kveil subject report --user 38", [this] { return RunSubjectReport(common_, audit_); });
  report->add_option("--trail", audit_.trails, "The folder of a trail; several may be given (default: this node's)")
      ->type_name("FOLDER");
  addUser(report)->required();
}

void CommandLine::AddPolicy() {
  CLI::App* const policy = app_.add_subcommand("policy", "Work with policy files");
  policy->require_subcommand(1);
  policy->footer("Example: kveil policy check /etc/kveil/policies");
  CLI::App* const check =
      Add(*policy, "check", "Read policies as the agent would, and say what they mean or what is wrong with them",
          "kveil policy check clickstream.json", [this] { return RunPolicyCheck(common_, files_, isStrict_); });
  check->add_option("FILE", files_, "Files and folders (default: the configuration's policies)");
  check->add_flag("--strict", isStrict_, "Exit 1 for warnings, too");

  CLI::App* const explain =
      Add(*policy, "explain", "Say what a workload may read of a topic, and which entry of the policy decides",
          "kveil policy explain --workload unit=support.service --topic clickstream --user 38",
          [this] { return RunPolicyExplain(common_, explain_); });
  explain
      ->add_option("--workload", explain_.workload,
                   "unit=, cgroup=, serviceAccount=, namespace=, label.NAME= and uid=, with commas in between")
      ->required()
      ->type_name("SELECTOR");
  explain->add_option("--topic", explain_.topic, "The topic's name")->required()->type_name("NAME");
  explain->add_option("--user", explain_.user, "Whose record it is")->type_name("ID");
  explain->add_option("--consent", explain_.consents, "A purpose for which the user consents; may be repeated")
      ->type_name("PURPOSE")
      ->allow_extra_args(false);
  explain->add_option("--attribute", explain_.attributes, "An attribute of the user; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  explain->add_flag("--erased", explain_.isErased, "The user was erased");
  explain->add_option("--record", explain_.record, "A file with the record as JSON (docs/policy.md)")
      ->type_name("FILE");
  explain->add_flag("--write", explain_.isOfWriting, "Say what it may write, not what it may read");
  explain->add_option("FILE", explain_.policies, "Policy files and folders (default: the configuration's policies)");

  CLI::App* const test =
      Add(*policy, "test", "Compare what policies say with a table of who is to read what; exits 1 where they differ",
          "kveil policy test clickstream.test.json", [this] { return RunPolicyTest(common_, files_.front()); });
  test->add_option("FILE", files_, "The table (docs/policy.md)")->required()->expected(1);

  CLI::App* const diff =
      Add(*policy, "diff",
          "Say who gains and who loses what from one version of policies to the next; exits 1 if anybody does",
          "kveil policy diff /etc/kveil/policies ./policies",
          [this] { return RunPolicyDiff(common_, files_.front(), files_.back()); });
  diff->add_option("OLD NEW", files_, "Two files or folders")->required()->expected(2);

  AddPolicySigning(*policy);
}

void CommandLine::AddPolicySigning(CLI::App& policy) {
  CLI::App* const keygen = Add(
      policy, "keygen", "Make a key that signs policies, and the public key that agents trust",
      "kveil policy keygen policies.key", [this] { return RunPolicyKeygen(files_.front()); }, /*withJson=*/false);
  keygen->add_option("FILE", files_, "The file to make; the public key is in FILE.pub")->required()->expected(1);

  CLI::App* const sign = Add(policy, "sign", "Sign the policies of a folder, for agents that trust the key",
                             "kveil policy sign --key policies.key --version 7 policies",
                             [this] { return RunPolicySign(common_, sign_); });
  sign->add_option("--key", sign_.key, "A PEM file with the private key")->required()->type_name("FILE");
  sign->add_option("--version", sign_.version, "A number that is higher each time")->required()->type_name("NUMBER");
  sign->add_option("FOLDER", sign_.folder, "The folder of the policies")->required();

  CLI::App* const pack = Add(
      policy, "pack", "Make one file of a folder of signed policies, for agents that pull it",
      "kveil policy pack policies policies.bundle", [this] { return RunPolicyPack(pack_); }, /*withJson=*/false);
  pack->add_option("FOLDER", pack_.folder, "The folder of the signed policies")->required();
  pack->add_option("FILE", pack_.file, "The file to make or to replace, outside of the folder")->required();

  CLI::App* const verify =
      Add(policy, "verify", "Say whether the policies of a folder are those that a trusted key has signed",
          "kveil policy verify --key policies.key.pub policies", [this] { return RunPolicyVerify(common_, sign_); });
  verify
      ->add_option("--key", sign_.trusted,
                   "A PEM file with a public key; may be repeated (default: the configuration's trustedKeys)")
      ->allow_extra_args(false)
      ->type_name("FILE");
  verify->add_option("FOLDER", sign_.folder, "The folder of the policies (default: the configuration's)");
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
