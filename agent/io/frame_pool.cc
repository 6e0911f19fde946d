#include "io/frame_pool.h"

#include <array>
#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define KVEIL_POOL_FRAMES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KVEIL_POOL_FRAMES 0
#endif
#endif
#ifndef KVEIL_POOL_FRAMES
#define KVEIL_POOL_FRAMES 1
#endif

namespace kveil::io::internal {

#if KVEIL_POOL_FRAMES
namespace {

constexpr size_t kClassSize = 64;
constexpr size_t kClasses = 16;  // frames of up to 1 KiB; larger ones are made once per connection
constexpr uint16_t kMostKept = 256;

struct FreeFrameLink {
  FreeFrameLink* next;
};

struct FreeList {
  FreeFrameLink* first = nullptr;
  uint16_t count = 0;
};

struct ThreadFrames {
  std::array<FreeList, kClasses> lists{};
  bool reaperRuns = false;  // the thread's end will free what is kept
  bool ended = false;
};

// Without a destructor of its own, so that using it needs no check whether it has been constructed.
constinit thread_local ThreadFrames frames;

struct Reaper {
  Reaper() { frames.reaperRuns = true; }
  ~Reaper() {
    frames.ended = true;
    for (FreeList& list : frames.lists) {
      while (list.first != nullptr) {
        FreeFrameLink* const freed = list.first;
        list.first = freed->next;
        ::operator delete(freed);
      }
    }
  }
  void Touch() {}
};
thread_local Reaper reaper;

constexpr size_t ClassOf(size_t size) { return (size - 1) / kClassSize; }

}  // namespace

void* AllocateFrame(size_t size) {
  const size_t sizeClass = ClassOf(size);
  if (sizeClass >= kClasses) return ::operator new(size);
  FreeList& list = frames.lists[sizeClass];
  if (list.first == nullptr) return ::operator new((sizeClass + 1) * kClassSize);
  FreeFrameLink* const taken = list.first;
  list.first = taken->next;
  --list.count;
  return taken;
}

void FreeFrame(void* frame, size_t size) noexcept {
  const size_t sizeClass = ClassOf(size);
  if (sizeClass >= kClasses || frames.ended || frames.lists[sizeClass].count == kMostKept) {
    ::operator delete(frame);
    return;
  }
  if (!frames.reaperRuns) reaper.Touch();
  FreeList& list = frames.lists[sizeClass];
  list.first = new (frame) FreeFrameLink{list.first};
  ++list.count;
}

#else

void* AllocateFrame(size_t size) { return ::operator new(size); }
void FreeFrame(void* frame, size_t) noexcept { ::operator delete(frame); }

#endif

}  // namespace kveil::io::internal
