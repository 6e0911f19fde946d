// Where descriptors are kept while one process of the agent ends and the next one begins.
#pragma once

#include <string>
#include <vector>

#include "base/unique_fd.h"

namespace kveil {

struct KeptDescriptor {
  std::string name;
  UniqueFd fd;
};

// Any thread.
class DescriptorStore {
 public:
  virtual ~DescriptorStore() = default;

  // Keeps a duplicate, until it is forgotten or the service is stopped. Names are ASCII without ':', at most 255 bytes.
  // False: it was not kept.
  virtual bool Keep(const std::string& name, int fd) = 0;
  // Closes what is kept by that name.
  virtual void Forget(const std::string& name) = 0;
  // What earlier processes have kept; each is given once, and stays kept.
  virtual std::vector<KeptDescriptor> TakeKept() = 0;
};

}  // namespace kveil
