// Whose record it is: the user's id out of a record's value, key or header.
#pragma once

#include <memory>
#include <string_view>

#include "kafka/record.h"
#include "policy/policy.h"

namespace kveil::guard {

// One a worker thread. Strings are taken as they are, integers in decimal, so 38 and "38" are the same user.
class UserFinder {
 public:
  enum class Result {
    kFound,
    kNoUser,   // nothing there, or something that is no id: null, an object, a fraction, an empty string
    kNotJson,  // the policy points into a value or key that is not JSON
  };

  UserFinder();
  ~UserFinder();

  // On kFound `user` is valid until the next call, and while the record's bytes are. At least 64 readable bytes must
  // follow the record's memory (the parser reads whole vectors).
  Result Find(const policy::UserSource& source, const kafka::RecordView& record, std::string_view& user);

 private:
  Result FindInJson(Bytes json, const std::string& pointer, std::string_view& user);

  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace kveil::guard
