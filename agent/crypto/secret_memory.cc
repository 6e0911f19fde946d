#include "crypto/secret_memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

namespace kveil::crypto {

SecretMemory::SecretMemory(size_t size) : size_(size) {
  void* const pages = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    log::Error("crypto.memory", {{"error", strerror(errno)}});
    log::Flush();
    abort();
  }
  data_ = static_cast<uint8_t*>(pages);
  // Both may be forbidden, as in a container: the keys are then as safe as all other memory is.
  (void)::madvise(pages, size, MADV_DONTDUMP);
  (void)::madvise(pages, size, MADV_DONTFORK);  // a child would keep what is wiped here
  (void)::mlock2(pages, size, MLOCK_ONFAULT);
}

SecretMemory::~SecretMemory() { ::munmap(data_, size_); }

}  // namespace kveil::crypto
