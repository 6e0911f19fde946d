// `kveil registry copy`: moves the registry from its SQLite file to PostgreSQL.
#include <filesystem>
#include <iostream>
#include <memory>

#include "base/text.h"
#include "cli/common.h"
#include "cli/progress.h"
#include "config/postgres_text.h"
#include "daemon/key_store.h"
#include "keys/registry/registry_copy.h"

namespace kveil::cli {
namespace {

constexpr std::string_view kCommand = "registry copy";

struct Source {
  std::string path;
  bool isConfigured = true;  // the agent uses it, if any does
};

absl::StatusOr<Source> SourceOf(const CommonOptions& common, const RegistryCopyOptions& options) {
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!options.from.empty()) {
    std::error_code ignored;
    const bool isConfigured = config.ok() && !config->keys.registryPostgres.has_value() &&
                              std::filesystem::equivalent(options.from, config->keys.registryPath, ignored);
    // As the configuration spells it: the note lies beside the file that agents look for.
    return Source{isConfigured ? config->keys.registryPath : options.from, isConfigured};
  }
  if (!config.ok()) return config.status();
  if (!config->keys.registryPostgres.has_value()) return Source{config->keys.registryPath};
  return absl::InvalidArgumentError(
      "the configuration names a registry in PostgreSQL: to go on with a move that was begun, name the file by --from");
}

}  // namespace

int RunRegistryCopy(const CommonOptions& common, const RegistryCopyOptions& options) {
  const absl::StatusOr<Source> from = SourceOf(common, options);
  if (!from.ok()) return Fail(kCommand, from.status());
  if (options.giveUp) {
    if (!from->isConfigured) {
      return Fail(kCommand, StrCat("name ", from->path, " as keys.registry in the configuration first"));
    }
    if (const absl::Status status = keys::GiveUpCopy(from->path); !status.ok()) return Fail(kCommand, status);
    std::cout << "registry " << from->path
              << " can be used again. What was copied cannot: remove it by DROP SCHEMA kveil "
              << "CASCADE\n";
    return 0;
  }
  const absl::StatusOr<config::PostgresConfig> to = config::ParsePostgres(options.to);
  if (!to.ok()) return Fail(kCommand, StrCat("--to: ", ToStd(to.status().message())));
  std::unique_ptr<Progress> bar;
  keys::RegistryCopyOptions copy;
  copy.from = from->path;
  copy.mustBeBegun = !from->isConfigured;
  copy.to = daemon::PostgresOptionsOf(*to);
  copy.progress = [&bar](uint64_t done, uint64_t all) {
    if (all == 0) return;
    if (bar == nullptr) bar = std::make_unique<Progress>(all, "rows");
    bar->Show(std::min(done, all));
  };
  const absl::StatusOr<keys::RegistryCopied> copied = keys::CopyRegistry(copy);
  bar.reset();
  if (!copied.ok()) return Fail(kCommand, copied.status());
  if (copied->wasMoved) {
    std::cout << "registry " << from->path << " was moved to " << copied->to << " before\n";
    return 0;
  }
  std::cout << "moved " << copied->rows << " rows to " << copied->to
            << ". Name it as keys.registry and start the agent. " << from->path
            << " is of no use to any agent, but still holds keys: remove it when the database has a backup, and leave "
            << from->path << ".moved\n";
  return 0;
}

}  // namespace kveil::cli
