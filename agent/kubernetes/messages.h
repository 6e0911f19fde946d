// What the Kubernetes API server says about pods and nodes: JSON.
// https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "identity/pod.h"

namespace kveil::kubernetes {

// The labels of one pod may have this many bytes. Of one with more, nothing is known.
constexpr size_t kMostLabelBytes = size_t{64} << 10;

struct PodList {
  std::vector<identity::Pod> pods;
  std::string resourceVersion;  // where a watch goes on from
};
// The response to a list. kUnavailable: it makes no sense. Pods that make no sense are left out.
absl::StatusOr<PodList> ParseList(std::string_view json);

struct PodEvent {
  enum class Type : uint8_t { kIsThere, kIsGone };
  Type type = Type::kIsGone;
  identity::Pod pod;            // with kIsGone, its uid alone
  std::string resourceVersion;  // may be empty
};
// One line of a watch. kOutOfRange: the watch's place is too old (410 Gone), so list again. kUnavailable: another error
// of the server, or a line that makes no sense.
absl::StatusOr<PodEvent> ParseEvent(std::string_view line);

// A JSON patch (RFC 6902) that takes the taints with this key away from a node, and fails if the taints have changed
// since. nullopt: there is none. kUnavailable: it is no node.
absl::StatusOr<std::optional<std::string>> PatchWithoutTaint(std::string_view node, std::string_view key);

// The reason in the body of an error, cut and printable, with ": " before it; empty when there is none.
std::string ReasonOf(std::string_view json);

}  // namespace kveil::kubernetes
