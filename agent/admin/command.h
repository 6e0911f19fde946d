// An admin command, as both `kveil` and the agent know it.
//
//   struct EraseCommand {
//     static constexpr std::string_view kName = "erase";
//     static constexpr Access kAccess = Access::kErase;
//     struct Request { ... };   // fields.h
//     struct Response { ... };
//   };
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "admin/fields.h"
#include "nlohmann/json.hpp"

namespace kveil::admin {

// The right that a command needs.
enum class Access { kLook, kErase };

// Who asks for a command.
struct Caller {
  uint32_t uid = 0;
  // Whether the agent is ending, and waits for the command. Any thread.
  std::function<bool()> isEnding = [] { return false; };
};

// Runs on a thread of its own, beside other commands and other calls of the same one.
template <typename Command>
using CommandHandler =
    std::function<absl::StatusOr<typename Command::Response>(const typename Command::Request&, const Caller&)>;

// A command and its handler without their types, as a transport sees them.
struct AnyCommand {
  using Work = absl::AnyInvocable<absl::StatusOr<std::string>(const Caller&)>;

  Access access;
  // Checks the fields of a request, which is a JSON object. Returns the work, which calls the handler and returns the
  // response's JSON on one line. kInvalidArgument names the field that is wrong.
  std::function<absl::StatusOr<Work>(const nlohmann::json& request)> read;
};

template <typename Command>
AnyCommand WithoutTypes(CommandHandler<Command> handler) {
  const auto read = [handler = std::move(handler)](const nlohmann::json& json) -> absl::StatusOr<AnyCommand::Work> {
    absl::StatusOr<typename Command::Request> request = FromJson<typename Command::Request>(json, FieldRules::kRequest);
    if (!request.ok()) return request.status();
    return [handler, request = *std::move(request)](const Caller& caller) -> absl::StatusOr<std::string> {
      absl::StatusOr<typename Command::Response> response = handler(request, caller);
      if (!response.ok()) return response.status();
      // Names of topics and cgroups may be any bytes. One of them must not keep the rest from being said.
      return ToJson(*std::move(response)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
  };
  return {Command::kAccess, read};
}

}  // namespace kveil::admin
