// How frames are collected.
#include "kafka/frame_writer.h"

#include "kafka/varint.h"

namespace kveil::kafka {

uint8_t* FrameWriter::Extend(size_t size) {
  const size_t offset = own_.size();
  own_.resize(offset + size);
  if (pieces_.empty() || pieces_.back().external != nullptr) pieces_.push_back({nullptr, offset, 0});
  pieces_.back().size += size;
  size_ += size;
  return own_.data() + offset;
}

void FrameWriter::BeginFrame() {
  frameOffset_ = own_.size();
  Int(int32_t{0});
  frameStart_ = size_;
}

void FrameWriter::FinishFrame() {
  StoreBigEndian(own_.data() + frameOffset_, static_cast<int32_t>(size_ - frameStart_));
}

void FrameWriter::UnsignedVarint(uint64_t value) { WriteUnsignedVarint(Extend(UnsignedVarintSize(value)), value); }

void FrameWriter::Copy(Bytes bytes) {
  if (!bytes.empty()) std::memcpy(Extend(bytes.size()), bytes.data(), bytes.size());
}

void FrameWriter::Append(Bytes bytes) {
  if (bytes.size() < kReferenceThreshold) {
    Copy(bytes);
    return;
  }
  pieces_.push_back({bytes.data(), 0, bytes.size()});
  size_ += bytes.size();
}

void FrameWriter::Append(const FrameWriter& other) {
  for (const Piece& piece : other.pieces_) {
    if (piece.external == nullptr) {
      Copy(Bytes(other.own_.data() + piece.offset, piece.size));
    } else {
      Append(Bytes(piece.external, piece.size));
    }
  }
}

absl::Span<const iovec> FrameWriter::Slices() const {
  slices_.clear();
  for (const Piece& piece : pieces_) {
    const uint8_t* start = piece.external == nullptr ? own_.data() + piece.offset : piece.external;
    slices_.push_back({const_cast<uint8_t*>(start), piece.size});
  }
  return slices_;
}

ByteBuffer FrameWriter::ToBuffer() const {
  ByteBuffer buffer;
  buffer.reserve(size_);
  for (const iovec& slice : Slices()) {
    kveil::Append(buffer, Bytes(static_cast<const uint8_t*>(slice.iov_base), slice.iov_len));
  }
  return buffer;
}

void FrameWriter::Clear() {
  // Every connection has some of these: a message of very many parts is seldom, and what it took is not kept.
  if (own_.capacity() > kKeptBytes || pieces_.capacity() * sizeof(Piece) > kKeptBytes) {
    *this = FrameWriter();
    return;
  }
  own_.clear();
  pieces_.clear();
  slices_.clear();
  size_ = 0;
}

}  // namespace kveil::kafka
