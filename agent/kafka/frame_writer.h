// Collects frames as slices: small fields are copied into memory of its own, long byte fields are only referred to.
//
//   writer.BeginFrame();
//   WriteResponseHeader(ApiKey::kFetch, version, correlationId, writer);
//   Encode(response, version, writer);
//   writer.FinishFrame();
//   send(writer.Slices());     // what was referred to must still be there
//   writer.Clear();            // keeps its memory for the next use
//
// Several frames may follow each other. There are no errors: callers check by size() that a frame is not too long.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "base/bytes.h"
#include "kafka/big_endian.h"

namespace kveil::kafka {

class FrameWriter {
 public:
  // Shorter byte fields are copied: an iovec costs the kernel about as much as copying this many bytes.
  static constexpr size_t kReferenceThreshold = 512;

  FrameWriter() = default;
  FrameWriter(FrameWriter&&) = default;
  FrameWriter& operator=(FrameWriter&&) = default;

  // Starts a frame: room for its int32 length. Frames do not nest.
  void BeginFrame();
  // Patches the length of the frame that BeginFrame started.
  void FinishFrame();

  template <typename Integer>
  void Int(Integer value) {
    StoreBigEndian(Extend(sizeof(value)), value);
  }
  void UnsignedVarint(uint64_t value);
  // Copies the bytes.
  void Copy(Bytes bytes);
  void Copy(std::string_view text) { Copy(AsBytes(text)); }
  // Refers to the bytes when they are kReferenceThreshold or more, copies them otherwise.
  void Append(Bytes bytes);
  // Appends all of the other writer's bytes by the rule of Append.
  void Append(const FrameWriter& other);

  // Bytes in all slices.
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // Bytes of memory that the writer takes, without the bytes that it refers to.
  size_t ownBytes() const {
    return own_.capacity() + pieces_.capacity() * sizeof(Piece) + slices_.capacity() * sizeof(iovec);
  }
  // The bytes in order. Valid until the next call that writes or clears.
  absl::Span<const iovec> Slices() const;
  // The bytes in one piece, for tests and short messages.
  ByteBuffer ToBuffer() const;
  void Clear();

 private:
  static constexpr size_t kKeptBytes = 64 << 10;

  // A run of bytes, outside (external set) or in own_ (from offset; pointers into own_ would not survive its growth).
  struct Piece {
    const uint8_t* external;
    size_t offset;
    size_t size;
  };

  // Room for that many bytes at the end of the last own piece.
  uint8_t* Extend(size_t size);

  ByteBuffer own_;
  std::vector<Piece> pieces_;
  size_t size_ = 0;
  size_t frameOffset_ = 0;  // of the length field, in own_
  size_t frameStart_ = 0;   // size_ after the length field
  mutable std::vector<iovec> slices_;
};

}  // namespace kveil::kafka
