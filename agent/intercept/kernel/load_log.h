// Collects what libbpf and the verifier print while programs are loaded.
#pragma once

#include <bpf/libbpf.h>

#include <string>

#include "base/mutex.h"

namespace kveil::intercept {

// Collects as long as it lives. libbpf has one print function per process, so it holds a lock.
class LoadLog {
 public:
  LoadLog();
  ~LoadLog();
  LoadLog(const LoadLog&) = delete;
  LoadLog& operator=(const LoadLog&) = delete;

  // The lines that say why: the last ones of the verifier's log, if any, then libbpf's own.
  std::string LastLines() const;

 private:
  MutexLock lock_;
  libbpf_print_fn_t previous_;
};

}  // namespace kveil::intercept
