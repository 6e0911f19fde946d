#include "kubernetes/messages.h"

#include <algorithm>

#include "base/text.h"
#include "http/printable.h"
#include "nlohmann/json.hpp"
#include "simdjson.h"

namespace kveil::kubernetes {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kLongestName = 253;  // of an object: RFC 1123 as Kubernetes has it
// A pod has this annotation from its beginning or never: the API server refuses a change of it.
constexpr std::string_view kMirror = "/metadata/annotations/kubernetes.io~1config.mirror";

std::optional<std::string_view> Text(dom::element element, std::string_view pointer) {
  std::string_view text;
  if (element.at_pointer(pointer).get_string().get(text)) return std::nullopt;
  return text;
}

std::optional<std::string> Name(dom::element object, std::string_view pointer) {
  const std::optional<std::string_view> text = Text(object, pointer);
  if (!text.has_value() || text->empty() || text->size() > kLongestName) return std::nullopt;
  return std::string(*text);
}

bool ReadLabels(dom::element object, identity::Pod& pod) {
  dom::object labels;
  if (object.at_pointer("/metadata/labels").get_object().get(labels)) return true;  // it has none
  size_t bytes = 0;
  for (const dom::key_value_pair label : labels) {
    std::string_view value;
    if (label.value.get_string().get(value)) return false;
    bytes += label.key.size() + value.size();
    if (bytes > kMostLabelBytes) return false;
    pod.labels.emplace_back(label.key, value);
  }
  std::sort(pod.labels.begin(), pod.labels.end());
  return true;
}

// The kubelet gives a static pod the hash of its file as uid, and writes that into the annotations of the pod's mirror,
// which has an ordinary uid: https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-config-hash
// Whoever may create pods may write these annotations. A hash has no "-" and so is no other pod's uid. A false mirror
// is deleted by the kubelet, but with a finalizer its object stays for as long as its maker likes: a mirror that is
// being deleted stands for nothing. The kubelet makes a new one of a static pod that goes on.
std::optional<std::string> UidOfStaticPod(dom::element object) {
  if (Text(object, "/metadata/deletionTimestamp").has_value()) return std::nullopt;
  const std::optional<std::string> hash = Name(object, "/metadata/annotations/kubernetes.io~1config.hash");
  if (!hash.has_value() || hash->find('-') != std::string::npos) return std::nullopt;
  return hash;
}

std::optional<PodObject> PodFrom(dom::element object) {
  const std::optional<std::string> uid = Name(object, "/metadata/uid");
  const std::optional<std::string> nameSpace = Name(object, "/metadata/namespace");
  const std::optional<std::string> name = Name(object, "/metadata/name");
  if (!uid.has_value() || !nameSpace.has_value() || !name.has_value()) return std::nullopt;
  PodObject found{.object = *uid, .pod = {.uid = *uid, .nameSpace = *nameSpace, .name = *name}};
  if (Text(object, kMirror).has_value()) {
    // No process is in a mirror, so without a static pod it is no one's.
    std::optional<std::string> hash = UidOfStaticPod(object);
    if (!hash.has_value()) return std::nullopt;
    found.pod.uid = *std::move(hash);
  }
  // A static pod has none.
  found.pod.serviceAccount = Name(object, "/spec/serviceAccountName").value_or("");
  return ReadLabels(object, found.pod) ? std::optional(std::move(found)) : std::nullopt;
}

}  // namespace

absl::Status MakesNoSense(std::string_view what) {
  return absl::UnavailableError(StrCat("the Kubernetes API server's response makes no sense: ", what));
}

absl::StatusOr<std::optional<PodObject>> ParsePod(std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json).get(root)) return MakesNoSense("it is not JSON");
  return PodFrom(root);
}

absl::StatusOr<std::string> VersionOfList(std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json).get(root)) return MakesNoSense("it is not JSON");
  const std::optional<std::string_view> version = Text(root, "/metadata/resourceVersion");
  dom::array items;
  if (!version.has_value() || version->empty() || root.at_pointer("/items").get_array().get(items)) {
    return MakesNoSense("it is no list of pods");
  }
  return std::string(*version);
}

absl::StatusOr<PodEvent> ParseEvent(std::string_view line) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(line).get(root)) return MakesNoSense("an event is not JSON");
  const std::optional<std::string_view> type = Text(root, "/type");
  dom::element object;
  if (!type.has_value() || root.at_pointer("/object").get(object))
    return MakesNoSense("an event without a type or object");
  PodEvent event;
  if (*type == "ERROR") {
    int64_t code = 0;
    if (!object.at_pointer("/code").get_int64().get(code) && code == 410) {
      return absl::OutOfRangeError("the watch's place is too old");
    }
    return absl::UnavailableError(
        StrCat("the Kubernetes API server ends the watch: ", http::Printable(Text(object, "/message").value_or(""))));
  }
  event.resourceVersion = Name(object, "/metadata/resourceVersion").value_or("");
  std::optional<PodObject> pod = PodFrom(object);
  if (*type == "DELETED") {
    event.type = PodEvent::Type::kIsGone;
    event.pod.object = Name(object, "/metadata/uid").value_or("");
  } else if (*type == "ADDED" || *type == "MODIFIED") {
    // What became unreadable is not known any more.
    event.type = pod.has_value() ? PodEvent::Type::kIsThere : PodEvent::Type::kIsGone;
    event.pod.object = Name(object, "/metadata/uid").value_or("");
    if (pod.has_value()) event.pod = *std::move(pod);
  } else {
    return MakesNoSense("an event of an unknown type");
  }
  return event;
}

absl::StatusOr<std::optional<std::string>> PatchWithoutTaint(std::string_view node, std::string_view key) {
  // A copy that keeps what it does not know, as the patch repeats it.
  const nlohmann::json json = nlohmann::json::parse(node, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return MakesNoSense("it is no node");
  const nlohmann::json::json_pointer place("/spec/taints");
  if (!json.contains(place)) return std::nullopt;
  const nlohmann::json& taints = json.at(place);
  if (!taints.is_array()) return MakesNoSense("a node's taints are no list");
  nlohmann::json others = nlohmann::json::array();
  for (const nlohmann::json& taint : taints) {
    if (!taint.is_object() || taint.value("key", "") != key) others.push_back(taint);
  }
  if (others.size() == taints.size()) return std::nullopt;
  return nlohmann::json{{{"op", "test"}, {"path", "/spec/taints"}, {"value", taints}},
                        {{"op", "replace"}, {"path", "/spec/taints"}, {"value", others}}}
      .dump();
}

std::string ReasonOf(std::string_view json) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(json).get(root)) return "";
  const std::optional<std::string_view> message = Text(root, "/message");
  return message.has_value() && !message->empty() ? StrCat(": ", http::Printable(*message)) : "";
}

}  // namespace kveil::kubernetes
