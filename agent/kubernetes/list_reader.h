// Reads a list of pods piece by piece, so that its length needs no memory.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kubernetes/messages.h"

namespace kveil::kubernetes {

// An object of more bytes is left out. The API server takes no object of more than 3 MiB.
constexpr size_t kLongestObject = size_t{4} << 20;

// Takes the body of a response to a list as it comes, and hands each pod on once its object is complete. Objects that
// make no sense as pods are left out. Holds one object at a time.
class ListReader {
 public:
  explicit ListReader(std::function<void(PodObject)> onPod) : onPod_(std::move(onPod)) {}

  // kUnavailable: this is no list of pods. Nothing more is taken then.
  absl::Status Take(std::string_view bytes);

  // After the last bytes: the list's resource version, where a watch goes on from. kUnavailable: the list makes no
  // sense or is not complete.
  absl::StatusOr<std::string> End() const;

 private:
  absl::Status TakeOutside(char c);
  void Keep(std::string_view bytes);
  absl::Status EndItem();

  const std::function<void(PodObject)> onPod_;
  std::string rest_;  // the list without its items
  std::string item_;
  std::string key_;  // the last string at the first level, cut
  int depth_ = 0;    // of braces and brackets
  bool isInString_ = false;
  bool isEscaped_ = false;
  bool isInItems_ = false;
  bool isInItem_ = false;
  bool isTooLong_ = false;  // the item
};

}  // namespace kveil::kubernetes
