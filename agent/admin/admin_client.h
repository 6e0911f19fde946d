// The admin socket's client: how `kveil status` and `kveil erase` ask the running agent.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "admin/command.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::admin {

// Sends one line of JSON and returns the answer's. An answer {"error", "code"} comes back as that status. Errors of its
// own: kUnavailable when no agent listens there, kPermissionDenied, kDeadlineExceeded.
absl::StatusOr<std::string> AdminCall(const std::string& socketPath, std::string_view requestJson,
                                      std::chrono::milliseconds timeout = std::chrono::seconds(30));

template <typename Command>
struct Answer {
  typename Command::Response response;
  nlohmann::json json;  // as the agent sent it, with what this version does not know
};

// Asks the agent to run a command. Errors: those of AdminCall; kInvalidArgument for a request that is not UTF-8 text;
// kInternal for an answer of another shape than this version knows.
template <typename Command>
absl::StatusOr<Answer<Command>> Ask(const std::string& socketPath, const typename Command::Request& request,
                                    std::chrono::milliseconds timeout = std::chrono::seconds(30)) {
  nlohmann::json json = ToJson(request);
  json["command"] = Command::kName;
  std::string line;
  try {
    line = json.dump();
  } catch (const nlohmann::json::type_error&) {
    return absl::InvalidArgumentError("the request is not UTF-8 text");
  }
  const absl::StatusOr<std::string> answer = AdminCall(socketPath, line, timeout);
  if (!answer.ok()) return answer.status();
  Answer<Command> asked;
  asked.json = nlohmann::json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  absl::StatusOr<typename Command::Response> response =
      FromJson<typename Command::Response>(asked.json, FieldRules::kResponse);
  if (!response.ok()) {
    return absl::InternalError(StrCat("unexpected answer: ", ToStd(response.status().message())));
  }
  asked.response = *std::move(response);
  return asked;
}

}  // namespace kveil::admin
