// A Kubernetes pod, as the API server describes it.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace kveil::identity {

struct Pod {
  std::string uid;  // "5f0c3a2e-..."
  std::string nameSpace;
  std::string name;
  std::string serviceAccount;                               // its name within nameSpace
  std::vector<std::pair<std::string, std::string>> labels;  // in the order of their keys

  bool operator==(const Pod&) const = default;
};

}  // namespace kveil::identity
