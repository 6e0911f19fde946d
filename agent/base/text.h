// Joins text, including std::string_view.
//
// Debian and Ubuntu build abseil with its own string_view, which does not convert to or from std::string_view. Use this
// header's StrCat and StrAppend for pieces that are std::string_view, and ToAbsl and ToStd with the rest of abseil.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace kveil {

inline absl::string_view ToAbsl(std::string_view text) { return absl::string_view(text.data(), text.size()); }
inline std::string_view ToStd(absl::string_view text) { return std::string_view(text.data(), text.size()); }

namespace internal {

template <typename Piece>
decltype(auto) AsAbslPiece(const Piece& piece) {
  if constexpr (std::is_same_v<Piece, std::string_view>) {
    return ToAbsl(piece);
  } else {
    return (piece);
  }
}

}  // namespace internal

template <typename... Pieces>
std::string StrCat(const Pieces&... pieces) {
  return absl::StrCat(internal::AsAbslPiece(pieces)...);
}

template <typename... Pieces>
void StrAppend(std::string* text, const Pieces&... pieces) {
  absl::StrAppend(text, internal::AsAbslPiece(pieces)...);
}

}  // namespace kveil
