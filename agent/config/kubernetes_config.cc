#include "config/kubernetes_config.h"

#include <stdlib.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/ascii.h"
#include "base/text.h"
#include "config/json_value.h"
#include "config/service_address.h"

namespace kveil::config {
namespace {

constexpr size_t kLongestNode = 253;

std::string Environment(const char* name) {
  const char* const value = ::getenv(name);
  return value == nullptr ? "" : value;
}

bool IsNodeName(std::string_view text) {
  return !text.empty() && text.size() <= kLongestNode && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-' || c == '.';
  });
}

// A DNS name, a slash and a name:
// https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set
bool IsTaintKey(std::string_view text) {
  return text.size() <= 317 && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || std::string_view("-_./").find(c) != std::string_view::npos;
         });
}

std::string ApiServerOfPod() {
  const std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty()) return "";
  return host.find(':') == std::string::npos ? StrCat("https://", host, ":", port)
                                             : StrCat("https://[", host, "]:", port);
}

}  // namespace

KubernetesConfig ReadKubernetes(const JsonValue& value) {
  KubernetesConfig kubernetes;
  const JsonObject object(value, {"node", "apiServer", "ca", "tokenFile", "startupTaint", "identityTimeout"});
  if (const auto node = object.Find("node")) {
    kubernetes.node = node->String();
    if (!kubernetes.node.empty() && !IsNodeName(kubernetes.node)) node->Expected("the name of a Kubernetes node");
  } else {
    kubernetes.node = Environment("KVEIL_NODE_NAME");
    if (!IsNodeName(kubernetes.node)) {
      value.Error("the node's name is missing: give \"node\", or KVEIL_NODE_NAME in the environment");
    }
  }
  if (const auto server = object.Find("apiServer")) {
    kubernetes.apiServer = ReadServiceAddress(*server, "https://10.96.0.1:443");
  } else {
    kubernetes.apiServer = ApiServerOfPod();
    if (kubernetes.apiServer.empty()) {
      value.Error("the API server's address is missing: give \"apiServer\", or run in a pod");
    }
  }
  if (const auto ca = object.Find("ca")) kubernetes.ca = ca->FilePath();
  if (const auto file = object.Find("tokenFile")) kubernetes.tokenFile = file->FilePath();
  if (const auto taint = object.Find("startupTaint")) {
    kubernetes.startupTaint = taint->String();
    if (!kubernetes.startupTaint.empty() && !IsTaintKey(kubernetes.startupTaint)) {
      taint->Expected("a taint's key such as \"kveil.io/agent-not-ready\"");
    }
  }
  if (const auto timeout = object.Find("identityTimeout")) {
    kubernetes.identityTimeout = timeout->Duration(std::chrono::milliseconds(0), std::chrono::seconds(60));
  }
  return kubernetes;
}

}  // namespace kveil::config
