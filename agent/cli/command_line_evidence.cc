// Commands about what was done: receipts of erasures, the audit trail, what is known of a person.
#include "cli/command_line.h"

namespace kveil::cli {

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
    AddEncoding(*command, audit_.encoding);
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

}  // namespace kveil::cli
