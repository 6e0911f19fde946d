// Sealing and opening, as the hot path does it: header, additional data and AES-GCM for each record of a batch.
//
//   build/release/crypto_bench [--benchmark_filter=...]
//
// Arguments: bytes of a value, engine (0 libipsec-mb, 1 OpenSSL). Time is for one record.
#include <benchmark/benchmark.h>

#include <vector>

#include "crypto/aead.h"
#include "crypto/envelope.h"
#include "crypto/hmac.h"
#include "crypto/key_id.h"

namespace kveil::crypto {
namespace {

constexpr uint64_t kRecords = 1000;  // a batch
constexpr std::string_view kTopic = "clickstream";

Engine EngineOf(const benchmark::State& state) { return state.range(1) == 0 ? Engine::kIpsecMb : Engine::kOpenSsl; }

// Returns false, with the reason in the report, when the CPU or the build lacks the engine.
bool CanRun(benchmark::State& state) {
  state.SetLabel(std::string(EngineName(EngineOf(state))));
  if (EngineAvailable(EngineOf(state))) return true;
  state.SkipWithError("this engine cannot run here");
  return false;
}

void CountRecords(benchmark::State& state) {
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

struct Batch {
  explicit Batch(Engine engine) : cipher(1, engine) {
    header.flags = kFlagMaskedKeyId;
    header.keyId = ComputeKeyId(scopeKey);
    NewSalt();
  }
  void NewSalt() {
    header.salt = RandomSalt();
    cipher.Expand(0, DeriveBatchKey(scopeKey, header.salt));
    header.recordIndex = 0;
  }
  void Seal(Bytes value, uint8_t* out) {
    const Bytes headerValue(headerBytes, WriteEnvelopeHeader(header, headerBytes));
    const Bytes built = aad.Of(headerValue, AsBytes("user-38"));
    cipher.Seal(0, NonceOf(header.suite, header.salt, header.recordIndex), built, value, out);
  }

  SecretKey scopeKey = SecretKey::Random();
  GcmKeys cipher;
  EnvelopeHeader header;
  uint8_t headerBytes[kMaxEnvelopeHeaderByIdSize];
  TopicAad aad{kTopic};
};

void SealRecord(benchmark::State& state) {
  if (!CanRun(state)) return;
  Batch batch(EngineOf(state));
  const ByteBuffer value(static_cast<size_t>(state.range(0)), 'v');
  ByteBuffer out(value.size() + kTagSize);
  for (auto _ : state) {
    if (++batch.header.recordIndex == kRecords) batch.NewSalt();
    batch.Seal(value, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountRecords(state);
}

void OpenRecord(benchmark::State& state) {
  if (!CanRun(state)) return;
  Batch batch(EngineOf(state));
  const ByteBuffer value(static_cast<size_t>(state.range(0)), 'v');
  ByteBuffer sealed(value.size() + kTagSize);
  batch.Seal(value, sealed.data());
  ByteBuffer out(value.size());
  const ByteBuffer headerValue(batch.headerBytes,
                               batch.headerBytes + WriteEnvelopeHeader(batch.header, batch.headerBytes));
  for (auto _ : state) {
    const auto header = ParseEnvelopeHeader(headerValue);
    const Bytes aad = batch.aad.Of(headerValue, AsBytes("user-38"));
    const Nonce nonce = NonceOf(header->suite, header->salt, header->recordIndex);
    const bool opened = batch.cipher.Open(0, nonce, aad, sealed, out.data());
    if (!opened) return state.SkipWithError("a record did not open");
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountRecords(state);
}

// A batch in which every record belongs to another user: a derivation, a key schedule and a mask for each.
void SealRecordOfANewUser(benchmark::State& state) {
  if (!CanRun(state)) return;
  Batch batch(EngineOf(state));
  KeyIdMask mask(SecretKey::Random());
  const KeyId id = batch.header.keyId;
  const ByteBuffer value(static_cast<size_t>(state.range(0)), 'v');
  ByteBuffer out(value.size() + kTagSize);
  for (auto _ : state) {
    batch.header.keyId = mask.Mask(id, batch.header.salt);
    batch.cipher.Expand(0, DeriveBatchKey(batch.scopeKey, batch.header.salt));
    batch.Seal(value, out.data());
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  CountRecords(state);
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  for (int64_t engine : {0, 1}) {
    for (int64_t size : {100, 1024, 16384}) benchmark->Args({size, engine});
  }
}

BENCHMARK(SealRecord)->Apply(Sizes);
BENCHMARK(OpenRecord)->Apply(Sizes);
BENCHMARK(SealRecordOfANewUser)->Args({100, 0})->Args({100, 1});

void DeriveKey(benchmark::State& state) {
  const SecretKey scopeKey = SecretKey::Random();
  const Salt salt = RandomSalt();
  for (auto _ : state) benchmark::DoNotOptimize(DeriveBatchKey(scopeKey, salt));
}
BENCHMARK(DeriveKey);

void ExpandKey(benchmark::State& state) {
  if (!CanRun(state)) return;
  GcmKeys keys(1, EngineOf(state));
  const SecretKey key = SecretKey::Random();
  for (auto _ : state) keys.Expand(0, key);
}
BENCHMARK(ExpandKey)->Args({0, 0})->Args({0, 1});

void MaskKeyId(benchmark::State& state) {
  KeyIdMask mask(SecretKey::Random());
  const Salt salt = RandomSalt();
  KeyId id;
  for (auto _ : state) benchmark::DoNotOptimize(id = mask.Mask(id, salt));
}
BENCHMARK(MaskKeyId);

void UnmaskSixtyFourKeyIds(benchmark::State& state) {
  KeyIdMask mask(SecretKey::Random());
  const std::vector<Salt> salts(64, RandomSalt());
  std::vector<KeyId> ids(64);
  for (auto _ : state) mask.Unmask(absl::MakeSpan(ids), salts);
}
BENCHMARK(UnmaskSixtyFourKeyIds);

void NewSaltFromTheKernel(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(RandomSalt());
}
BENCHMARK(NewSaltFromTheKernel);

}  // namespace
}  // namespace kveil::crypto

BENCHMARK_MAIN();
