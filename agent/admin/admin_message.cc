// How an error travels over the admin socket.
#include "admin/admin_message.h"

#include <utility>

#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::admin {
namespace {

using absl::StatusCode;

constexpr std::pair<StatusCode, std::string_view> kCodeNames[] = {
    {StatusCode::kCancelled, "Cancelled"},
    {StatusCode::kUnknown, "Unknown"},
    {StatusCode::kInvalidArgument, "InvalidArgument"},
    {StatusCode::kDeadlineExceeded, "DeadlineExceeded"},
    {StatusCode::kNotFound, "NotFound"},
    {StatusCode::kAlreadyExists, "AlreadyExists"},
    {StatusCode::kPermissionDenied, "PermissionDenied"},
    {StatusCode::kResourceExhausted, "ResourceExhausted"},
    {StatusCode::kFailedPrecondition, "FailedPrecondition"},
    {StatusCode::kAborted, "Aborted"},
    {StatusCode::kOutOfRange, "OutOfRange"},
    {StatusCode::kUnimplemented, "Unimplemented"},
    {StatusCode::kInternal, "Internal"},
    {StatusCode::kUnavailable, "Unavailable"},
    {StatusCode::kDataLoss, "DataLoss"},
    {StatusCode::kUnauthenticated, "Unauthenticated"},
};

StatusCode CodeOf(std::string_view name) {
  for (const auto& [code, known] : kCodeNames) {
    if (known == name) return code;
  }
  return StatusCode::kUnknown;
}

std::string_view NameOf(StatusCode code) {
  for (const auto& [known, name] : kCodeNames) {
    if (known == code) return name;
  }
  return "Unknown";
}

}  // namespace

std::string ErrorAnswer(const absl::Status& status) {
  const nlohmann::json answer = {{"error", std::string(status.message())}, {"code", NameOf(status.code())}};
  return answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::Status StatusOfAnswer(std::string_view answerJson) {
  const nlohmann::json answer = nlohmann::json::parse(answerJson, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object()) return absl::InternalError("the agent's answer is not JSON");
  if (!answer.contains("error")) return absl::OkStatus();
  const nlohmann::json& message = answer["error"];
  const std::string code =
      answer.contains("code") && answer["code"].is_string() ? answer["code"].get<std::string>() : "";
  return absl::Status(CodeOf(code), message.is_string() ? message.get<std::string>() : message.dump());
}

}  // namespace kveil::admin
