#include "daemon/reloader.h"

#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "base/log.h"
#include "base/text.h"
#include "config/config_text.h"

namespace kveil::daemon {
namespace {

using Json = nlohmann::json;

constexpr char kLogLevel[] = "/log/level";
constexpr char kLogFormat[] = "/log/format";

// The pointers of what differs, down to objects' members. `before` and `after` are objects.
void FindDifferences(const Json& before, const Json& after, const std::string& pointer, std::set<std::string>& found) {
  std::set<std::string> keys;
  for (const auto& member : before.items()) keys.insert(member.key());
  for (const auto& member : after.items()) keys.insert(member.key());
  for (const std::string& key : keys) {
    const auto a = before.find(key), b = after.find(key);
    const std::string place = StrCat(pointer, "/", key);
    if (a == before.end() || b == after.end()) {
      found.insert(place);
    } else if (a->is_object() && b->is_object()) {
      FindDifferences(*a, *b, place, found);
    } else if (*a != *b) {
      found.insert(place);
    }
  }
}

}  // namespace

Reloader::Reloader(std::string path, const config::AgentConfig& inForce)
    : path_(std::move(path)), inForce_(config::ToJson(inForce)) {}

absl::StatusOr<Reloader::Outcome> Reloader::Reload() {
  const MutexLock lock(mutex_);
  const absl::StatusOr<config::AgentConfig> fresh = config::LoadConfig(path_);
  if (!fresh.ok()) {
    log::Error("agent.reloadRefused", {{"reason", fresh.status()}});
    return fresh.status();
  }
  const Json now = config::ToJson(*fresh);
  std::set<std::string> changed;
  FindDifferences(inForce_, now, "", changed);
  Outcome outcome;
  for (const char* const place : {kLogLevel, kLogFormat}) {
    if (changed.erase(place) > 0) outcome.applied.push_back(place);
  }
  log::SetLevel(fresh->logLevel);
  log::SetLayout(fresh->logLayout);
  inForce_["log"] = now["log"];
  outcome.needRestart.assign(changed.begin(), changed.end());
  log::Info("agent.reloaded", {{"inForce", absl::StrJoin(outcome.applied, " ")},
                               {"needRestart", absl::StrJoin(outcome.needRestart, " ")}});
  return outcome;
}

}  // namespace kveil::daemon
