// Commands about users: erasures, consents, attributes.
#include "cli/command_line.h"

namespace kveil::cli {

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
    AddEncoding(*command, erase_.encoding);
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

}  // namespace kveil::cli
