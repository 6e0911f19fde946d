// Memory for coroutine frames, from per-thread free lists by size class: nearly every call of a coroutine allocates a
// frame, in the same few sizes. Under AddressSanitizer these are plain allocations, so that it sees every frame.
#pragma once

#include <cstddef>

namespace kveil::io::internal {

void* AllocateFrame(size_t size);
void FreeFrame(void* frame, size_t size) noexcept;

}  // namespace kveil::io::internal
