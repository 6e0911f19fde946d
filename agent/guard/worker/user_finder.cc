#include "guard/worker/user_finder.h"

#include <optional>

namespace kveil::guard {
namespace {

using formats::IdProblem;
using formats::JsonResult;
using observe::RefuseReason;

// Counts the headers of the name; `value` is the last one's.
int CountHeaders(const kafka::RecordView& record, std::string_view name, std::optional<Bytes>& value) {
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  int count = 0;
  while (reader.Next(header)) {
    if (header.key != name) continue;
    value = header.value;
    ++count;
  }
  return count;
}

Problem NoUser() { return {RefuseReason::kNoUser, "the record names no user where the policy looks for one"}; }

std::optional<Problem> ProblemOf(IdProblem problem) {
  if (problem == IdProblem::kNone) return std::nullopt;
  if (problem == IdProblem::kEmpty) return NoUser();
  return Problem{RefuseReason::kBadUserId, formats::Explain(problem)};
}

}  // namespace

std::optional<Problem> UserFinder::Find(const policy::UserSource& source, const kafka::RecordView& record,
                                        std::string_view& user) {
  switch (source.from) {
    case policy::UserSource::From::kValue:
      return FindInJson(source, *record.value, user);
    case policy::UserSource::From::kKey:
      if (!record.key.has_value()) return NoUser();
      return source.pointers.empty() ? FindInBytes(source, record.key, user) : FindInJson(source, *record.key, user);
    case policy::UserSource::From::kHeader:
      break;
  }
  std::optional<Bytes> header;
  if (CountHeaders(record, source.header, header) > 1) {
    return Problem{RefuseReason::kAmbiguousUser, "the header with the user is there twice: some readers take the last"};
  }
  return FindInBytes(source, header, user);
}

std::optional<Problem> UserFinder::FindInBytes(const policy::UserSource& source, const std::optional<Bytes>& bytes,
                                               std::string_view& user) {
  if (!bytes.has_value()) return NoUser();
  return ProblemOf(formats::IdOfBytes(source.as, *bytes, id_, user));
}

std::optional<Problem> UserFinder::FindInJson(const policy::UserSource& source, Bytes json, std::string_view& user) {
  const std::optional<Bytes> text = formats::WithoutFraming(source.framing, json);
  if (!text.has_value()) {
    return Problem{RefuseReason::kNotJson,
                   "the policy expects a schema's id (5 bytes) before the JSON, and there is none"};
  }
  std::string_view found;
  switch (json_.Find(*text, source.pointers, found)) {
    case JsonResult::kString:
      return ProblemOf(formats::IdOfText(source.as, found, id_, user));
    case JsonResult::kNumber:
      return ProblemOf(formats::IdOfNumber(source.as, found, user));
    case JsonResult::kMissing:
    case JsonResult::kOther:
      return NoUser();
    case JsonResult::kNotText:
      return ProblemOf(IdProblem::kNotText);
    case JsonResult::kAmbiguous:
      return Problem{RefuseReason::kAmbiguousUser,
                     "a member that leads to the user is there twice, as far as case and escapes go"};
    case JsonResult::kNotJson:
      break;
  }
  return Problem{RefuseReason::kNotJson,
                 "the policy looks for the user in JSON, and this is not one JSON document in UTF-8"};
}

}  // namespace kveil::guard
