// Finds the bytes of interest in a text, many at once: one bit per byte, the lowest first.
//
// All functions read whole vectors: up to 64 readable bytes must follow the text.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace kveil::formats {

inline constexpr size_t kNameBlock = 32;
inline constexpr size_t kStructureBlock = 64;

// Of 32 bytes, what a search for a name looks at.
struct NameMasks {
  uint32_t pairs = 0;  // where two letters begin that follow each other, in any case
  uint32_t odd = 0;    // backslashes, and bytes beyond ASCII
};

// Of 64 bytes, what tells where in the text a byte is.
struct StructureMasks {
  uint64_t quotes = 0;
  uint64_t brackets = 0;  // [ ] { }
};

#ifdef __SSE2__

inline __m128i Repeated(uint8_t byte) { return _mm_set1_epi8(static_cast<char>(byte)); }
inline uint64_t BitsAt(int place, __m128i vector) {
  return static_cast<uint64_t>(static_cast<uint32_t>(_mm_movemask_epi8(vector))) << place;
}
inline __m128i LoadBytes(const uint8_t* text) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(text)); }

// `first` and `second` have the bit 0x20 set, which is ignored: "[" counts as "{" does. Most blocks have nothing of it.
[[gnu::always_inline]] inline NameMasks NameMasksOf(const uint8_t* text, uint8_t first, uint8_t second) {
  __m128i pairs[2];
  __m128i odd[2];
  // Not a loop: gcc would keep the arrays in memory.
  const auto look = [&](int i) __attribute__((always_inline)) {
    const __m128i bytes = LoadBytes(text + 16 * i);
    const __m128i lower = _mm_or_si128(bytes, Repeated(0x20));
    const __m128i next = _mm_or_si128(LoadBytes(text + 16 * i + 1), Repeated(0x20));
    pairs[i] = _mm_and_si128(_mm_cmpeq_epi8(lower, Repeated(first)), _mm_cmpeq_epi8(next, Repeated(second)));
    odd[i] = _mm_or_si128(_mm_cmpeq_epi8(bytes, Repeated('\\')), bytes);  // its highest bit is what counts
  };
  look(0), look(1);
  const __m128i any = _mm_or_si128(_mm_or_si128(pairs[0], odd[0]), _mm_or_si128(pairs[1], odd[1]));
  if (_mm_movemask_epi8(any) == 0) return {};
  const auto bits = [](const __m128i* two) __attribute__((always_inline)) {
    return static_cast<uint32_t>(BitsAt(0, two[0]) | BitsAt(16, two[1]));
  };
  return {bits(pairs), bits(odd)};
}

inline StructureMasks StructureMasksOf(const uint8_t* text) {
  StructureMasks masks;
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes = LoadBytes(text + 16 * i);
    // With the bit 0x20, "[" is "{", and "]" is "}".
    const __m128i lower = _mm_or_si128(bytes, Repeated(0x20));
    masks.quotes |= BitsAt(16 * i, _mm_cmpeq_epi8(bytes, Repeated('"')));
    masks.brackets |=
        BitsAt(16 * i, _mm_or_si128(_mm_cmpeq_epi8(lower, Repeated('{')), _mm_cmpeq_epi8(lower, Repeated('}'))));
  }
  return masks;
}

// Of 64 bytes, those that equal `byte`.
inline uint64_t MaskOf(const uint8_t* text, uint8_t byte) {
  uint64_t mask = 0;
  for (int i = 0; i < 4; ++i) mask |= BitsAt(16 * i, _mm_cmpeq_epi8(LoadBytes(text + 16 * i), Repeated(byte)));
  return mask;
}

// Of 16 bytes inside a JSON string, the quotes, backslashes and control characters.
inline uint32_t StringSpecials(const uint8_t* text) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
  const __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
  const __m128i backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
  return static_cast<uint32_t>(_mm_movemask_epi8(_mm_or_si128(control, _mm_or_si128(quote, backslash))));
}

#else

inline uint64_t BitAt(int place, bool is) { return static_cast<uint64_t>(is) << place; }

inline NameMasks NameMasksOf(const uint8_t* text, uint8_t first, uint8_t second) {
  NameMasks masks;
  for (int place = 0; place < 32; ++place) {
    const uint8_t byte = text[place];
    const bool isPair = (byte | 0x20) == first && (text[place + 1] | 0x20) == second;
    masks.pairs |= static_cast<uint32_t>(isPair) << place;
    masks.odd |= static_cast<uint32_t>(byte == '\\' || byte >= 0x80) << place;
  }
  return masks;
}

inline StructureMasks StructureMasksOf(const uint8_t* text) {
  StructureMasks masks;
  for (int place = 0; place < 64; ++place) {
    const uint8_t lower = text[place] | 0x20;
    masks.quotes |= BitAt(place, text[place] == '"');
    masks.brackets |= BitAt(place, lower == '{' || lower == '}');
  }
  return masks;
}

inline uint64_t MaskOf(const uint8_t* text, uint8_t byte) {
  uint64_t mask = 0;
  for (int place = 0; place < 64; ++place) mask |= BitAt(place, text[place] == byte);
  return mask;
}

inline uint32_t StringSpecials(const uint8_t* text) {
  uint32_t mask = 0;
  for (int place = 0; place < 16; ++place) {
    const bool special = text[place] < 0x20 || text[place] == '"' || text[place] == '\\';
    mask |= static_cast<uint32_t>(special) << place;
  }
  return mask;
}

#endif

// Bit i is the parity of the bits 0 to i.
inline uint64_t PrefixXor(uint64_t bits) {
  for (int shift = 1; shift < 64; shift *= 2) bits ^= bits << shift;
  return bits;
}

}  // namespace kveil::formats
