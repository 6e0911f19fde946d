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

struct PodObject {
  std::string object;  // its uid at the API server
  identity::Pod pod;   // whose uid is what the kubelet calls it, and its cgroup
  // It stands for a static pod, which the kubelet has from a file: the two uids differ.
  bool isMirror() const { return object != pod.uid; }
};
// One pod of a list. nullopt: it is no pod that has a uid and a name, or a mirror that stands for no static pod (any
// more). kUnavailable: it is not JSON.
absl::StatusOr<std::optional<PodObject>> ParsePod(std::string_view json);

// The resource version of a list, where a watch goes on from. Its items may be left out. kUnavailable: it is no list.
absl::StatusOr<std::string> VersionOfList(std::string_view json);

// kUnavailable, with what is wrong in a response.
absl::Status MakesNoSense(std::string_view what);

struct PodEvent {
  enum class Type : uint8_t { kIsThere, kIsGone };
  Type type = Type::kIsGone;
  PodObject pod;                // with kIsGone, its object's uid alone
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
