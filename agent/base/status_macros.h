// The two ways to hand an error on to the caller. For functions that return absl::Status or absl::StatusOr; a coroutine
// cannot use them.
//
//   absl::StatusOr<Header> ReadHeader(Bytes frame) {
//     ASSIGN_OR_RETURN(const uint32_t size, ReadSize(frame));
//     RETURN_IF_ERROR(CheckSize(size));
//     ...
//   }
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Evaluates an expression of type absl::Status, and returns it from the function unless it is OK.
#define RETURN_IF_ERROR(expression)                                   \
  do {                                                                \
    if (absl::Status kveilStatus = (expression); !kveilStatus.ok()) { \
      return kveilStatus;                                             \
    }                                                                 \
  } while (false)

// Evaluates an expression of type absl::StatusOr<T>. Returns its status from the function unless that is OK; otherwise
// moves the value to `target`, which may declare a variable. These are several statements, so they need braces to be
// the body of an `if`. `target` cannot contain a comma.
#define ASSIGN_OR_RETURN(target, expression) \
  KVEIL_ASSIGN_OR_RETURN(KVEIL_JOIN(kveilStatusOr, __LINE__), target, expression)

#define KVEIL_ASSIGN_OR_RETURN(statusOr, target, expression) \
  auto statusOr = (expression);                              \
  if (!statusOr.ok()) return std::move(statusOr).status();   \
  target = *std::move(statusOr)

#define KVEIL_JOIN(left, right) KVEIL_JOIN_EXPANDED(left, right)
#define KVEIL_JOIN_EXPANDED(left, right) left##right
