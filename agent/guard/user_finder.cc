#include "guard/user_finder.h"

#include <charconv>
#include <optional>

#include "simdjson.h"

namespace kveil::guard {

struct UserFinder::Parser {
  simdjson::ondemand::parser json;
  simdjson::dom::parser whole;
  char number[24];
};

UserFinder::UserFinder() : parser_(std::make_unique<Parser>()) {}
UserFinder::~UserFinder() = default;

namespace {

std::optional<Bytes> FindHeader(const kafka::RecordView& record, std::string_view name) {
  kafka::HeaderReader reader(record);
  kafka::HeaderView header;
  while (reader.Next(header)) {
    if (header.key == name) return header.value;
  }
  return std::nullopt;
}

// Why a document has no user: looking for one value does not read all of it, so that is made up for here.
UserFinder::Result NoUserIn(Bytes json, simdjson::dom::parser& parser) {
  simdjson::dom::element document;
  const bool isJson = parser.parse(json.data(), json.size()).get(document) == simdjson::SUCCESS;
  return isJson ? UserFinder::Result::kNoUser : UserFinder::Result::kNotJson;
}

UserFinder::Result FoundUnlessEmpty(std::string_view text, std::string_view& user) {
  if (text.empty()) return UserFinder::Result::kNoUser;
  user = text;
  return UserFinder::Result::kFound;
}

}  // namespace

UserFinder::Result UserFinder::Find(const policy::UserSource& source, const kafka::RecordView& record,
                                    std::string_view& user) {
  switch (source.from) {
    case policy::UserSource::From::kValue:
      return FindInJson(*record.value, source.pointer, user);
    case policy::UserSource::From::kKey:
      if (!record.key.has_value()) return Result::kNoUser;
      if (source.pointer.empty()) return FoundUnlessEmpty(AsText(*record.key), user);
      return FindInJson(*record.key, source.pointer, user);
    case policy::UserSource::From::kHeader:
      break;
  }
  const std::optional<Bytes> header = FindHeader(record, source.header);
  if (!header.has_value()) return Result::kNoUser;
  return FoundUnlessEmpty(AsText(*header), user);
}

UserFinder::Result UserFinder::FindInJson(Bytes json, const std::string& pointer, std::string_view& user) {
  namespace ondemand = simdjson::ondemand;
  const simdjson::padded_string_view padded(reinterpret_cast<const char*>(json.data()), json.size(),
                                            json.size() + simdjson::SIMDJSON_PADDING);
  ondemand::document document;
  if (parser_->json.iterate(padded).get(document) != simdjson::SUCCESS) return Result::kNotJson;
  ondemand::value value;
  switch (document.at_pointer(pointer).get(value)) {
    case simdjson::SUCCESS:
      break;
    case simdjson::NO_SUCH_FIELD:
    case simdjson::INDEX_OUT_OF_BOUNDS:
    case simdjson::INVALID_JSON_POINTER:
    case simdjson::INCORRECT_TYPE:
    case simdjson::SCALAR_DOCUMENT_AS_VALUE:
      return NoUserIn(json, parser_->whole);
    default:
      return Result::kNotJson;
  }
  ondemand::json_type type;
  if (value.type().get(type) != simdjson::SUCCESS) return Result::kNotJson;
  if (type == ondemand::json_type::string) {
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS) return Result::kNotJson;
    return FoundUnlessEmpty(text, user);
  }
  if (type != ondemand::json_type::number) return Result::kNoUser;
  std::to_chars_result written{};
  char* const begin = parser_->number;
  char* const end = begin + sizeof(parser_->number);
  int64_t whole = 0;
  uint64_t large = 0;
  if (value.get_int64().get(whole) == simdjson::SUCCESS) {
    written = std::to_chars(begin, end, whole);
  } else if (value.get_uint64().get(large) == simdjson::SUCCESS) {
    written = std::to_chars(begin, end, large);
  } else {
    return Result::kNoUser;
  }
  user = std::string_view(begin, static_cast<size_t>(written.ptr - begin));
  return Result::kFound;
}

}  // namespace kveil::guard
