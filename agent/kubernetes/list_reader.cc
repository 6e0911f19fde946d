// Only finds where each item begins and ends, by counting braces outside of strings. What is between is checked by the
// JSON parser, item by item, and so is what remains without the items.
#include "kubernetes/list_reader.h"

#include <algorithm>
#include <utility>

#include "base/status_macros.h"
#include "base/text.h"

namespace kveil::kubernetes {
namespace {

// Of a list without its items: some hundred bytes in general.
constexpr size_t kLongestRest = size_t{64} << 10;
constexpr int kItemsDepth = 2;  // {"items": [ ... ]}
constexpr std::string_view kItems = "items";

}  // namespace

absl::Status ListReader::Take(std::string_view bytes) {
  while (!bytes.empty()) {
    if (isInString_ && !isEscaped_) {
      // The better part of most lists.
      const size_t plain = std::min(bytes.find_first_of("\"\\"), bytes.size());
      Keep(bytes.substr(0, plain));
      bytes.remove_prefix(plain);
      if (bytes.empty()) break;
    }
    const char c = bytes.front();
    bytes.remove_prefix(1);
    if (isInString_) {
      Keep({&c, 1});
      if (isEscaped_) {
        isEscaped_ = false;
      } else if (c == '\\') {
        isEscaped_ = true;
      } else {
        isInString_ = false;
      }
    } else {
      RETURN_IF_ERROR(TakeOutside(c));
    }
    if (rest_.size() > kLongestRest) return MakesNoSense("it is no list of pods");
  }
  return rest_.size() > kLongestRest ? MakesNoSense("it is no list of pods") : absl::OkStatus();
}

// One byte that is in no string.
absl::Status ListReader::TakeOutside(char c) {
  const bool opens = c == '{' || c == '[';
  const bool closes = c == '}' || c == ']';
  if (closes && --depth_ < 0) return MakesNoSense("it is not JSON");
  if (closes && isInItems_ && !isInItem_) isInItems_ = false;
  if (opens && isInItems_ && depth_ == kItemsDepth) {
    isInItem_ = true;
    isTooLong_ = false;
    item_.clear();
  }
  if (c == '"') {
    isInString_ = true;
    if (depth_ == 1) key_.clear();
  }
  // Between the items there is nothing but commas.
  if (!isInItems_ || isInItem_) {
    if (isInItem_) {
      Keep({&c, 1});
    } else {
      rest_ += c;
    }
  }
  if (opens && ++depth_ == kItemsDepth && c == '[' && key_ == kItems) isInItems_ = true;
  return closes && isInItem_ && depth_ == kItemsDepth ? EndItem() : absl::OkStatus();
}

void ListReader::Keep(std::string_view bytes) {
  if (isInItem_) {
    isTooLong_ = isTooLong_ || item_.size() + bytes.size() > kLongestObject;
    if (!isTooLong_) item_.append(bytes);
  } else if (!isInItems_) {
    rest_.append(bytes);
    if (depth_ == 1 && key_.size() <= kItems.size() && bytes != "\"") key_.append(bytes.substr(0, kItems.size() + 1));
  }
}

absl::Status ListReader::EndItem() {
  isInItem_ = false;
  if (isTooLong_) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::optional<PodObject> pod, ParsePod(item_));
  if (pod.has_value()) onPod_(*std::move(pod));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ListReader::End() const { return VersionOfList(rest_); }

}  // namespace kveil::kubernetes
