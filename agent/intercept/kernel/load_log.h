// What libbpf and the verifier have to say while programs are loaded.
#pragma once

#include <bpf/libbpf.h>

#include <string>

#include "base/mutex.h"

namespace kveil::intercept {

// Listens from its beginning to its end. libbpf has one print function for the whole process: who loads holds a lock.
class LoadLog {
 public:
  LoadLog();
  ~LoadLog();
  LoadLog(const LoadLog&) = delete;
  LoadLog& operator=(const LoadLog&) = delete;

  // The lines that say why: the last ones of the verifier's log if there is one, and libbpf's own after them.
  std::string LastLines() const;

 private:
  MutexLock lock_;
  libbpf_print_fn_t previous_;
};

}  // namespace kveil::intercept
