// A member of a share group (KIP-932).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace kveil::guard {

// A broker knows members by their names, and names are no secret. So a member's session goes on only on the connection
// that began it: brokers since 4.1 end it with the connection anyway.
class ShareMember {
 public:
  // Names with more bytes together are not remembered: such a session does not go on. The Java client's have 22 and as
  // many as its group.
  static constexpr size_t kLongestNames = 1024;

  // A session of this member begins.
  void Begin(std::optional<std::string_view> group, std::optional<std::string_view> member) {
    isThere_ = group.value_or("").size() + member.value_or("").size() <= kLongestNames;
    group_ = isThere_ ? group.value_or("") : "";
    member_ = isThere_ ? member.value_or("") : "";
  }
  // Whether its session began here, and no other one since.
  bool Is(std::optional<std::string_view> group, std::optional<std::string_view> member) const {
    return isThere_ && group.value_or("") == group_ && member.value_or("") == member_;
  }

 private:
  bool isThere_ = false;
  std::string group_, member_;
};

}  // namespace kveil::guard
