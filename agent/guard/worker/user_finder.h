// Whose record it is: the user's id out of a record's value, key or header.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "formats/json_finder.h"
#include "guard/worker/problem.h"
#include "kafka/record.h"
#include "policy/policy.h"

namespace kveil::guard {

// One a worker thread.
class UserFinder {
 public:
  // On success (nullopt) `user` is the id in its one spelling (formats/user_id.h), valid until the next call, and while
  // the record's bytes are. At least 64 readable bytes must follow the record's memory (vectors are read whole). The
  // record has a value.
  std::optional<Problem> Find(const policy::UserSource& source, const kafka::RecordView& record,
                              std::string_view& user);

 private:
  std::optional<Problem> FindInBytes(const policy::UserSource& source, const std::optional<Bytes>& bytes,
                                     std::string_view& user);
  std::optional<Problem> FindInJson(const policy::UserSource& source, Bytes json, std::string_view& user);

  formats::JsonFinder json_;
  std::string id_;  // scratch of its spelling
};

}  // namespace kveil::guard
