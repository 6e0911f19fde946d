// What finding a user in JSON costs, beside simdjson's on-demand parser, which takes the first of two members of one
// name and reads no further. Time is a record's.
#include <benchmark/benchmark.h>

#include <string>

#include "base/text.h"
#include "formats/json_finder.h"
#include "simdjson.h"

namespace kveil::formats {
namespace {

constexpr size_t kPadding = 64;

// About `size` bytes of members, with the user in front, in the middle (1) or at the end (2).
std::string Document(int64_t size, int64_t place) {
  const std::string user = R"("userid":"6ba7b810")";
  std::string text = "{";
  bool isThere = false;
  for (int i = 0; static_cast<int64_t>(text.size() + user.size()) < size; ++i) {
    if (!isThere && static_cast<int64_t>(text.size()) * 2 >= size * place) {
      StrAppend(&text, text.size() > 1 ? "," : "", user);
      isThere = true;
    }
    StrAppend(&text, text.size() > 1 ? "," : "", "\"field", i,
              i % 8 == 0   ? "\":\"some text, \\\"quoted\\\"\""
              : i % 2 == 0 ? "\":\"some other text\""
                           : "\":12.5");
  }
  if (!isThere) StrAppend(&text, text.size() > 1 ? "," : "", user);
  return text + "}";
}

ByteBuffer Padded(const std::string& text) {
  ByteBuffer padded(text.begin(), text.end());
  padded.resize(text.size() + kPadding, ' ');
  return padded;
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t size : {100, 300, 1024, 4096}) {
    for (const int64_t place : {0, 1, 2}) benchmark->Args({size, place});
  }
}

void BM_Find(benchmark::State& state) {
  const std::string text = Document(state.range(0), state.range(1));
  const ByteBuffer padded = Padded(text);
  const JsonPointer pointers[] = {*JsonPointer::Parse("/userid")};
  JsonFinder finder;
  for (auto _ : state) {
    std::string_view found;
    if (finder.Find(Bytes(padded).first(text.size()), pointers, found) != JsonResult::kString) {
      state.SkipWithError("not found");
    }
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(BM_Find)->Apply(Sizes);

// What is read strictly, as the name stands in it twice.
void BM_FindStrictly(benchmark::State& state) {
  std::string text = Document(state.range(0), state.range(1));
  text.insert(1, R"("text":"userid",)");
  const ByteBuffer padded = Padded(text);
  const JsonPointer pointers[] = {*JsonPointer::Parse("/userid")};
  JsonFinder finder;
  for (auto _ : state) {
    std::string_view found;
    if (finder.Find(Bytes(padded).first(text.size()), pointers, found) != JsonResult::kString) {
      state.SkipWithError("not found");
    }
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(BM_FindStrictly)->Apply(Sizes);

void BM_OnDemand(benchmark::State& state) {
  const std::string text = Document(state.range(0), state.range(1));
  const ByteBuffer padded = Padded(text);
  simdjson::ondemand::parser parser;
  const std::string pointer = "/userid";
  for (auto _ : state) {
    const simdjson::padded_string_view view(reinterpret_cast<const char*>(padded.data()), text.size(), padded.size());
    simdjson::ondemand::document document;
    simdjson::ondemand::value value;
    simdjson::ondemand::json_type type;
    std::string_view found;
    if (parser.iterate(view).get(document) != simdjson::SUCCESS ||
        document.at_pointer(pointer).get(value) != simdjson::SUCCESS || value.type().get(type) != simdjson::SUCCESS ||
        type != simdjson::ondemand::json_type::string || value.get_string().get(found) != simdjson::SUCCESS) {
      state.SkipWithError("not found");
    }
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(BM_OnDemand)->Apply(Sizes);

}  // namespace
}  // namespace kveil::formats

BENCHMARK_MAIN();
