// Neither tasks nor operations allocate once a loop is warm.
#include <atomic>
#include <cstdlib>
#include <new>

#include "harness.h"
#include "io/both.h"
#include "io/event.h"
#include "io/mutex.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KVEIL_SANITIZED 1
#endif
#endif
// Sanitizers own the allocator, and frames are not pooled under them.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(KVEIL_SANITIZED)

namespace {
std::atomic<size_t> allocations{0};
}  // namespace

void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(size);  // NOLINT(cppcoreguidelines-no-malloc)
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace kveil::io {
namespace {

using AllocationTest = LoopTest;

Task<int> ReceiveOnce(Loop& loop, Socket& socket) {
  const absl::Status readable = co_await socket.Readable(In(std::chrono::seconds(30)));
  if (!readable.ok()) co_return -1;
  PooledBuffer buffer = co_await loop.receiveBuffers().Acquire();
  co_return co_await socket.Recv(MutableBytes(buffer.data(), buffer.size()));
}

Task<void> Ask(Loop& loop, Socket& socket, Mutex& mutex, int rounds, size_t* warm) {
  for (int i = 0; i < rounds; ++i) {
    if (i == rounds / 2) *warm = allocations.load();
    const auto lock = co_await mutex.Lock();
    const iovec slices[] = {SliceOf("a"), SliceOf("b")};
    const absl::Status sent = co_await socket.SendAll(slices, In(std::chrono::seconds(30)));
    EXPECT_TRUE(sent.ok()) << sent;
    auto receiving = ReceiveOnce(loop, socket);
    EXPECT_EQ(co_await std::move(receiving), 2);
    co_await loop.Sleep(std::chrono::microseconds(1));
  }
  *warm = allocations.load() - *warm;
}

Task<void> AskAndEcho(Loop& loop, Pair pair, size_t* allocated) {
  Socket near(loop, std::move(pair.near));
  Socket far(loop, std::move(pair.far));
  Mutex nearMutex;
  Mutex farMutex;
  size_t ignored = 0;
  // Both say something first and hear the other then.
  auto both = Both(Ask(loop, near, nearMutex, 1000, allocated), Ask(loop, far, farMutex, 1000, &ignored));
  co_await std::move(both);
  auto closeBoth = Both(CloseSocket(near), CloseSocket(far));
  co_await std::move(closeBoth);
}

TEST_F(AllocationTest, AWarmLoopAllocatesNothing) {
  size_t allocated = 1;
  RunToEnd(AskAndEcho(*loop_, TcpPair(), &allocated));
  EXPECT_EQ(allocated, 0u);
}

}  // namespace
}  // namespace kveil::io

#endif
