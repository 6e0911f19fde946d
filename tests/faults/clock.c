// Shifts the wall clock that one process sees: it is loaded with LD_PRELOAD, and KVEIL_SHIFT names a file of 8 bytes,
// the seconds. What is written there counts at once. The monotonic clock, the kernel's own timeouts and the times of
// files stay as they are.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t* shift;
static int (*kernels)(clockid_t, struct timespec*);

__attribute__((constructor)) static void Prepare(void) {
  kernels = dlsym(RTLD_NEXT, "clock_gettime");  // NOLINT: by the vDSO
  const char* path = getenv("KVEIL_SHIFT");
  const int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  void* mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();  // A clock that cannot be shifted proves nothing.
  close(file);
  shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  const int result = kernels != NULL ? kernels(clock, now) : (int)syscall(SYS_clock_gettime, clock, now);
  const int isWall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
  if (result == 0 && isWall && shift != NULL) now->tv_sec += *shift;
  return result;
}

int gettimeofday(struct timeval* now, void* zone) {
  (void)zone;
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec;
  now->tv_usec = precise.tv_nsec / 1000;
  return 0;
}

time_t time(time_t* now) {
  struct timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (now != NULL) *now = precise.tv_sec;
  return precise.tv_sec;
}
