// How an error travels over the admin socket: {"error": MESSAGE, "code": NAME}.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace kveil::admin {

// `status` is not OK. NAME is the code's name as in "NotFound".
std::string ErrorAnswer(const absl::Status& status);

// The status that an answer stands for: OK for one that is no error, kInternal for one that is not JSON.
absl::Status StatusOfAnswer(std::string_view answerJson);

}  // namespace kveil::admin
