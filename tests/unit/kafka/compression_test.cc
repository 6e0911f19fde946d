// The codecs: what they take, what they refuse, and that output stays within its limit.
#include "kafka/compression.h"

#include <gtest/gtest.h>
#include <lz4frame.h>
#include <snappy.h>
#include <zstd.h>

#include <random>
#include <string>

#include "kafka/big_endian.h"

namespace kveil::kafka {
namespace {

constexpr Codec kCodecs[] = {Codec::kNone, Codec::kGzip, Codec::kSnappy, Codec::kLz4, Codec::kZstd};

ByteBuffer Sample(size_t size, bool compressible) {
  ByteBuffer bytes(size);
  std::mt19937 random(7);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<uint8_t>(compressible ? (i / 7) % 23 : random());
  }
  return bytes;
}

TEST(CompressionTest, EveryCodecGivesBackWhatItTook) {
  for (const Codec codec : kCodecs) {
    for (const size_t size : {0, 1, 100, 65536, 262144, 262145, 3000000}) {
      for (const bool compressible : {true, false}) {
        const ByteBuffer input = Sample(size, compressible);
        ByteBuffer compressed(5, 1);
        ByteBuffer output(7, 2);
        ASSERT_TRUE(Compress(codec, input, compressed).ok());
        const absl::Status status = Decompress(codec, compressed, size, output);
        ASSERT_TRUE(status.ok()) << CodecName(codec) << " " << size << " " << status;
        EXPECT_EQ(output, input) << CodecName(codec) << " " << size;
        EXPECT_GE(output.capacity(), output.size() + kTailPadding);
      }
    }
  }
}

TEST(CompressionTest, OneByteMoreThanTheLimitIsRefused) {
  const ByteBuffer input = Sample(100000, true);
  for (const Codec codec : kCodecs) {
    ByteBuffer compressed;
    ByteBuffer output;
    ASSERT_TRUE(Compress(codec, input, compressed).ok());
    EXPECT_TRUE(Decompress(codec, compressed, 100000, output).ok());
    EXPECT_EQ(Decompress(codec, compressed, 99999, output).code(), absl::StatusCode::kResourceExhausted)
        << CodecName(codec);
    EXPECT_LE(output.capacity(), 200000u) << CodecName(codec);
  }
}

TEST(CompressionTest, CutShortAnywhereIsRefused) {
  const ByteBuffer input = Sample(300, false);
  for (const Codec codec : kCodecs) {
    if (codec == Codec::kNone) continue;
    ByteBuffer compressed;
    ByteBuffer output;
    ASSERT_TRUE(Compress(codec, input, compressed).ok());
    for (size_t size = 0; size < compressed.size(); ++size) {
      const std::vector<uint8_t> cut(compressed.begin(), compressed.begin() + static_cast<ptrdiff_t>(size));
      // snappy-java ends a stream where the input ends, and so do we: after the header there may be no block.
      if (codec == Codec::kSnappy && size == 16) continue;
      EXPECT_FALSE(Decompress(codec, cut, 1 << 20, output).ok()) << CodecName(codec) << " " << size;
    }
    // The same thread's contexts are of use afterwards.
    EXPECT_TRUE(Decompress(codec, compressed, 1 << 20, output).ok()) << CodecName(codec);
    EXPECT_EQ(output, input);
  }
}

TEST(CompressionTest, NoiseIsRefused) {
  for (const Codec codec : kCodecs) {
    if (codec == Codec::kNone) continue;
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
      std::vector<uint8_t> noise(1 + random() % 100);
      for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
      ByteBuffer output;
      if (codec == Codec::kSnappy) {
        (void)Decompress(codec, noise, 1 << 16, output);  // short noise can be well-formed raw snappy
        EXPECT_LE(output.size(), size_t{1} << 16);
      } else {
        EXPECT_FALSE(Decompress(codec, noise, 1 << 16, output).ok()) << CodecName(codec);
      }
    }
  }
}

TEST(CompressionTest, CodecsThatAreNotAssignedAreRefused) {
  ByteBuffer output;
  for (const int codec : {5, 6, 7}) {
    EXPECT_EQ(Compress(static_cast<Codec>(codec), Bytes(), output).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(Decompress(static_cast<Codec>(codec), Bytes(), 10, output).code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(SnappyTest, RawAndXerialFramingAreBothRead) {
  const ByteBuffer input = Sample(100000, true);
  std::string raw;
  snappy::Compress(reinterpret_cast<const char*>(input.data()), input.size(), &raw);
  ByteBuffer output;
  ASSERT_TRUE(Decompress(Codec::kSnappy, AsBytes(raw), 1 << 20, output).ok());
  EXPECT_EQ(output, input);
  std::string framed("\x82SNAPPY\0\0\0\0\1\0\0\0\1", 16);
  for (const size_t half : {size_t{0}, input.size() / 2}) {
    std::string block;
    snappy::Compress(reinterpret_cast<const char*>(input.data()) + half, input.size() / 2, &block);
    uint8_t length[4];
    StoreBigEndian(length, static_cast<int32_t>(block.size()));
    framed.append(reinterpret_cast<const char*>(length), 4).append(block);
  }
  ASSERT_TRUE(Decompress(Codec::kSnappy, AsBytes(framed), 1 << 20, output).ok());
  EXPECT_EQ(output, input);
  ByteBuffer ours;
  ASSERT_TRUE(Compress(Codec::kSnappy, input, ours).ok());
  EXPECT_EQ(AsText(ours).substr(0, 16), std::string_view(framed).substr(0, 16));
}

TEST(Lz4Test, IsWrittenAsJavaReadsIt) {
  ByteBuffer compressed;
  ASSERT_TRUE(Compress(Codec::kLz4, Sample(300000, true), compressed).ok());
  // FLG: version 01, block independence 1, and no checksums or content size.
  EXPECT_EQ(LoadBigEndian<uint32_t>(compressed.data()), 0x04224d18u);
  EXPECT_EQ(compressed[4], 0x60);
}

TEST(Lz4Test, DependentBlocksAreRead) {
  const ByteBuffer input = Sample(300000, true);
  LZ4F_preferences_t preferences = {};
  preferences.frameInfo.blockSizeID = LZ4F_max64KB;
  preferences.frameInfo.blockMode = LZ4F_blockLinked;
  preferences.frameInfo.contentChecksumFlag = LZ4F_contentChecksumEnabled;
  ByteBuffer compressed(LZ4F_compressFrameBound(input.size(), &preferences));
  compressed.resize(LZ4F_compressFrame(compressed.data(), compressed.size(), input.data(), input.size(), &preferences));
  ByteBuffer output;
  ASSERT_TRUE(Decompress(Codec::kLz4, compressed, 1 << 20, output).ok());
  EXPECT_EQ(output, input);
}

TEST(ZstdTest, FramesWithoutContentSizeAreRead) {
  const ByteBuffer input = Sample(300000, true);
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  ByteBuffer compressed(ZSTD_compressBound(input.size()));
  compressed.resize(ZSTD_compress2(context, compressed.data(), compressed.size(), input.data(), input.size()));
  ZSTD_freeCCtx(context);
  ByteBuffer output;
  ASSERT_TRUE(Decompress(Codec::kZstd, compressed, input.size(), output).ok());
  EXPECT_EQ(output, input);
}

}  // namespace
}  // namespace kveil::kafka
