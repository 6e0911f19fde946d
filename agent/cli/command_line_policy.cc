// Commands about policy files.
#include "cli/command_line.h"

namespace kveil::cli {

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

}  // namespace kveil::cli
