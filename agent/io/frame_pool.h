// Memory for coroutine frames: free lists of this thread by size class, because a frame is made for nearly every call
// of a coroutine and has the same few sizes again and again. Plain allocation under AddressSanitizer, so that it sees
// every frame.
#pragma once

#include <cstddef>

namespace kveil::io::internal {

void* AllocateFrame(size_t size);
void FreeFrame(void* frame, size_t size) noexcept;

}  // namespace kveil::io::internal
