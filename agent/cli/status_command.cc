// `kveil status`: asks the agent and prints its answer in plain words.
#include <iostream>

#include "admin/admin_server.h"
#include "base/text.h"
#include "cli/common.h"
#include "nlohmann/json.hpp"

namespace kveil::cli {
namespace {

using Json = nlohmann::json;

std::string Duration(uint64_t seconds) {
  if (seconds < 120) return StrCat(seconds, " s");
  if (seconds < 120 * 60) return StrCat(seconds / 60, " min");
  if (seconds < 48 * 3600) return StrCat(seconds / 3600, " h");
  return StrCat(seconds / 86400, " days");
}

// "1 topic", "3 topics"
std::string Count(uint64_t count, std::string_view noun) { return StrCat(count, " ", noun, count == 1 ? "" : "s"); }

uint64_t Number(const Json& object, const char* key) { return object.value(key, uint64_t{0}); }

void PrintServed(const Json& status) {
  const Json policies = status.value("policies", Json::object());
  const Json records = status.value("records", Json::object());
  const Json held = status.value("heldConnects", Json::object());
  std::cout << "kveil " << status.value("version", "?")
            << (status.value("ready", false) ? " is ready" : " is NOT ready") << ", up "
            << Duration(Number(status, "uptimeSeconds")) << "\n"
            << "  serves    " << Count(Number(status, "namespaces"), "network namespace") << ", "
            << Count(Number(status, "connections"), "connection") << "\n"
            << "  held      " << Count(Number(held, "held"), "first connect") << ", " << Number(held, "released")
            << " let go, " << Number(held, "ended") << " ended\n"
            << "  policies  " << Count(Number(policies, "files"), "file") << ", "
            << Count(Number(policies, "topics"), "topic") << " (generation " << Number(policies, "generation") << ")\n"
            << "  records   " << Number(records, "sealed") << " sealed, " << Number(records, "opened") << " opened, "
            << Number(records, "dropped") << " left out, " << Number(records, "refused") << " refused\n"
            << "  kernel    " << status.value("kernel", "?") << "\n";
}

// What was protected may be in the clear there.
void PrintUnselected(const Json& unselected) {
  for (const Json& topic : unselected.value("topics", Json::array())) {
    std::cout << "  in clear  " << topic.value("topic", "?") << ", which no policy selects, is written to by "
              << topic.value("workload", "?") << ", which has read a protected topic\n";
  }
  if (unselected.value("more", false)) std::cout << "  in clear  and more topics like these\n";
}

void PrintProblems(const Json& problems) {
  for (const Json& problem : problems) {
    std::cout << "  WRONG     " << problem.value("name", "?") << ": " << problem.value("message", "") << "\n";
  }
}

void PrintNotes(const Json& notes) {
  for (const Json& note : notes) {
    std::cout << "  NOTE      " << note.value("name", "?") << ": " << note.value("message", "") << "\n";
  }
}

}  // namespace

int RunStatus(const CommonOptions& common) {
  const absl::StatusOr<config::AgentConfig> config = ReadConfig(common);
  if (!config.ok()) return Fail("status", config.status());
  const absl::StatusOr<std::string> answer = admin::AdminCall(config->admin.socket, R"({"command":"status"})");
  if (!answer.ok()) return Fail("status", answer.status());
  const Json status = Json::parse(*answer);
  const bool ready = status.value("ready", false);
  const Json problems = status.value("problems", Json::array());
  if (common.json) {
    std::cout << status.dump(2) << "\n";
  } else {
    PrintServed(status);
    PrintUnselected(status.value("unselected", Json::object()));
    PrintProblems(problems);
    PrintNotes(status.value("notes", Json::array()));
  }
  if (ready && problems.empty()) return 0;
  return Fail("status", StrCat(ready ? "ready, but " : "not ready, ", Count(problems.size(), "problem")));
}

}  // namespace kveil::cli
