// The visitor that turns a described message into JSON of the shape that Kafka's generated JSON converters give.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/bytes.h"
#include "base/text.h"
#include "kafka/messages/description.h"
#include "kafka/topic_id.h"
#include "nlohmann/json.hpp"

namespace kveil::kafka::golden {

class JsonVisitor {
 public:
  static constexpr bool kFills = false;

  JsonVisitor(nlohmann::json& out, int16_t version) : out_(out), version_(version) { out_ = nlohmann::json::object(); }

  template <class T>
  void Field(std::string_view name, const T& member, FieldVersions versions = {}) {
    if (versions.Contain(version_)) Put(name, member);
  }

  // The converters leave out tagged fields that have their default, and all unknown ones.
  template <class... T>
  void Tags(const UnknownTaggedFields&, const TaggedField<T>&... known) {
    ((known.versions.Contain(version_) && !(known.value == known.absent) ? Put(known.name, known.value) : void()), ...);
  }

 private:
  // Of records only the size is given.
  void Put(std::string_view name, const std::optional<Bytes>& records) {
    if (records.has_value()) {
      out_[std::string(name) + "SizeInBytes"] = records->size();
    } else {
      out_[std::string(name)] = nullptr;
    }
  }
  template <class T>
  void Put(std::string_view name, const T& member) {
    out_[std::string(name)] = Json(member);
  }

  nlohmann::json Json(bool value) const { return value; }
  nlohmann::json Json(const TopicId& id) const { return id.Text(); }
  nlohmann::json Json(std::string_view text) const { return std::string(text); }
  nlohmann::json Json(Bytes bytes) const { return absl::Base64Escape(ToAbsl(AsText(bytes))); }
  template <class T>
  std::enable_if_t<std::is_integral_v<T>, nlohmann::json> Json(T value) const {
    return value;
  }
  template <class T>
  std::enable_if_t<std::is_enum_v<T>, nlohmann::json> Json(T value) const {
    return static_cast<std::underlying_type_t<T>>(value);
  }
  template <class T>
  nlohmann::json Json(const std::optional<T>& value) const {
    return value.has_value() ? Json(*value) : nlohmann::json(nullptr);
  }
  template <class T>
  nlohmann::json Json(const std::vector<T>& elements) const {
    nlohmann::json array = nlohmann::json::array();
    for (const T& element : elements) array.push_back(Json(element));
    return array;
  }
  template <class T>
  std::enable_if_t<std::is_class_v<T>, nlohmann::json> Json(const T& value) const {
    nlohmann::json object;
    JsonVisitor visitor(object, version_);
    Describe(visitor, value);
    return object;
  }

  nlohmann::json& out_;
  int16_t version_;
};

}  // namespace kveil::kafka::golden
