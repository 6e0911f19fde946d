// The Kubernetes node that the agent runs on: `kubernetes`.
#pragma once

#include <chrono>
#include <string>

namespace kveil::config {

struct KubernetesConfig {
  std::string node;       // the name of the node
  std::string apiServer;  // "https://10.96.0.1:443"; http only on loopback
  std::string ca = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";        // path of a PEM file
  std::string tokenFile = "/var/run/secrets/kubernetes.io/serviceaccount/token";  // path
  std::string startupTaint;  // key of the taint to take away when the agent is ready; empty: none
  std::chrono::milliseconds identityTimeout = std::chrono::seconds(3);  // how long a connection waits for its pod
};

class JsonValue;

// What the object does not say comes from where Kubernetes has it in a pod: KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT of the environment, the service account's files; and the node from KVEIL_NODE_NAME, which the
// DaemonSet sets.
KubernetesConfig ReadKubernetes(const JsonValue& value);

}  // namespace kveil::config
