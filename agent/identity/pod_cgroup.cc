#include "identity/pod_cgroup.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/text.h"
#include "identity/cgroup_path.h"

namespace kveil::identity {
namespace {

constexpr absl::string_view kQosClasses[] = {"burstable", "besteffort"};

// The uid of an object is a UUID; a static pod's is a hash in hexadecimal digits.
bool IsUid(absl::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c) || c == '-'; });
}

std::optional<absl::string_view> WithoutPrefix(absl::string_view text, absl::string_view prefix) {
  return absl::ConsumePrefix(&text, prefix) ? std::optional(text) : std::nullopt;
}

// What is below "kubepods": [QoS class] pod<uid>.
std::string UidBelow(absl::Span<const absl::string_view> components) {
  if (!components.empty() && absl::c_linear_search(kQosClasses, components[0])) components.remove_prefix(1);
  if (components.empty()) return "";
  const std::optional<absl::string_view> uid = WithoutPrefix(components[0], "pod");
  return uid.has_value() && IsUid(*uid) ? std::string(*uid) : "";
}

// What is below SLICE, each name of which begins with that of the slice above: [SLICE-class.slice]
// SLICE[-class]-pod<uid>.
std::string UidBelowSlice(absl::string_view slice, absl::Span<const absl::string_view> components) {
  std::string above(slice);
  for (const absl::string_view qosClass : kQosClasses) {
    if (components.empty() || components[0] != StrCat(above, "-", qosClass, ".slice")) continue;
    StrAppend(&above, "-", qosClass);
    components.remove_prefix(1);
    break;
  }
  if (components.empty()) return "";
  absl::string_view name = components[0];
  if (!absl::ConsumeSuffix(&name, ".slice") || !absl::ConsumePrefix(&name, StrCat(above, "-pod"))) return "";
  std::string uid(name);
  std::replace(uid.begin(), uid.end(), '_', '-');
  return IsUid(uid) ? uid : "";
}

}  // namespace

std::string PodUidOf(std::string_view cgroupPath) {
  const std::vector<absl::string_view> components = absl::StrSplit(ToAbsl(cgroupPath), '/', absl::SkipEmpty());
  for (size_t i = 0; i < components.size(); ++i) {
    const absl::Span<const absl::string_view> below = absl::MakeConstSpan(components).subspan(i + 1);
    absl::string_view name = components[i];
    if (name == "kubepods") return UidBelow(below);
    if (!absl::ConsumeSuffix(&name, ".slice")) return "";
    if (name == "kubepods" || absl::EndsWith(name, "-kubepods")) return UidBelowSlice(name, below);
  }
  return "";
}

}  // namespace kveil::identity
