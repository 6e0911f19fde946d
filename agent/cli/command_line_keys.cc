// Commands about keys and where they are kept.
#include "cli/command_line.h"

#include <limits>

namespace kveil::cli {

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
  CLI::Option* const kek =
      rotate->add_option("--kek", rotate_.kek, "The same for a KEK of a policy, or for all of a provider (keys.keks)")
          ->type_name("PROVIDER[/KEY]");
  rotate->add_option("--after", rotate_.after, "Leave out those up to this id, which an interrupted run has named")
      ->needs(kek)
      ->type_name("ID");
  rotate->add_option("--reason", rotate_.reason, "Goes into the agent's log")->type_name("TEXT");
  Add(
      *keys, "make-version", "Have a PKCS#11 token make the next version of the root key, before `kveil keys rotate`",
      "kveil keys make-version --config agent.json", [this] { return RunMakeKeyVersion(common_, rotate_.kek); },
      /*withJson=*/false)
      ->add_option("--kek", rotate_.kek, "That of a KEK of a policy (keys.keks)")
      ->type_name("PROVIDER/KEY");
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

}  // namespace kveil::cli
