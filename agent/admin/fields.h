// How a command's request and response become JSON and back. Each struct names its fields once:
//
//   struct Request {
//     std::string user;
//     std::optional<std::string> keyspace;
//     void Fields(auto& field) {
//       field("user", user);
//       field("keyspace", keyspace);
//     }
//   };
//
// A field is a bool, a uint64_t, a std::string, another such struct, or a std::vector or std::optional of these.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace kveil::admin {

// Who reads decides what may be missing.
enum class FieldRules {
  // What is asked of the agent. Every field that is not optional must be there, and there may be no others: a newer
  // client must not believe that the agent has heeded a field that it does not know.
  kRequest,
  // What the agent answers. A missing field keeps its default, and unknown ones are ignored, so that `kveil` and an
  // agent of another version understand each other.
  kResponse,
};

class FieldReader;
class FieldWriter;

template <typename T>
concept HasFields = requires(T& value, FieldWriter& writer) {
  value.Fields(writer);
};

class FieldReader {
 public:
  FieldReader(const nlohmann::json& object, FieldRules rules) : object_(object), rules_(rules) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    known_.insert(name);
    const auto found = object_.find(name);
    if (found != object_.end()) {
      Read(*found, StrCat("\"", name, "\""), value);
    } else if (rules_ == FieldRules::kRequest) {
      Fail(StrCat("\"", name, "\" is missing"));
    }
  }
  template <typename T>
  void operator()(const char* name, std::optional<T>& value) {
    known_.insert(name);
    const auto found = object_.find(name);
    if (found != object_.end()) Read(*found, StrCat("\"", name, "\""), value.emplace());
  }

  // The first thing that was wrong, as kInvalidArgument.
  absl::Status Finish() {
    if (rules_ == FieldRules::kRequest) {
      for (const auto& member : object_.items()) {
        if (!known_.contains(member.key())) Fail(StrCat("there is no field \"", member.key(), "\""));
      }
    }
    return status_;
  }

 private:
  void Fail(const std::string& what) { status_.Update(absl::InvalidArgumentError(what)); }

  void Read(const nlohmann::json& json, const std::string& what, bool& value) {
    if (!json.is_boolean()) return Fail(StrCat(what, " is not true or false"));
    value = json.get<bool>();
  }
  void Read(const nlohmann::json& json, const std::string& what, uint64_t& value) {
    if (!json.is_number_unsigned()) return Fail(StrCat(what, " is not a whole number of 0 or more"));
    value = json.get<uint64_t>();
  }
  void Read(const nlohmann::json& json, const std::string& what, std::string& value) {
    if (!json.is_string()) return Fail(StrCat(what, " is not a string"));
    value = json.get<std::string>();
  }
  template <typename T>
  void Read(const nlohmann::json& json, const std::string& what, std::vector<T>& values) {
    if (!json.is_array()) return Fail(StrCat(what, " is not an array"));
    for (const nlohmann::json& element : json) Read(element, StrCat("an element of ", what), values.emplace_back());
  }
  template <HasFields T>
  void Read(const nlohmann::json& json, const std::string& what, T& value) {
    if (!json.is_object()) return Fail(StrCat(what, " is not an object"));
    FieldReader within(json, rules_);
    value.Fields(within);
    if (const absl::Status status = within.Finish(); !status.ok()) Fail(StrCat(ToStd(status.message()), " in ", what));
  }

  const nlohmann::json& object_;
  const FieldRules rules_;
  std::set<std::string, std::less<>> known_;
  absl::Status status_;
};

class FieldWriter {
 public:
  explicit FieldWriter(nlohmann::json& object) : object_(object) {}

  template <typename T>
  void operator()(const char* name, T& value) {
    object_[name] = Json(value);
  }
  template <typename T>
  void operator()(const char* name, std::optional<T>& value) {
    if (value.has_value()) object_[name] = Json(*value);
  }

 private:
  static nlohmann::json Json(bool value) { return value; }
  static nlohmann::json Json(uint64_t value) { return value; }
  static nlohmann::json Json(const std::string& value) { return value; }
  template <typename T>
  static nlohmann::json Json(std::vector<T>& values) {
    nlohmann::json array = nlohmann::json::array();
    for (T& value : values) array.push_back(Json(value));
    return array;
  }
  template <HasFields T>
  static nlohmann::json Json(T& value) {
    nlohmann::json object = nlohmann::json::object();
    FieldWriter within(object);
    value.Fields(within);
    return object;
  }

  nlohmann::json& object_;
};

// kInvalidArgument names the field that is wrong. `object` is a JSON object.
template <HasFields T>
absl::StatusOr<T> FromJson(const nlohmann::json& object, FieldRules rules) {
  T value;
  FieldReader reader(object, rules);
  value.Fields(reader);
  if (absl::Status status = reader.Finish(); !status.ok()) return status;
  return value;
}

// By value, because Fields serves both directions and so is not const.
template <HasFields T>
nlohmann::json ToJson(T value) {
  nlohmann::json object = nlohmann::json::object();
  FieldWriter writer(object);
  value.Fields(writer);
  return object;
}

}  // namespace kveil::admin
